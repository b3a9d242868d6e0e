//! Rules, keys and shorthands that the tests share.

use bytes::Bytes;
use prost::Message;

use super::pb::RangeRequest;
use crate::{
    config::{EncryptionConfiguration, Entry, Key, Provider, ResourceSelector},
    keyring::Keyring,
    keyspace::{EtcdPrefix, KeySpace},
    kms::Plugins,
    rewrite::{Context, OnUndecryptable, OpenFailure, Refusal, UnaryRequest, UnaryRpc, unary_request},
    types::{Fingerprint, GroupResource, KeyName, SecretBytes, StatePrefix, StorageKey},
    value::{self, Deks},
};

/// Sealed, and nothing else is read.
pub(super) const SECRET: &[u8] = b"/registry/secrets/ns/a";
/// Sealed, plaintext is read.
pub(super) const CONFIG_MAP: &[u8] = b"/registry/configmaps/ns/a";
/// Written as plaintext, sealed is read.
pub(super) const LEASE: &[u8] = b"/registry/leases/ns/a";
/// No rule.
pub(super) const POD: &[u8] = b"/registry/pods/ns/a";
/// The proxy's own.
pub(super) const STATE: &[u8] = b"/etcd-encryption-proxy/sweep";

/// A request whose answer is to be read: of which key does not matter.
pub(super) fn one_key() -> RangeRequest {
    RangeRequest {
        key: SECRET.to_vec(),
        ..RangeRequest::default()
    }
}

pub(super) struct World {
    keyring: Keyring,
    state: StatePrefix,
    deks: Deks,
    pub(super) on_undecryptable: OnUndecryptable,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_key(7)
    }

    /// A world whose key bytes are all `byte`, under the same names.
    pub(super) fn with_key(byte: u8) -> Self {
        let aescbc = || Provider::AesCbc {
            keys: vec![Key {
                name: KeyName::new("key1"),
                secret: SecretBytes::new(vec![byte; 32]),
            }],
        };
        let rule = |group: &str, resource: &str, providers| Entry {
            resources: vec![ResourceSelector::Exact(GroupResource::new(group, resource))],
            providers,
        };
        let config = EncryptionConfiguration {
            entries: vec![
                rule("", "secrets", vec![aescbc()]),
                rule("", "configmaps", vec![aescbc(), Provider::Identity]),
                rule("coordination.k8s.io", "leases", vec![Provider::Identity, aescbc()]),
            ],
            fingerprint: Fingerprint::of(b""),
            retired: crate::config::Retired::default(),
        };
        let prefix = EtcdPrefix::parse("/registry").expect("it is a prefix");
        let keyspace = KeySpace::new(vec![prefix]).expect("there is a prefix");
        Self {
            keyring: Keyring::compile(&config, &keyspace, &Plugins::none()).expect("the rules are sound"),
            state: StatePrefix::new(StatePrefix::DEFAULT).expect("it is a prefix"),
            deks: Deks::default(),
            on_undecryptable: OnUndecryptable::ReturnCiphertext,
        }
    }

    pub(super) fn ctx(&self) -> Context<'_> {
        Context {
            keyring: &self.keyring,
            state: &self.state,
            deks: &self.deks,
            on_undecryptable: self.on_undecryptable,
        }
    }

    /// What etcd holds for `plaintext` under `key`.
    pub(super) fn sealed(&self, key: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.keyring.chain(key) {
            Some(chain) => chain
                .to_storage(StorageKey(key), plaintext, &Deks::default(), &mut out)
                .expect("short values are sealed"),
            None => out.extend_from_slice(plaintext),
        }
        out
    }

    /// The plaintext of what etcd holds under `key`.
    pub(super) fn opened(&self, key: &[u8], stored: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.keyring.chain(key) {
            Some(chain) => {
                chain
                    .from_storage(StorageKey(key), stored, &Deks::default(), &mut out)
                    .expect("it was sealed by the same chain");
            }
            None => out.extend_from_slice(stored),
        }
        out
    }

    pub(super) fn send(&self, rpc: UnaryRpc, message: &impl Message) -> Result<UnaryRequest, Refusal> {
        unary_request(rpc, Bytes::from(message.encode_to_vec()), &self.ctx())
    }

    /// What the client gets for `answer` to `request`.
    pub(super) fn answer<M: Message + Default>(
        &self,
        request: UnaryRequest,
        answer: &impl Message,
    ) -> Result<M, OpenFailure> {
        let job = request.response.open(Bytes::from(answer.encode_to_vec()))?;
        let opened = job.run(&self.ctx())?;
        Ok(M::decode(opened.message.into_bytes()).expect("it is the message"))
    }
}

/// Whether a value is sealed.
pub(super) fn is_sealed(stored: &[u8]) -> bool {
    value::is_sealed(stored)
}
