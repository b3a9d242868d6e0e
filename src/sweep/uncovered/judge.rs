//! Whether one stored value may need a key that is looked for. Pure: bytes in, verdict out.

use zeroize::Zeroizing;

use super::{Cover, Kind, Wanted};
use crate::config::{KeyType, KmsApiVersion, ProviderType};
use crate::inventory::{self, Under, is_plausible};
use crate::keyspace::Place;
use crate::sweep::Scope;
use crate::sweep::decide::{NotYet, Verdict, decide};
use crate::types::StorageKey;
use crate::value::{Deks, Provider, ProviderKind, header, is_sealed};

/// Bytes of a resource's name, or of a path that stands for it, at most.
const MAX_NAME: usize = 128;
/// Segments of such a path.
const SEGMENTS: usize = 2;

/// A value that counts.
pub(super) struct Found(pub(super) Kind);

/// Judges values by the keys that are looked for.
pub(super) struct Judge<'a> {
    scope: &'a Scope,
    /// What values of each key begin with.
    headers: Vec<(Vec<u8>, Under)>,
    others: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn of(scope: &'a Scope, wanted: &Wanted) -> Self {
        let headers = wanted.keys.iter().filter_map(|key| {
            let kind = match key.provider {
                ProviderType::Keys(KeyType::AesCbc) => ProviderKind::AesCbc,
                ProviderType::Keys(KeyType::AesGcm) => ProviderKind::AesGcm,
                ProviderType::Keys(KeyType::Secretbox) => ProviderKind::Secretbox,
                ProviderType::Kms(KmsApiVersion::V1) => ProviderKind::KmsV1,
                ProviderType::Kms(KmsApiVersion::V2) => ProviderKind::KmsV2,
                // What is in the clear needs nothing.
                ProviderType::Identity => return None,
            };
            Some((header(kind, &key.name)?, Under::of(kind, key.name.as_str())))
        });
        Self {
            scope,
            headers: headers.collect(),
            others: wanted.others,
        }
    }

    /// What `stored`, which etcd holds under `key`, counts as, if it does.
    pub(super) fn found(&self, key: &[u8], stored: &[u8]) -> Option<Found> {
        if !is_sealed(stored) {
            return None;
        }
        let borne = self.headers.iter().filter(|(header, _)| stored.starts_with(header));
        // A name may hold colons, so that one header begins with another: the longer one is likelier.
        let named = borne.max_by_key(|(header, _)| header.len()).map(|(_, under)| under);
        let place = self.scope.keyring.keyspace().classify(key);
        if self.scope.keyring.chain(key).is_some() {
            // What is under a rule is the sweep's to count; but where it did not look, or somebody has written since, a key
            // must not go either. The name alone says too little: the key that writes may be called so and go on.
            let under = named.filter(|_| !self.others)?;
            let opens = match self.verdict(key, stored) {
                Ok(Verdict::Fresh(_)) => return None,
                Ok(Verdict::Stale(_) | Verdict::Plaintext) => true,
                // By a key that another rule lists.
                _ => self.opener(key, stored).is_some_and(|opener| self.is_wanted(&opener)),
            };
            return Some(counted(key, place, Cover::Rule, under.clone(), (opens, true)));
        }
        let cover = if place == Place::Outside {
            Cover::Outside
        } else {
            Cover::None
        };
        let opener = self.opener(key, stored);
        let needs = match (&opener, named) {
            (Some(opener), Some(_)) => self.is_wanted(opener),
            // Another cluster's, say, which has a key of the same name. Below a prefix of this one it is this one's until
            // somebody says otherwise: GCM binds a value to its etcd key, and whoever has moved it may move it back.
            (None, Some(_)) => cover != Cover::Outside,
            (_, None) => false,
        };
        if !needs && !self.others {
            return None;
        }
        let opens = opener.is_some();
        let under = opener.or_else(|| named.filter(|_| needs).cloned());
        let under = under.unwrap_or_else(|| Under::claimed(stored));
        Some(counted(key, place, cover, under, (opens, needs)))
    }

    /// What a value under a rule is. The key of a KMS is not asked for: where its plugin's name is looked for, no value of that
    /// name is as a rule writes it.
    fn verdict(&self, key: &[u8], stored: &[u8]) -> Result<Verdict, NotYet> {
        decide(
            self.scope,
            key,
            stored,
            &Deks::default(),
            &mut Zeroizing::new(Vec::new()),
        )
    }

    fn is_wanted(&self, opener: &Under) -> bool {
        self.headers.iter().any(|(_, under)| under == opener)
    }

    /// Which key of the configuration opens `stored`, in whichever rule. None is asked for that is not at hand, so values under a KMS
    /// open with none: below a prefix the name alone decides, and outside of every prefix such a value does not count.
    fn opener(&self, key: &[u8], stored: &[u8]) -> Option<Under> {
        self.scope.keyring.rules().iter().find_map(|rule| {
            let chain = rule.chain();
            let mut plaintext = Zeroizing::new(Vec::new());
            let opened = chain.from_storage(StorageKey(key), stored, &Deks::default(), &mut plaintext);
            let opened = opened.ok()?;
            let kind = chain.readers().nth(opened.provider).map(Provider::kind)?;
            is_plausible(kind, &plaintext).then(|| Under::opened(chain, opened))
        })
    }
}

fn counted(key: &[u8], place: Place<'_>, cover: Cover, under: Under, (opens, needs): (bool, bool)) -> Found {
    let resource = match place {
        Place::Resource { .. } => shown(inventory::resource(place).as_bytes()),
        Place::Unlisted | Place::NeverEncrypted | Place::Outside => folder(key),
    };
    Found(Kind {
        resource,
        cover,
        under,
        opens,
        needs,
    })
}

/// The beginning of a key's path, for what is of no resource that has a name.
pub(in crate::sweep) fn folder(key: &[u8]) -> String {
    let mut slashes = key.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let ends = slashes.by_ref().take(SEGMENTS).last().map(|(at, _)| at);
    match ends.and_then(|at| key.get(..=at)) {
        Some(folder) => shown(folder),
        None => "(unlisted)".to_owned(),
    }
}

fn shown(name: &[u8]) -> String {
    name.get(..MAX_NAME).unwrap_or(name).escape_ascii().to_string()
}
