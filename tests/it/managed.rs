//! The keyring in etcd, through the proxy's own client, before a real etcd and with a KMS plugin that is one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd_encryption_proxy::files::Permissions;
use etcd_encryption_proxy::keyspace::{EtcdPrefix, KeySpace};
use etcd_encryption_proxy::kms::Wrapper;
use etcd_encryption_proxy::managed::{Roots, Strongbox, Time, default_document, holds_sealed_values};
use etcd_encryption_proxy::types::{StatePrefix, with_causes};
use tempfile::TempDir;

use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::managed::{client, run, strongbox};
use crate::common::process::PATIENCE;
use crate::common::rotation::{ROOT, write_private};
use crate::common::tools::Version;

/// Runs `work` on a thread of its own, as `serve` does with what it keeps in etcd.
async fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = tokio::task::spawn_blocking(|| std::thread::spawn(|| run(work)).join().expect("it ends well"));
    thread.await.expect("it ends well")
}

fn write_root(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("root");
    write_private(&path, text);
    path
}

#[tokio::test]
async fn members_that_start_at_once_on_an_empty_etcd_agree() {
    for version in Version::two() {
        let etcd = Etcd::start(version).await;
        let folder = TempDir::new().expect("a folder");
        let root = write_root(folder.path(), ROOT);
        let members = [(); 3].map(|()| {
            let (endpoint, root) = (etcd.endpoint(), root.clone());
            apart(async move || {
                let strongbox = strongbox(&endpoint, Some(root), None);
                let document = default_document(Time::now()).expect("a document");
                let current = strongbox.create(document.expose()).await.expect("a keyring");
                (current.fingerprint, current.generation)
            })
        });
        let [a, b, c] = members;
        let (a, b, c) = tokio::join!(a, b, c);
        assert_eq!(a.1, 1);
        assert!(a == b && b == c, "{a:?} {b:?} {c:?}");
        let direct = etcd.client().await;
        assert_eq!(
            direct.everything().await.len(),
            2,
            "the keyring, and the epoch that it began"
        );
    }
}

#[tokio::test]
async fn a_keyring_lives_through_replacements_another_root_and_a_restore() {
    for version in Version::two() {
        let (etcd, empty) = (Etcd::start(version).await, Etcd::start(version).await);
        let folder = TempDir::new().expect("a folder");
        let root = write_root(
            folder.path(),
            &format!("{ROOT}passphrase: correct horse battery staple\n"),
        );
        let (endpoint, other) = (etcd.endpoint(), empty.endpoint());
        apart(async move || {
            let here = strongbox(&endpoint, Some(root.clone()), None);
            let document = || default_document(Time::now()).expect("a document");
            let mut current = here.create(document().expose()).await.expect("a keyring");
            for _ in 0..3 {
                let next = here.replace(&current, document().expose(), true).await;
                current = next.expect("it is replaced");
            }
            let to = here.known_roots(&current).await.expect("roots")[1].id;
            let resealed = here.reseal(to).await.expect("it is sealed anew");
            assert_eq!((resealed.records, resealed.current.generation), (4, 5));
            let backup = here.backup().await.expect("a backup");

            let there = strongbox(&other, Some(root), None);
            let restored = there.restore(&backup, false).await.expect("it is restored");
            assert_eq!((restored.archived, restored.current.generation), (3, 5));
            let archived = there.archived().await.expect("an archive");
            assert!(archived.len() == 3 && archived.iter().all(|entry| entry.document.is_ok()));
            let all: Vec<_> = archived.iter().filter_map(|entry| entry.fingerprint).collect();
            assert_eq!(there.purge(&all).await.expect("they go"), all);
            assert!(there.archived().await.expect("an archive").is_empty());
        })
        .await;
    }
}

#[tokio::test]
async fn a_kms_wraps_the_root_and_the_way_to_a_file_is_open() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let folder = TempDir::new().expect("a folder");
    let root = write_root(folder.path(), ROOT);
    let (endpoint, socket) = (etcd.endpoint(), plugin.endpoint());
    let made = apart({
        let (endpoint, socket) = (endpoint.clone(), socket.clone());
        async move || {
            let strongbox = strongbox(&endpoint, None, Some(&socket));
            let document = default_document(Time::now()).expect("a document");
            strongbox.create(document.expose()).await.expect("a keyring")
        }
    })
    .await;
    assert!(made.is_kms);
    plugin.behaviour().key = 1;
    let read = apart(async move || {
        let both = strongbox(&endpoint, Some(root.clone()), Some(&socket));
        let current = both.read().await.expect("it opens").expect("it is there");
        let replaced = both.replace(&current, current.document.expose(), true).await;
        let replaced = replaced.expect("it is replaced");
        assert!(
            replaced.is_kms && replaced.root != made.root,
            "the plugin has another key"
        );
        let known = both.known_roots(&replaced).await.expect("roots");
        assert_eq!(known[1].id, replaced.root);

        let file = strongbox(&endpoint, Some(root.clone()), None);
        let told = with_causes(&file.read().await.expect_err("it needs the plugin"));
        assert!(told.contains("--keyring-root-kms"), "{told}");
        let resealed = both.reseal(known[0].id).await.expect("it is sealed anew");
        assert!(!resealed.current.is_kms);
        file.read().await.expect("it opens").expect("it is there")
    })
    .await;
    assert_eq!(read.fingerprint, made.fingerprint);
}

/// Nothing is written that the plugin does not give back.
#[tokio::test]
async fn a_plugin_that_is_away_or_lies_leaves_etcd_empty() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    plugin.behaviour().plaintext = Some(vec![7; 32]);
    let (endpoint, socket) = (etcd.endpoint(), plugin.endpoint());
    apart(async move || {
        let away = format!("{socket}.none");
        for (socket, timeout) in [(socket, PATIENCE), (away, Duration::from_millis(50))] {
            let kms = Wrapper::new("root", &socket, timeout).expect("a plugin");
            let roots = Roots::load(None, Arc::new(Permissions::new(true)), Some(kms)).expect("roots");
            let state = StatePrefix::new(StatePrefix::DEFAULT).expect("a prefix");
            let strongbox = Strongbox::new(client(&endpoint), state, Arc::new(roots), "host");
            let document = default_document(Time::now()).expect("a document");
            let error = strongbox.create(document.expose()).await.expect_err("no keyring");
            assert_eq!(error.is_passing(), timeout != PATIENCE, "{error}");
        }
    })
    .await;
    assert!(etcd.client().await.everything().await.is_empty());
}

#[tokio::test]
async fn sealed_values_stand_in_the_way_of_a_new_keyring() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    for index in 0..1_200 {
        direct.put(format!("/registry/secrets/a/{index:04}"), "plain").await;
    }
    let endpoint = etcd.endpoint();
    let look = |endpoint: String| {
        apart(async move || {
            let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").expect("a prefix")]);
            let found = holds_sealed_values(&client(&endpoint), &keyspace.expect("a key space")).await;
            found.expect("an answer").map(|value| value.to_string())
        })
    };
    assert_eq!(look(endpoint.clone()).await, None);
    direct
        .put("/registry/secrets/a/9999", "k8s:enc:secretbox:v1:lost:x")
        .await;
    let told = look(endpoint).await.expect("it is found");
    assert!(told.contains("9999") && told.contains("\"lost\""), "{told}");
}
