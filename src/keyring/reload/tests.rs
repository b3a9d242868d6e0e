//! What each change of the file leads to, with the real file and a step of loading that can be held up or made to fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::files::Permissions;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;

const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

fn document(name: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - aescbc: {{keys: [{{name: {name}, secret: {KEY}}}]}}\n"
    )
}

fn compile(bytes: &[u8]) -> Result<Keyring, LoadError> {
    let config = config::parse(bytes, config::Options { reload: true })?;
    let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
    Ok(Keyring::compile(&config, &keyspace, &Plugins::none())?)
}

struct World {
    folder: TempDir,
    reloader: Reloader,
}

impl World {
    /// A keyring from the document `old`, and `load` for those to come.
    fn new(is_strict: bool, load: impl Fn(&[u8]) -> Result<Keyring, LoadError> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let old = document("old");
        fs::write(&path, &old).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let keyring = compile(old.as_bytes()).unwrap();
        let reloader = Reloader::new(ReloadConfig {
            source: Arc::new(FileSource {
                path,
                permissions: Arc::new(Permissions::new(is_strict)),
            }),
            status: Arc::new(ReloadStatus::new(keyring.fingerprint())),
            keyring: Arc::new(KeyringHandle::new(keyring)),
            audit: Audit::default(),
            load: Box::new(move |document| Box::pin(std::future::ready(load(&document.bytes)))),
            instance: "test".to_owned(),
        });
        Self { folder, reloader }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    async fn write_and_look(&mut self, text: &str) -> bool {
        fs::write(self.path(), text).unwrap();
        self.reloader.look().await
    }

    fn in_use(&self) -> Fingerprint {
        let fingerprint = self.reloader.config.keyring.load().fingerprint();
        assert_eq!(self.reloader.config.status.snapshot().loaded, fingerprint);
        fingerprint
    }

    fn failure(&self) -> Option<String> {
        let state = self.reloader.config.status.snapshot();
        state.failure.as_ref().map(|failure| failure.text.clone())
    }
}

fn of(text: &str) -> Fingerprint {
    Fingerprint::of(text.as_bytes())
}

#[tokio::test]
async fn a_valid_document_is_taken_and_the_same_one_is_not_loaded_again() {
    let loads = Arc::new(AtomicUsize::new(0));
    let mut world = World::new(false, {
        let loads = Arc::clone(&loads);
        move |bytes| {
            loads.fetch_add(1, Ordering::Relaxed);
            compile(bytes)
        }
    });
    assert!(world.reloader.look().await);
    assert_eq!(
        (loads.load(Ordering::Relaxed), world.in_use()),
        (0, of(&document("old")))
    );
    for _ in 0..2 {
        assert!(world.write_and_look(&document("new")).await);
        assert_eq!(
            (loads.load(Ordering::Relaxed), world.in_use()),
            (1, of(&document("new")))
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_with_every_place_and_the_keyring_stays() {
    let mut world = World::new(false, compile);
    let broken = document("new").replace(KEY, "c2hvcnQ=").replace("[secrets]", "['*']");
    assert!(!world.write_and_look(&broken).await);
    assert_eq!(world.in_use(), of(&document("old")));
    let failure = world.failure().unwrap();
    let file = world.path().display().to_string();
    for place in [":4:", ":6:"] {
        assert!(failure.contains(&(file.clone() + place)), "{failure}");
    }
    assert!(!failure.contains("c2hvcnQ") && !failure.contains('\n'), "{failure}");
    // A file that is gone, one that is empty, one that is too long.
    fs::remove_file(world.path()).unwrap();
    assert!(!world.reloader.look().await);
    assert!(world.failure().unwrap().contains("cannot be read"));
    // A pipe, to which nobody ever writes.
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, world.path(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(!world.reloader.look().await);
    assert!(world.failure().unwrap().contains("not a regular file"));
    fs::remove_file(world.path()).unwrap();
    assert!(!world.write_and_look("").await);
    assert!(!world.write_and_look(&"#".repeat(config::MAX_DOCUMENT_BYTES + 1)).await);
    assert!(world.failure().unwrap().contains("longer"));
    // The old document again is no reload, and nothing is wrong any more.
    assert!(world.write_and_look(&document("old")).await);
    assert_eq!(world.failure(), None);
}

#[tokio::test]
async fn other_bytes_under_the_name_of_a_key_are_not_taken() {
    const OTHER: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";
    let mut world = World::new(false, compile);
    let old = document("old").replace("aescbc", "secretbox");
    assert!(world.write_and_look(&old).await);
    let replaced = old.replace(KEY, OTHER);
    assert!(!world.write_and_look(&replaced).await);
    assert_eq!(world.in_use(), of(&old));
    let failure = world.failure().unwrap();
    for part in [
        "secrets: secretbox key \"old\" has other bytes under the same name",
        "another name",
        "a second provider of the same type",
    ] {
        assert!(failure.contains(part), "{failure}");
    }
    assert!(
        !failure.contains(&OTHER[..8]) && !failure.contains(&KEY[..8]),
        "{failure}"
    );
    // The way out that it names; and then without the old bytes, when nothing needs them any more.
    let both = format!("{replaced}  - secretbox: {{keys: [{{name: old, secret: {KEY}}}]}}\n");
    assert!(world.write_and_look(&both).await);
    assert!(world.write_and_look(&replaced).await);
    assert_eq!((world.in_use(), world.failure()), (of(&replaced), None));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_loaded_is_loaded_as_it_is_then() {
    let path = Arc::new(std::sync::Mutex::new(PathBuf::new()));
    let mut world = World::new(false, {
        let path = Arc::clone(&path);
        move |bytes| {
            // While the first one is checked, somebody changes their mind.
            if Fingerprint::of(bytes) == of(&document("first")) {
                fs::write(&*path.lock().unwrap(), document("second")).unwrap();
            }
            compile(bytes)
        }
    });
    *path.lock().unwrap() = world.path();
    assert!(world.write_and_look(&document("first")).await);
    assert_eq!(world.in_use(), of(&document("second")));
}

#[tokio::test]
async fn a_file_that_never_rests_is_not_loaded() {
    let path = Arc::new(std::sync::Mutex::new(PathBuf::new()));
    let count = AtomicUsize::new(0);
    let mut world = World::new(false, {
        let path = Arc::clone(&path);
        move |bytes| {
            let next = count.fetch_add(1, Ordering::Relaxed);
            fs::write(&*path.lock().unwrap(), document(&format!("next{next}"))).unwrap();
            compile(bytes)
        }
    });
    *path.lock().unwrap() = world.path();
    assert!(!world.write_and_look(&document("first")).await);
    assert_eq!(world.in_use(), of(&document("old")));
    assert!(world.failure().unwrap().contains("faster"));
}

#[tokio::test]
async fn an_unhealthy_keyring_is_not_taken() {
    let mut world = World::new(false, |_| Err(LoadError::Unhealthy("no answer from plugin".to_owned())));
    assert!(!world.write_and_look(&document("new")).await);
    assert_eq!(world.in_use(), of(&document("old")));
    assert!(world.failure().unwrap().contains("no answer from plugin"));
}

#[tokio::test]
async fn an_exposed_file_is_refused_where_that_is_wanted() {
    for is_strict in [false, true] {
        let mut world = World::new(is_strict, compile);
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(world.write_and_look(&document("new")).await, !is_strict);
        let expected = if is_strict { "old" } else { "new" };
        assert_eq!(world.in_use(), of(&document(expected)));
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(world.reloader.look().await);
        assert_eq!(world.in_use(), of(&document("new")));
    }
}
