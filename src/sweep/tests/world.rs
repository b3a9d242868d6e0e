//! Scopes, chains and values that the room's tests are made of.

use std::sync::Arc;

use crate::config::{Options, parse};
use crate::etcd::KeyValue;
use crate::keyring::Keyring;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::sweep::Scope;
use crate::types::{Epoch, StatePrefix, StorageKey};
use crate::value::Deks;

pub(in crate::sweep) const KEY_OLD: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
pub(in crate::sweep) const KEY_NEW: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

pub(in crate::sweep) fn aescbc(name: &str, secret: &str) -> String {
    format!("{{aescbc: {{keys: [{{name: '{name}', secret: {secret}}}]}}}}")
}

pub(in crate::sweep) fn aesgcm(name: &str, secret: &str) -> String {
    format!("{{aesgcm: {{keys: [{{name: '{name}', secret: {secret}}}]}}}}")
}

pub(in crate::sweep) fn identity() -> String {
    "{identity: {}}".to_owned()
}

/// One rule, for secrets.
pub(in crate::sweep) fn scope(providers: &[&str]) -> Scope {
    let document = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{}]\n",
        providers.join(", ")
    );
    let config = parse(document.as_bytes(), Options { reload: false }).unwrap();
    let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
    Scope {
        keyring: Arc::new(Keyring::compile(&config, &keyspace, &Plugins::none()).unwrap()),
        epoch: Epoch::FIRST,
        state: StatePrefix::new(StatePrefix::DEFAULT).unwrap(),
        resources: Vec::new(),
        prefixes: Vec::new(),
        lays_bare: true,

        written_until: None,
    }
}

/// What etcd holds under `key` for `plaintext` where `providers` are the rule.
pub(in crate::sweep) fn sealed(providers: &[&str], key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    sealed_by(&scope(providers), key, plaintext)
}

/// The same, for what is written often: a scope takes a while to make.
pub(in crate::sweep) fn sealed_by(scope: &Scope, key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let chain = scope.keyring.chain(key).expect("a rule for the key");
    chain
        .to_storage(StorageKey(key), plaintext, &Deks::default(), &mut stored)
        .unwrap();
    stored
}

pub(in crate::sweep) fn kv(key: &[u8], value: &[u8], mod_revision: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        create_revision: mod_revision,
        mod_revision,
        lease,
    }
}

/// The plaintext of a value that `scope` reads.
pub(in crate::sweep) fn opened(scope: &Scope, key: &[u8], stored: &[u8]) -> Vec<u8> {
    let mut plaintext = Vec::new();
    let sealer = scope.keyring.chain(key).expect("a rule for the key");
    let outcome = sealer.from_storage(StorageKey(key), stored, &Deks::default(), &mut plaintext);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", key.escape_ascii()));
    plaintext
}
