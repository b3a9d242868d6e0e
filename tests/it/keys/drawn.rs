//! Every key that is made is drawn: none is like another, none is zero or anything else that could be guessed. Seen where it
//! arrives: in the file, in the keyring, at the plugin, on standard output.

use std::collections::HashSet;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::proxy::{BINARY, Proxy};
use crate::common::rotation::{Shared, write_private};
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;

/// The secrets in a document, in order, as YAML or JSON has them.
fn secrets(document: &str) -> Vec<Vec<u8>> {
    let document = document.replace('"', "");
    let behind = document.split("secret:").skip(1);
    let texts = behind.map(|rest| rest.split(['}', ',', '\n']).next().expect("a word"));
    texts
        .map(|text| STANDARD.decode(text.trim()).expect("base64"))
        .collect()
}

/// No two are alike, and in none is a pattern: of 32 drawn bytes fewer than 16 are different only once in 10^11 times, and two
/// halves are never the same.
fn expect_drawn(keys: &[Vec<u8>], length: usize) {
    let all: HashSet<_> = keys.iter().collect();
    assert_eq!(all.len(), keys.len(), "a key was made twice");
    for key in keys {
        assert_eq!(key.len(), length);
        let distinct: HashSet<_> = key.iter().collect();
        assert!(distinct.len() >= length / 2, "this is no drawn key");
        assert_ne!(key[..length / 2], key[length / 2..], "this is no drawn key");
    }
}

#[tokio::test]
async fn keys_of_rotations_are_drawn() {
    let etcd = Etcd::start(Version::share()).await;
    etcd.client().await.put("/registry/secrets/default/a", "plain").await;
    let mut keys = Vec::new();
    for key_type in ["aescbc", "aesgcm", "secretbox"] {
        let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
        let kind = format!("--key-type={key_type}");
        for _ in 0..3 {
            shared
                .succeed(&["prepare", &kind], "prepare completed successfully")
                .await;
            // Beside the one of the tests, which is the first.
            keys.extend(secrets(&shared.text()).into_iter().skip(1));
            shared.succeed(&["abort", "--skip"], "rotation aborted").await;
            write_private(&shared.path(), &document(&[K1, IDENTITY]));
        }
    }
    assert_eq!(keys.len(), 9);
    // And where there was none.
    for _ in 0..2 {
        let shared = Shared::new(&etcd, &document(&[IDENTITY]));
        shared.succeed(&["enable"], "secrets-encryption enabled").await;
        keys.extend(secrets(&shared.text()));
    }
    assert_eq!(keys.len(), 11);
    expect_drawn(&keys, 32);
}

#[tokio::test]
async fn the_first_key_of_a_keyring_and_those_that_follow_are_drawn() {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let etcd = Etcd::start(Version::share()).await;
        let shared = Shared::managed(&etcd.endpoint());
        let _member = shared.member("a");
        keys.extend(secrets(&shared.text()));
        shared.succeed(&["prepare"], "prepare completed successfully").await;
        keys.extend(secrets(&shared.text()).into_iter().skip(1));
    }
    assert_eq!(keys.len(), 4);
    expect_drawn(&keys, 32);
}

#[test]
fn keys_that_are_printed_are_drawn() {
    let folder = TempDir::new().expect("a folder");
    let mut keys = Vec::new();
    for key_type in ["aescbc", "aesgcm", "secretbox"] {
        for _ in 0..3 {
            let output = Command::new(BINARY)
                .args(["config", "key", "--type", key_type])
                .current_dir(folder.path())
                .output()
                .expect("it starts");
            assert!(output.status.success(), "{output:?}");
            keys.extend(secrets(&String::from_utf8(output.stdout).expect("text")));
        }
    }
    assert_eq!(keys.len(), 9);
    expect_drawn(&keys, 32);
}

/// Each write has a key of its own in v1, each start a seed in v2; the plugin is given them to wrap.
#[tokio::test]
async fn what_a_plugin_is_given_to_wrap_is_drawn() {
    for (version, writes, starts) in [("v1", 8, 2), ("v2", 2, 6)] {
        let etcd = Etcd::start(Version::share()).await;
        let plugin = Plugin::start();
        for start in 0..starts {
            let proxy = Proxy::before(&etcd, plugin.document("secrets", version));
            let client = proxy.client().await;
            for write in 0..writes {
                client
                    .put(format!("/registry/secrets/default/{start}-{write}"), "value")
                    .await;
            }
        }
        let mut given = plugin.given();
        // What a health check of v1 wraps.
        given.retain(|plaintext| plaintext != b"ping");
        let least = if version == "v1" { starts * writes } else { starts };
        assert!(given.len() >= least, "{version}: {}", given.len());
        expect_drawn(&given, 32);
    }
}
