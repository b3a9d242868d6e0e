//! Values that no key of the configuration opens, held against keys that it does not list: which of these opens them. Reads
//! only, and remembers counts and one etcd key of each kind.
//!
//! Invariant: a key counts for a value only where it has opened it, and to what Kubernetes stores. A name says too little: it may
//! stand for other bytes in each file.

use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::decide::{Verdict, decide};
use super::everything::Everything;
use super::uncovered::{MAX_ROWS, MAX_SHOWN, folder};
use super::{Error, Observer, Options, Scope};
use crate::config::{Key, KeyId, KeyType, ResourceSelector};
use crate::etcd::{KeyValue, Store};
use crate::inventory::{self, Under, is_plausible};
use crate::keyspace::Place;
use crate::types::{Fingerprint, StorageKey};
use crate::value::{Chain, Deks, Provider, ProviderKind, header, is_sealed};

/// A key that may open what those of the configuration do not.
pub struct Spare {
    kind: ProviderKind,
    /// What values of this key begin with.
    header: Vec<u8>,
    under: Under,
    chain: Chain,
}

/// Names only.
impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.under, f)
    }
}

impl Spare {
    /// The key `id`, which is `key`. `None` where no cipher takes it.
    pub fn new(id: &KeyId, key: &Key) -> Option<Self> {
        let pair = [(&key.name, &key.secret)];
        let (kind, provider) = match id.key_type()? {
            KeyType::AesCbc => (ProviderKind::AesCbc, Provider::aescbc(pair)),
            KeyType::AesGcm => (ProviderKind::AesGcm, Provider::aesgcm(pair)),
            KeyType::Secretbox => (ProviderKind::Secretbox, Provider::secretbox(pair)),
        };
        Some(Self {
            kind,
            header: header(kind, &id.name)?,
            under: Under::of(kind, id.name.as_str()),
            chain: Chain::new(vec![provider.ok()?]).ok()?,
        })
    }

    /// Whether it opens what etcd holds under `key`.
    fn opens(&self, key: &[u8], stored: &[u8]) -> bool {
        let mut plaintext = Zeroizing::new(Vec::new());
        stored.starts_with(&self.header)
            && self
                .chain
                .from_storage(StorageKey(key), stored, &Deks::default(), &mut plaintext)
                .is_ok()
            && is_plausible(self.kind, &plaintext)
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Unopenable {
    /// Of which configuration.
    pub configuration: Fingerprint,
    /// Whether keys outside of `--etcd-prefix` could be read, too.
    pub is_whole: bool,
    /// How many values of one kind, and the etcd key of the first, with what is no printable ASCII escaped.
    pub rows: Vec<(Need, u64, String)>,
}

/// What values of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// `secrets`, or the beginning of the path where it is of nothing that has a name.
    pub resource: String,
    /// The rule that covers them; `None` where none does.
    pub rule: Option<ResourceSelector>,
    /// What they say that they are under, or the key that opens them.
    pub under: Under,
    /// Which of the spare keys opens them: an index.
    pub opener: Option<usize>,
}

/// Looks at everything that etcd holds but the proxy's own records for values that no key of the configuration opens, and which of
/// `spares` does: the first one. `scope` has the rules, and the keys of the configuration.
///
/// # Errors
/// It did not come to its end.
pub async fn unopenable<S: Store>(
    store: &S,
    scope: &Scope,
    spares: &[Spare],
    options: &Options,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<Unopenable, Error> {
    let everything = Everything::new(store, scope, options, &observer, stop);
    let add = |rows: &mut Rows, kv: &KeyValue| {
        if let Some(need) = needed(scope, spares, &kv.key, &kv.value) {
            rows.add(&kv.key, need);
        }
    };
    let read = everything.read(add).await?;
    let rows = read.found.0.into_iter();
    Ok(Unopenable {
        configuration: scope.keyring.fingerprint(),
        is_whole: read.is_whole,
        rows: rows
            .map(|(need, (objects, example))| (need, objects, example))
            .collect(),
    })
}

/// What the value under `key` needs, if no key of the configuration opens it.
fn needed(scope: &Scope, spares: &[Spare], key: &[u8], stored: &[u8]) -> Option<Need> {
    let rule = scope.sealer(key).and_then(|sealer| {
        let mut rules = scope.keyring.rules().iter();
        rules.find(|rule| ptr::eq(rule.chain(), sealer.chain()))
    });
    let claimed = match rule {
        Some(_) => {
            let mut plaintext = Zeroizing::new(Vec::new());
            match decide(scope, key, stored, &Deks::default(), &mut plaintext) {
                Ok(Verdict::Undecryptable { needs, .. }) => needs,
                // Or a KMS would have to be asked, whose keys are in no file.
                _ => return None,
            }
        }
        None if is_sealed(stored) => Under::claimed(stored),
        None => return None,
    };
    let opener = spares.iter().position(|spare| spare.opens(key, stored));
    let place = scope.keyring.keyspace().classify(key);
    // What no rule covers may be read by what wrote it: a KMS, or, outside of the prefixes, another cluster.
    if rule.is_none() && opener.is_none() && (place == Place::Outside || claimed.provider.starts_with("kms")) {
        return None;
    }
    let resource = match place {
        Place::Resource { .. } => {
            let name = inventory::resource(place);
            name.get(..MAX_SHOWN).unwrap_or(&name).escape_debug().to_string()
        }
        Place::Unlisted | Place::NeverEncrypted | Place::Outside => folder(key),
    };
    let under = opener.and_then(|index| spares.get(index));
    Some(Need {
        resource,
        rule: rule.map(|rule| rule.selector().clone()),
        under: under.map_or(claimed, |spare| spare.under.clone()),
        opener,
    })
}

/// Rows as they are counted: how many, and the first etcd key.
#[derive(Default)]
struct Rows(BTreeMap<Need, (u64, String)>);

impl Rows {
    fn add(&mut self, key: &[u8], mut need: Need) {
        if self.0.len() >= MAX_ROWS && !self.0.contains_key(&need) {
            "(others)".clone_into(&mut need.resource);
            // What opens them is no name out of etcd.
            if need.opener.is_none() {
                need.under = Under::others();
            }
        }
        let example = || key.get(..MAX_SHOWN).unwrap_or(key).escape_ascii().to_string();
        self.0.entry(need).or_insert_with(|| (0, example())).0 += 1;
    }
}
