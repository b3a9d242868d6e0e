//! Rules, prefixes and policies to rewrite under: a few that differ in all that makes a difference, built once.

use std::sync::LazyLock;

use etcd_encryption_proxy::{
    config::{self, EncryptionConfiguration, Options},
    keyring::{Keyring, Sealer},
    keyspace::{EtcdPrefix, KeySpace},
    kms::Plugins,
    rewrite::{Context, OnUndecryptable},
    types::{Fingerprint, StatePrefix, StorageKey},
    value::{Deks, OpenError, ProviderKind},
};

use super::source::Source;

/// In every value that is to be sealed, and in nothing else of a generated message.
pub(super) const MARKER: &[u8] = b"PLAINTEXT-MARKER";

/// Where a key may begin: under a rule or none, beside and below the proxy's own records, below each of the prefixes.
pub(super) const KEYS: [&[u8]; 20] = [
    b"/registry/secrets/ns/a",
    b"/registry/configmaps/ns/a",
    b"/registry/leases/ns/a",
    b"/registry/pods/ns/a",
    b"/registry/deployments/ns/a",
    b"/registry/example.com/widgets/ns/a",
    b"/registry/inner/secrets/ns/a",
    b"/registry/unheard-of/a",
    b"/registry/masterleases/10.0.0.1",
    b"/registry/secrets",
    b"/other.example/secrets/a",
    b"/etcd-encryption-proxy/sweep",
    b"/etcd-encryption-proxy/",
    b"/etcd-encryption-proxy",
    b"/etcd-encryption-proxy0",
    b"/registry/m/own",
    b"/registry/m0",
    b"/",
    b"\0",
    b"\xff",
];

const HEAD: &str = "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n";

/// Every provider as writer and as reader, one that writes plaintext and reads sealed, and the other way round.
const BY_RESOURCE: &str = "\
- resources: [secrets]
  providers:
  - aescbc: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODw==}]}
- resources: [configmaps]
  providers:
  - aesgcm: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODw==}, {name: key0, secret: AQECAwQFBgcICQoLDA0ODw==}]}
  - identity: {}
- resources: [leases.coordination.k8s.io]
  providers:
  - identity: {}
  - aescbc: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODw==}]}
- resources: [widgets.example.com]
  providers:
  - secretbox: {keys: [{name: 'key1:x', secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}
  - aescbc: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODw==}]}
";

const WILDCARDS: &str = "\
- resources: ['*.apps', secrets]
  providers:
  - aesgcm: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODw==}]}
- resources: ['*.']
  providers:
  - identity: {}
";

const EVERYTHING: &str = "\
- resources: ['*.*']
  providers:
  - secretbox: {keys: [{name: key1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}
";

static WORLDS: LazyLock<[World; 4]> = LazyLock::new(|| {
    [
        World::new("", &["/registry"], StatePrefix::DEFAULT),
        World::new(
            BY_RESOURCE,
            &["/registry", "/registry/inner", "/other.example"],
            StatePrefix::DEFAULT,
        ),
        World::new(WILDCARDS, &["/registry"], "/registry/m/"),
        World::new(EVERYTHING, &["/"], StatePrefix::DEFAULT),
    ]
});

/// What a message is rewritten under.
pub(super) struct World {
    pub(super) keyring: Keyring,
    pub(super) state: StatePrefix,
    deks: Deks,
}

impl World {
    fn new(rules: &str, prefixes: &[&str], state: &str) -> Self {
        let config = if rules.is_empty() {
            EncryptionConfiguration {
                entries: Vec::new(),
                fingerprint: Fingerprint::of(b""),
                retired: config::Retired::default(),
            }
        } else {
            config::parse(format!("{HEAD}{rules}").as_bytes(), Options::default()).expect("the rules are sound")
        };
        let prefixes = prefixes
            .iter()
            .map(|prefix| EtcdPrefix::parse(prefix).expect("it is a prefix"));
        let keyspace = KeySpace::new(prefixes.collect()).expect("there is a prefix");
        Self {
            keyring: Keyring::compile(&config, &keyspace, &Plugins::none()).expect("the rules are sound"),
            state: StatePrefix::new(state).expect("it is a prefix"),
            deks: Deks::default(),
        }
    }

    pub(super) fn pick(source: &mut Source<'_>) -> &'static Self {
        source.pick(&*WORLDS)
    }

    pub(super) fn all() -> &'static [Self] {
        &*WORLDS
    }

    /// Everything that a call is given.
    pub(super) fn ctx(&self, on_undecryptable: OnUndecryptable) -> Context<'_> {
        Context {
            keyring: &self.keyring,
            state: &self.state,
            deks: &self.deks,
            on_undecryptable,
        }
    }

    /// What seals the value of `key`; `None` where it is stored as it is.
    pub(super) fn sealing(&self, key: &[u8]) -> Option<Sealer<'_>> {
        let chain = self.keyring.chain(key);
        chain.filter(|chain| chain.writer().provider != ProviderKind::Identity)
    }

    /// What etcd holds for `plaintext` under `key`.
    pub(super) fn sealed(&self, key: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let Some(chain) = self.keyring.chain(key) else {
            return plaintext.to_vec();
        };
        let mut out = Vec::new();
        chain
            .to_storage(StorageKey(key), plaintext, &Deks::default(), &mut out)
            .expect("short values are sealed");
        out
    }

    /// The plaintext of what etcd holds under `key`.
    pub(super) fn opened(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, OpenError> {
        let Some(chain) = self.keyring.chain(key) else {
            return Ok(stored.to_vec());
        };
        let mut out = Vec::new();
        chain.from_storage(StorageKey(key), stored, &Deks::default(), &mut out)?;
        Ok(out)
    }
}

/// Either policy.
pub(super) fn policy(source: &mut Source<'_>) -> OnUndecryptable {
    if source.flag() {
        OnUndecryptable::Fail
    } else {
        OnUndecryptable::ReturnCiphertext
    }
}

/// Whether `needle` lies anywhere in `haystack`.
pub(super) fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
