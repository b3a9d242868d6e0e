//! The file that holds keys: mounted by itself, written as JSON, and what is kept beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::etcd::Etcd;
use crate::common::process::Process;
use crate::common::proxy::BINARY;
use crate::common::rotation::{Shared, write_private};
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;

/// Whether this process may mount, in a namespace of its own.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("skipped: mounts need root, or CAP_SYS_ADMIN");
    }
    may
}

/// A file, and a place where it is mounted by itself.
struct Mount {
    folder: TempDir,
}

impl Mount {
    fn new(text: &str) -> Self {
        let folder = TempDir::with_prefix("mount-").expect("a folder");
        fs::create_dir(folder.path().join("inside")).expect("a folder");
        write_private(&folder.path().join("e.yaml"), text);
        write_private(&folder.path().join("inside/e.yaml"), "");
        Self { folder }
    }

    fn inside(&self) -> PathBuf {
        self.folder.path().join("inside/e.yaml")
    }

    /// The command `words` where it is mounted.
    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
        command.args(["-m", "sh", "-c", script]);
        command.arg(self.folder.path().join("e.yaml")).arg(self.inside());
        command.arg(BINARY).args(words);
        command
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_that_is_mounted_by_itself_is_found_out_before_anything_is_written() {
    if !may_mount() {
        return;
    }
    let etcd = Etcd::start(Version::share()).await;
    let mount = Mount::new(&document(&[K1, IDENTITY]));
    for verb in ["rotate-keys", "prepare", "disable"] {
        let words = [
            "secrets-encrypt".to_owned(),
            verb.to_owned(),
            format!("--etcd-servers={}", etcd.endpoint()),
            format!("--encryption-provider-config={}", mount.inside().display()),
            "--allow-empty-store".to_owned(),
        ];
        let output = mount.command(&words).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(8), "{verb}: {stderr}");
        assert!(
            stderr.contains("is a mount by itself") && stderr.contains("Mount the folder"),
            "{verb}: {stderr}"
        );
    }
    assert_eq!(etcd.client().await.everything().await, [], "nothing is noted");
    assert_eq!(names(&mount.folder.path().join("inside")), ["e.yaml"]);
    assert_eq!(names(mount.folder.path()), ["e.yaml", "inside"]);
}

#[tokio::test]
async fn who_follows_a_file_that_is_mounted_by_itself_says_that_edits_are_not_seen() {
    if !may_mount() {
        return;
    }
    let etcd = Etcd::start(Version::share()).await;
    let mount = Mount::new(&document(&[K1, IDENTITY]));
    let started = |path: &Path, log: &str| {
        let words = [
            "serve".to_owned(),
            format!("--etcd-servers={}", etcd.endpoint()),
            format!("--encryption-provider-config={}", path.display()),
            "--listen-client-urls=http://127.0.0.1:0".to_owned(),
            "--member-record=false".to_owned(),
            "--sweep=off".to_owned(),
        ];
        let mut process = Process::spawn("the proxy", mount.command(&words), &mount.folder.path().join(log));
        process.wait_for("clients to be served", |output| {
            output.contains("serving client traffic").then_some(())
        });
        process.output()
    };
    let said = started(&mount.inside(), "log-inside");
    let warning = "edits by rename will not be seen";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    // The folder is mounted with all that is in it: nothing to warn of.
    let said = started(&mount.folder.path().join("e.yaml"), "log-outside");
    assert!(!said.contains(warning), "{said}");
}

/// As k3s writes it.
fn k3s_json(secret: &str) -> String {
    format!(
        "{{\"kind\":\"EncryptionConfiguration\",\"apiVersion\":\"apiserver.config.k8s.io/v1\",\"resources\":[{{\"resources\":\
         [\"secrets\"],\"providers\":[{{\"aescbc\":{{\"keys\":[{{\"name\":\"aescbckey\",\"secret\":\"{secret}\"}}]}}}},\
         {{\"identity\":{{}}}}]}}]}}"
    )
}

/// The names of the keys in a document of k3s's shape, which is all that k3s accepts: this fails as k3s would.
fn keys_of(text: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: not JSON"));
    assert_eq!(document["kind"], "EncryptionConfiguration");
    assert_eq!(document["apiVersion"], "apiserver.config.k8s.io/v1");
    let fields = document.as_object().expect("an object").len();
    assert_eq!(fields, 3, "kube-apiserver refuses fields that it does not know");
    let providers = document["resources"][0]["providers"].as_array().expect("providers");
    let keys = providers
        .iter()
        .flat_map(|provider| provider["aescbc"]["keys"].as_array().into_iter().flatten());
    keys.map(|key| key["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn json_stays_json_and_of_what_is_kept_only_files_with_keys_of_their_own_stay() {
    let etcd = Etcd::start(Version::share()).await;
    let shared = Shared::new(&etcd, &k3s_json("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="));
    let member = shared.member("a");
    let client = member.client().await;
    client.put("/registry/secrets/default/a", "value").await;
    let folder = shared.path().parent().expect("a folder").to_owned();
    let kept = || {
        let names = names(&folder).into_iter();
        names
            .filter(|name| name.starts_with("shared.yaml."))
            .collect::<Vec<_>>()
    };
    let mut removed = vec!["aescbckey".to_owned()];
    for rotation in 1..=3 {
        shared.succeed(&["prepare"], "prepare completed successfully").await;
        let names = keys_of(&shared.text());
        assert_eq!(names.len(), 2);
        shared.succeed(&["rotate"], "rotate completed successfully").await;
        shared
            .succeed(&["reencrypt", "--compact"], "reencryption started")
            .await;
        let names = keys_of(&shared.text());
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(client.value("/registry/secrets/default/a").await, b"value");
        // One for each key that is gone, and no more: three changes each would be nine by now. Fewer where several were made within
        // one second, and one of them has the keys of two.
        assert!((1..=rotation).contains(&kept().len()), "{:?}", kept());
        let text = |name: &String| fs::read_to_string(folder.join(name)).expect("a file");
        for gone in &removed {
            assert!(
                kept().iter().any(|name| keys_of(&text(name)).contains(gone)),
                "{gone} is nowhere"
            );
        }
        for name in kept() {
            let mode = fs::metadata(folder.join(&name)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
        removed.extend(names);
    }
    // What is taken back leaves nothing behind that is not somewhere else; the key that never wrote is kept until somebody looks.
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    let prepared = keys_of(&shared.text());
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    let left = keys_of(&shared.text());
    let is_kept = |key: &String| {
        kept()
            .iter()
            .any(|name| keys_of(&fs::read_to_string(folder.join(name)).expect("a file")).contains(key))
    };
    assert!(
        prepared.iter().all(|key| left.contains(key) || is_kept(key)),
        "{prepared:?}"
    );
    assert!((1..=4).contains(&kept().len()), "{:?}", kept());
}
