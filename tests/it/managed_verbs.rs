//! The verbs of managed mode, run as an operator would before a real etcd and real proxies: a file becomes the keyring, the
//! keyring a file; another root; backups; the archive, and what a snapshot needs of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use etcd_encryption_proxy::app::host;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::process::{PATIENCE, Process};
use crate::common::proxy::{BINARY, Proxy, Setup};
use crate::common::snapshot::save;
use crate::common::sweep::{IDENTITY, K1, K2, document, key};
use crate::common::tools::Version;

const ROOT: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\n";
const OTHER_ROOT: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=\n";

const KEYS: usize = 20;

/// An etcd, and a folder with the files of its members.
struct Cluster {
    etcd: Etcd,
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Fails the test unless it ended like this. What it printed, on either.
    fn ends(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        if code == 0 { self.stdout } else { self.stderr }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Cluster {
    async fn start() -> Self {
        Self {
            etcd: Etcd::start(Version::share()).await,
            folder: TempDir::with_prefix("verbs-").expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file for its owner alone.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, text).expect("a file");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its permissions");
        fs::rename(&new, &path).expect("it is replaced");
        path
    }

    /// A member of managed mode, with the roots in the file `root`.
    fn member(&self, name: &str, root: &Path) -> Proxy {
        Setup::managed(self.etcd.endpoint(), root).member(name).start()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .arg(format!("--etcd-servers={}", self.etcd.endpoint()))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb with the roots in the file `root` of the folder.
    async fn run(&self, words: &[&str]) -> Outcome {
        let mut command = self.command(words);
        command.arg("--keyring-root-file=root");
        let task = tokio::task::spawn_blocking(move || {
            let output = command.output().expect("it starts");
            Outcome {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        });
        task.await.expect("its thread")
    }

    async fn status(&self) -> Value {
        self.run(&["secrets-encrypt", "status", "-ojson"]).await.json()
    }
}

async fn fill(client: &Client) {
    for index in 0..KEYS {
        client.put(key(index), value(index)).await;
    }
}

async fn expect_readable(client: &Client) {
    for index in 0..KEYS {
        assert_eq!(client.value(&key(index)).await, value(index).into_bytes());
    }
}

fn value(index: usize) -> String {
    format!("k8s secret {index}")
}

/// What differs from run to run is named instead.
fn steady(text: &str, cluster: &Cluster) -> String {
    let mut steady = String::new();
    let words = text.split_inclusive([' ', '\n', ',', ')', '(', ';']);
    let host = host();
    for word in words {
        let bare = word.trim_end_matches([' ', '\n', ',', ')', '(', ';']);
        let shown = if bare.starts_with("sha256:") {
            "sha256:…"
        } else if humantime::parse_rfc3339(bare).is_ok() {
            "TIME"
        } else if bare == host {
            "HOST"
        } else {
            bare
        };
        steady.push_str(shown);
        steady.push_str(&word[bare.len()..]);
    }
    steady.replace(&cluster.folder.path().display().to_string(), "FOLDER")
}

/// A cluster with a file moves to managed mode, and back again.
#[tokio::test]
async fn a_file_becomes_the_keyring_and_the_keyring_a_file() {
    let cluster = Cluster::start().await;
    cluster.write("root", ROOT);
    let own = document(&[K1, IDENTITY]);
    let file = cluster.write("own.yaml", &own);
    cluster.write("other.yaml", &document(&[K2, IDENTITY]));
    let before = Setup::sharing(cluster.etcd.endpoint(), &file).member("before").start();
    fill(&before.client().await).await;

    let refused = cluster.run(&["keyring", "import", "other.yaml"]).await.ends(7);
    assert!(refused.contains("20 stored values do not open"), "{refused}");
    assert!(
        cluster
            .run(&["keyring", "backup", "none"])
            .await
            .ends(1)
            .contains("no keyring")
    );
    assert!(!cluster.path("none").exists());
    let done = cluster.run(&["keyring", "import", "own.yaml"]).await.ends(0);
    insta::assert_snapshot!("import", steady(&done, &cluster));
    let again = cluster.run(&["keyring", "import", "own.yaml"]).await.ends(0);
    assert!(again.contains("it was there already"), "{again}");
    let other = cluster.run(&["keyring", "import", "other.yaml"]).await.ends(8);
    assert!(other.contains("has a keyring already, of generation 1"), "{other}");

    // Members with the file and members with the keyring agree.
    let after = cluster.member("after", &cluster.path("root"));
    expect_readable(&after.client().await).await;
    let status = cluster.status().await;
    assert_eq!(
        (&status["hashmatch"], &status["activekey"]),
        (&true.into(), &"AES-CBC k1".into())
    );

    let unasked = cluster.run(&["secrets-encrypt", "export", "back.yaml"]).await.ends(2);
    assert!(unasked.contains("--yes"), "{unasked}");
    assert!(!cluster.path("back.yaml").exists());
    let export = [
        "secrets-encrypt",
        "export",
        "back.yaml",
        "--yes",
        "--audit-log-path=audit.log",
    ];
    let done = cluster.run(&export).await.ends(0);
    insta::assert_snapshot!("export", steady(&done, &cluster));
    let back = cluster.path("back.yaml");
    assert_eq!(fs::read_to_string(&back).expect("the export"), own);
    let mode = fs::metadata(&back).expect("the export").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let twice = cluster.run(&export).await.ends(1);
    assert!(twice.contains("is there already, and is not written over"), "{twice}");
    let line = fs::read_to_string(cluster.path("audit.log")).expect("the audit log");
    let line: Value = serde_json::from_str(line.trim()).expect("one line");
    assert_eq!(
        (&line["event"], &line["file"], &line["generation"], &line["host"]),
        (
            &"keyring_exported".into(),
            &"back.yaml".into(),
            &1.into(),
            &host().into()
        )
    );
    assert!(line["user"].as_str().is_some_and(|user| !user.is_empty()), "{line}");
    let status = cluster.status().await;
    let exports = status["keyring"]["exports"].as_array().expect("exports");
    assert_eq!((exports.len(), &exports[0]["by"]), (1, &host().into()));

    drop((before, after));
    let out = Setup::sharing(cluster.etcd.endpoint(), &back).member("out").start();
    expect_readable(&out.client().await).await;
}

/// Waits until a member's record says what is needed.
async fn until_rotated(cluster: &Cluster, words: &[&str]) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = cluster.run(words).await;
        if outcome.code != Some(4) || Instant::now() > until {
            return outcome.ends(0);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn another_root_once_every_member_has_it() {
    let cluster = Cluster::start().await;
    cluster.write("root", ROOT);
    let (a, b) = (cluster.write("a", ROOT), cluster.write("b", ROOT));
    let (first, second) = (cluster.member("a", &a), cluster.member("b", &b));
    fill(&first.client().await).await;
    cluster.run(&["keyring", "backup", "old.json"]).await.ends(0);
    let old = cluster.status().await["keyring"]["root"].clone();

    let both = format!("{ROOT}{OTHER_ROOT}");
    cluster.write("root", &both);
    cluster.write("a", &both);
    let refused = cluster.run(&["secrets-encrypt", "rotate-root"]).await.ends(4);
    assert!(refused.contains("b (http"), "{refused}");
    assert_eq!(cluster.status().await["keyring"]["root"], old);
    let unknown = ["secrets-encrypt", "rotate-root", "--to-root=0000000000000000"];
    let unknown = cluster.run(&unknown).await.ends(1);
    assert!(unknown.contains("there is no root 0000000000000000"), "{unknown}");

    cluster.write("b", &both);
    let plan = until_rotated(&cluster, &["secrets-encrypt", "rotate-root", "--dry-run"]).await;
    assert!(plan.starts_with("`rotate-root` would seal"), "{plan}");
    assert_eq!(cluster.status().await["keyring"]["root"], old);
    let done = until_rotated(&cluster, &["secrets-encrypt", "rotate-root"]).await;
    insta::assert_snapshot!("rotate_root", steady(&done, &cluster));
    let status = cluster.status().await;
    assert_eq!(status["keyring"]["generation"], 2);
    assert_ne!(status["keyring"]["root"], old);
    let twice = cluster.run(&["secrets-encrypt", "rotate-root"]).await.ends(0);
    assert!(twice.starts_with("everything is under the root"), "{twice}");

    // The old root can go, and who starts with the new one alone reads everything.
    for name in ["root", "a", "b"] {
        cluster.write(name, OTHER_ROOT);
    }
    let third = cluster.member("c", &cluster.path("root"));
    for member in [&first, &second, &third] {
        expect_readable(&member.client().await).await;
    }
    // But for backups from before.
    let refused = cluster
        .run(&["keyring", "restore", "old.json", "--force"])
        .await
        .ends(1);
    assert!(refused.contains("it is sealed under the root"), "{refused}");
    cluster.write("root", &both);
    let stands = cluster.run(&["keyring", "restore", "old.json"]).await.ends(0);
    assert!(stands.starts_with("keyring restored: generation 2"), "{stands}");
}

#[tokio::test]
async fn a_snapshot_is_opened_by_the_archive_until_that_is_purged() {
    let cluster = Cluster::start().await;
    let root = cluster.write("root", ROOT);
    let member = cluster.member("a", &root);
    fill(&member.client().await).await;
    save(
        Version::share(),
        &cluster.etcd.endpoint(),
        cluster.folder.path(),
        "before.db",
    );
    for _ in 0..2 {
        let words = ["secrets-encrypt", "rotate-keys", "--compact"];
        let done = cluster.run(&words).await.ends(0);
        assert!(done.starts_with("keys rotated, reencryption finished\n"), "{done}");
    }
    expect_readable(&member.client().await).await;

    // Of the archive in etcd alone.
    let archive = ["snapshot", "inspect", "before.db", "-ojson", "--snapshot-keyring=false"];
    let found = cluster.run(&archive).await;
    assert_eq!(found.code, Some(0), "{found:#?}");
    let report = found.json();
    let current = |generation: u64| format!("the keyring in etcd, generation {generation}");
    let generation = cluster.status().await["keyring"]["generation"]
        .as_u64()
        .expect("a number");
    assert_eq!(names(&report)[0], current(generation));
    assert_eq!(names(&report).len(), 3, "{report:#}");
    let rows = report["inventory"].as_array().expect("an inventory");
    assert_eq!(
        (rows.len(), &rows[0]["state"], &rows[0]["key"], &rows[0]["objects"]),
        (1, &"opens".into(), &"aescbckey".into(), &KEYS.into())
    );
    let opened_by = rows[0]["configuration"].as_str().expect("a name");
    assert!(
        opened_by.starts_with("the keyring in etcd, archived generation "),
        "{report:#}"
    );
    let listed = cluster
        .run(&["secrets-encrypt", "purge", "--all", "--dry-run"])
        .await
        .ends(0);
    insta::assert_snapshot!("purge_dry_run", sorted(&steady(&listed, &cluster)));
    let documents: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(',').next())
        .skip(1)
        .collect();
    assert_eq!(documents.len(), 2, "{listed}");
    cluster.run(&["keyring", "backup", "backup.json"]).await.ends(0);

    let unasked = cluster.run(&["secrets-encrypt", "purge", "--all"]).await.ends(2);
    assert!(unasked.contains("--yes"), "{unasked}");
    let strange = format!("sha256:{}", "0".repeat(64));
    let missing = ["secrets-encrypt", "purge", "--yes", documents[0], &strange];
    let missing = cluster.run(&missing).await.ends(1);
    assert!(missing.contains("the archive has no sha256:0000"), "{missing}");
    let one = ["secrets-encrypt", "purge", "--yes", documents[0]];
    assert!(cluster.run(&one).await.ends(0).starts_with("1 document removed"));
    let purge = [
        "secrets-encrypt",
        "purge",
        "--all",
        "--yes",
        "--audit-log-path=audit.log",
    ];
    assert!(cluster.run(&purge).await.ends(0).starts_with("1 document removed"));
    let line = fs::read_to_string(cluster.path("audit.log")).expect("the audit log");
    let line: Value = serde_json::from_str(line.trim()).expect("one line");
    assert_eq!(
        (&line["event"], &line["fingerprints"]),
        (&"archive_purged".into(), &serde_json::json!([documents[1]]))
    );

    let lost = cluster.run(&archive).await;
    assert_eq!(lost.code, Some(4), "{lost:#?}");
    let needs = lost.json()["needs"].clone();
    assert_eq!(
        (&needs[0]["state"], &needs[0]["key"], &needs[0]["objects"]),
        (&"missing".into(), &"aescbckey".into(), &KEYS.into()),
        "{lost:#?}"
    );
    // What lies in the snapshot itself opens it still, without any etcd.
    let mut alone = Command::new(BINARY);
    alone
        .args(["snapshot", "inspect", "before.db", "-ojson", "--keyring-root-file=root"])
        .current_dir(cluster.folder.path());
    let alone = alone.output().expect("it starts");
    assert_eq!(alone.status.code(), Some(0), "{alone:?}");
    let report: Value = serde_json::from_slice(&alone.stdout).expect("a report");
    assert_eq!(names(&report), ["the keyring in the snapshot, generation 1"]);

    // And the backup brings the archive back.
    let restored = cluster.run(&["keyring", "restore", "backup.json"]).await.ends(0);
    assert!(restored.contains("2 archived documents written"), "{restored}");
    cluster.run(&archive).await.ends(0);
}

#[tokio::test]
async fn status_tells_of_the_keyring_once_and_while_it_is_watched() {
    let cluster = Cluster::start().await;
    let root = cluster.write("root", &format!("{ROOT}{OTHER_ROOT}"));
    let member = cluster.member("a", &root);
    fill(&member.client().await).await;
    cluster
        .run(&["secrets-encrypt", "export", "keys.yaml", "--yes"])
        .await
        .ends(0);
    let text = cluster.run(&["secrets-encrypt", "status"]).await.ends(0);
    let keyring: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("Keyring:"))
        .take(5)
        .collect();
    insta::assert_snapshot!("status", steady(&keyring.join("\n"), &cluster));
    let ages: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("Age"))
        .take(3)
        .collect();
    assert!(
        ages.last().is_some_and(|line| line.ends_with("AES-CBC aescbckey")),
        "{text}"
    );

    let mut command = cluster.command(&["secrets-encrypt", "status", "--watch"]);
    command.arg(format!("--keyring-root-file={}", root.display()));
    let mut watching = Process::spawn("status", command, &cluster.path("log"));
    watching.wait_for("the status", |output| {
        output.contains("Current Rotation Stage: start").then_some(())
    });
    cluster.run(&["secrets-encrypt", "prepare"]).await.ends(0);
    watching.wait_for("the next one", |output| {
        output.contains("Current Rotation Stage: prepare").then_some(())
    });
    watching.signal("INT");
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
}

/// What a report calls the configurations that it was made with.
fn names(report: &Value) -> Vec<String> {
    let sources = report["configurations"].as_array().expect("configurations");
    sources
        .iter()
        .map(|source| source["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Fingerprints have no order that is the same each time.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines[1..].sort_unstable();
    lines.join("\n")
}
