//! What is printed when something is wrong: the cause once, the flag by its name, and what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::etcd::{Etcd, Setup as EtcdSetup, free_ports};
use crate::common::pki::Pki;
use crate::common::proxy::BINARY;
use crate::common::rotation::{ROOT, write_private};
use crate::common::snapshot::inspect;
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;

/// So many words in a row are not said twice in one line by chance.
const ROW: usize = 4;

/// Words in a row that a line has twice.
fn repeated(line: &str) -> Option<String> {
    let words: Vec<_> = line
        .split_whitespace()
        .map(|word| word.trim_matches([':', ',', '.', ';']))
        .collect();
    let rows: Vec<_> = words.windows(ROW).map(|row| row.join(" ")).collect();
    let twice = |(at, row): (usize, &String)| rows.iter().skip(at + 1).any(|other| other == row);
    rows.iter()
        .enumerate()
        .find(|row| twice(*row))
        .map(|(_, row)| row.clone())
}

/// Runs a command that has to fail, and fails the test where it says something twice or none of `says`.
async fn fails(words: &[String], says: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(words);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words:?}: {stderr}");
    for says in says {
        assert!(stderr.contains(says), "{words:?} should say {says:?}: {stderr}");
    }
    let last = stderr.lines().rfind(|line| line.starts_with("etcd-encryption-proxy: "));
    for line in stderr.lines() {
        assert_eq!(repeated(line), None, "{words:?}: {stderr}");
    }
    last.unwrap_or_default().to_owned()
}

fn words(line: &str, more: &[String]) -> Vec<String> {
    line.split(' ').map(str::to_owned).chain(more.iter().cloned()).collect()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        write_private(&path, text);
        path
    }
}

fn config(path: &Path) -> String {
    format!("--encryption-provider-config={}", path.display())
}

#[test]
fn the_check_sees_what_is_said_twice() {
    assert!(repeated("the file cannot be read: the file cannot be read: no such file").is_some());
    assert_eq!(repeated("the file cannot be read: no such file"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cause_is_told_twice() {
    let etcd = Etcd::start(Version::V3_5).await;
    etcd.client().await.put("/registry/secrets/default/a", "plain").await;
    let folder = Folder::new();
    let servers = format!("--etcd-servers={}", etcd.endpoint());
    let [closed] = free_ports();
    let down = format!("--etcd-servers=http://127.0.0.1:{closed}");
    let good = config(&folder.file("good.yaml", &document(&[K1, IDENTITY])));
    let missing = config(&folder.path("missing.yaml"));
    let invalid = config(&folder.file(
        "invalid.yaml",
        "kind: EncryptionConfiguration\nresources: [{resources: [secrets]}]\n",
    ));
    let directory = config(folder.0.path());
    let plugin = folder.file(
        "kms.yaml",
        &document(&[
            "{kms: {apiVersion: v2, name: p, endpoint: 'unix:///nowhere/x.sock'}}",
            IDENTITY,
        ]),
    );
    let root = format!("--keyring-root-file={}", folder.file("root", ROOT).display());
    let no_root = format!("--keyring-root-file={}", folder.path("no-root").display());
    let short_root = format!("--keyring-root-file={}", folder.file("short", "YWJj\n").display());
    for config in [&missing, &invalid, &directory] {
        for verb in [
            "sweep",
            "secrets-encrypt rotate-keys",
            "secrets-encrypt status --count",
            "serve",
        ] {
            // A rotation's status without a file is no failure, as with k3s.
            if verb.contains("status") && *config == missing {
                continue;
            }
            fails(&words(verb, &[servers.clone(), config.clone()]), &[]).await;
        }
    }
    for verb in ["sweep --max-wait=1s", "secrets-encrypt rotate-keys --timeout=1s"] {
        fails(&words(verb, &[down.clone(), good.clone()]), &["Connection refused"]).await;
    }
    for root in [&root, &no_root, &short_root] {
        for verb in [
            "sweep",
            "secrets-encrypt status",
            "secrets-encrypt rotate-keys",
            "keyring backup /nowhere/x",
        ] {
            fails(&words(verb, &[servers.clone(), root.clone()]), &[]).await;
        }
    }
    for (flag, says) in [
        ("--audit-log-path=/nowhere/log", "--audit-log-path"),
        ("--listen-client-urls=unix:///nowhere/x", "/nowhere/x"),
        ("--cert-file=/nowhere/cert", "--key-file"),
    ] {
        fails(
            &words("serve", &[servers.clone(), good.clone(), flag.to_owned()]),
            &[says],
        )
        .await;
    }
    let cluster = servers.replace("http://", "https://");
    fails(
        &words("sweep --max-wait=1s", &[cluster, good.clone()]),
        &["--etcd-cafile"],
    )
    .await;
    fails(&words("sweep --max-wait=1s", &[servers.clone(), config(&plugin)]), &[]).await;
    // What lies in etcd and cannot be read.
    let client = etcd.client().await;
    for key in ["rotation", "sweep/checkpoint", "members/0123456789abcdef", "epoch"] {
        let key = format!("/etcd-encryption-proxy/{key}");
        client.put(key.clone(), "{\"schema\":9}").await;
        for verb in ["sweep --max-wait=1s", "secrets-encrypt rotate-keys --timeout=1s"] {
            let outcome = words(verb, &[servers.clone(), good.clone()]);
            if key.ends_with("epoch") {
                continue;
            }
            if key.ends_with("rotation") && verb.starts_with("sweep") {
                continue;
            }
            fails(&outcome, &[]).await;
        }
        client.delete(key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_asks_for_a_certificate_is_told_from_one_that_does_not_speak_tls() {
    for version in Version::all() {
        let etcd = EtcdSetup::new(version).with_tls().start().await;
        let folder = Folder::new();
        let good = config(&folder.file("good.yaml", &document(&[K1, IDENTITY])));
        let with = |more: &[String]| {
            let mut all = vec![format!("--etcd-servers={}", etcd.endpoint()), good.clone()];
            all.push(format!("--etcd-cafile={}", etcd.pki().ca.display()));
            all.extend(more.iter().cloned());
            words("sweep --max-wait=1s", &all)
        };
        let said = fails(&with(&[]), &["--etcd-certfile"]).await;
        assert!(!said.contains("is http or https right"), "{said}");
        // Of another authority.
        let elsewhere = Folder::new();
        let other = Pki::generate(elsewhere.0.path(), &["localhost"]);
        let pair = [
            format!("--etcd-certfile={}", other.client_cert.display()),
            format!("--etcd-keyfile={}", other.client_key.display()),
        ];
        let said = fails(&with(&pair), &["--etcd-certfile"]).await;
        assert!(!said.contains("is http or https right"), "{said}");
    }
}

/// The way on is named for what operators have beside their snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_snapshot_is_named() {
    let etcd = EtcdSetup::new(Version::V3_5).flag("--snapshot-count=5").start().await;
    let client = etcd.client().await;
    for index in 0..200 {
        client.put(format!("/registry/secrets/default/{index}"), "plain").await;
    }
    let folder = TempDir::new().unwrap();
    let newest = |sub: &str, ext: &str| {
        let inside = etcd.folder().join("data/member").join(sub);
        let files = fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|found| found == ext))
            .collect();
        files.sort();
        files
    };
    for wal in newest("wal", "wal") {
        fs::copy(wal, folder.path().join("a.wal")).unwrap();
        expect(folder.path(), "a.wal", "write-ahead log of etcd", "member/snap/db");
    }
    let snapshots = newest("snap", "snap");
    assert!(!snapshots.is_empty(), "etcd has written none");
    for snap in snapshots {
        fs::copy(snap, folder.path().join("a.snap")).unwrap();
        expect(folder.path(), "a.snap", "raft state", "called db beside it");
    }
    fs::write(folder.path().join("text"), "a text of some length").unwrap();
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).current_dir(folder.path()).status();
        assert!(status.expect("it runs").success(), "{program}");
    };
    run("tar", &["-cf", "a.tar", "text"]);
    run("gzip", &["-k", "text"]);
    expect(folder.path(), "a.tar", "a tar archive", "unpack it");
    expect(folder.path(), "text.gz", "compressed by gzip", "unpack it");
    let mut sqlite = b"SQLite format 3\0".to_vec();
    sqlite.resize(4096, 0);
    fs::write(folder.path().join("state.db"), sqlite).unwrap();
    expect(
        folder.path(),
        "state.db",
        "SQLite database",
        "sweep --dry-run --etcd-servers",
    );
}

fn expect(folder: &Path, name: &str, what: &str, way_on: &str) {
    let outcome = inspect(&folder.join(name), &[document(&[K1, IDENTITY])], &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    for says in [name, what, way_on] {
        assert!(outcome.stderr.contains(says), "{says:?}: {outcome:#?}");
    }
}
