//! Stores, configurations and values that the room's tests are made of.

use std::sync::Arc;

use crate::bbolt::tests::file::{Pairs, Shape, database};
use crate::config::{Options, parse};
use crate::keyring::Keyring;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::snapshot::{Error, KeySource, Report, Scope, SnapshotFile, inspect};
use crate::types::{StatePrefix, StorageKey};
use crate::value::Deks;
use crate::wire::etcd::key_value::{KEY, VALUE};
use crate::wire::put_bytes;

pub(super) const AES_1: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
pub(super) const AES_2: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";
pub(super) const IDENTITY: &str = "{identity: {}}";

pub(super) fn aescbc(name: &str, secret: &str) -> String {
    format!("{{aescbc: {{keys: [{{name: '{name}', secret: {secret}}}]}}}}")
}

/// One rule, for secrets.
pub(super) fn document(providers: &[&str]) -> String {
    rule("secrets", providers)
}

pub(super) fn rule(resource: &str, providers: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: ['{resource}']\n  \
         providers: [{}]\n",
        providers.join(", ")
    )
}

pub(super) fn keyspace() -> KeySpace {
    KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap()
}

/// Documents by name.
pub(super) fn scope(documents: &[(&str, &str)]) -> Scope {
    let sources = documents.iter().map(|(name, document)| {
        let config = parse(document.as_bytes(), Options { reload: false }).unwrap();
        KeySource {
            name: (*name).to_owned(),
            keyring: Arc::new(Keyring::compile(&config, &keyspace(), &Plugins::none()).unwrap()),
        }
    });
    Scope {
        sources: sources.collect(),
        keyspace: keyspace(),
        state: StatePrefix::new(StatePrefix::DEFAULT).unwrap(),
    }
}

pub(super) fn source(name: &str, keyring: Keyring) -> Scope {
    let mut scope = scope(&[]);
    scope.sources.push(KeySource {
        name: name.to_owned(),
        keyring: Arc::new(keyring),
    });
    scope
}

/// What etcd holds under `key` for `plaintext` where `provider` writes everything.
pub(super) fn sealed(provider: &str, key: &str, plaintext: &[u8]) -> Vec<u8> {
    sealed_by(&scope(&[("", &rule("*.*", &[provider]))]), key, plaintext)
}

/// The same, for what is written often: a scope takes a while to make.
pub(super) fn sealed_by(scope: &Scope, key: &str, plaintext: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let sealer = scope.sources[0]
        .keyring
        .chain(key.as_bytes())
        .expect("a rule for the key");
    sealer
        .to_storage(StorageKey(key.as_bytes()), plaintext, &Deks::default(), &mut stored)
        .unwrap();
    stored
}

/// A store, change by change.
pub(super) struct Store {
    pub(super) entries: Pairs,
    pub(super) bucket: &'static str,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            entries: Pairs::new(),
            bucket: "key",
        }
    }
}

impl Store {
    fn change(&mut self, mark: &[u8], value: Vec<u8>) {
        // The first revision that a store has is 1, with nothing in it.
        let main = self.entries.len() as u64 + 2;
        let key = [&main.to_be_bytes()[..], b"_", &[0; 8], mark].concat();
        self.entries.push((key, value));
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8]) {
        let mut record = Vec::new();
        put_bytes(&mut record, KEY, key.as_bytes());
        put_bytes(&mut record, VALUE, value);
        self.change(b"", record);
    }

    pub(super) fn delete(&mut self, key: &str) {
        let mut record = Vec::new();
        put_bytes(&mut record, KEY, key.as_bytes());
        self.change(b"t", record);
    }

    pub(super) async fn inspect(&self, scope: &Scope) -> Report {
        self.try_inspect(scope).await.unwrap()
    }

    pub(super) async fn try_inspect(&self, scope: &Scope) -> Result<Report, Error> {
        let shape = Shape {
            page_size: 4096,
            fan_out: 7,
            inline: false,
        };
        let meta = vec![
            (b"consistent_index".to_vec(), 99u64.to_be_bytes().to_vec()),
            (
                b"finishedCompactRev".to_vec(),
                [&1u64.to_be_bytes()[..], b"_", &[0; 8]].concat(),
            ),
            (
                b"scheduledCompactRev".to_vec(),
                [&2u64.to_be_bytes()[..], b"_", &[0; 8]].concat(),
            ),
            (b"storageVersion".to_vec(), b"3.6.0".to_vec()),
            (b"term".to_vec(), 3u64.to_be_bytes().to_vec()),
        ];
        let bytes = database(
            shape,
            &[(self.bucket.as_bytes(), self.entries.clone()), (b"meta", meta)],
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::write(&path, bytes).unwrap();
        let mut file = SnapshotFile::open(&path, false)?;
        // The same wherever the test runs.
        file.path = "snapshot.db".into();
        inspect(&file, scope).await
    }
}
