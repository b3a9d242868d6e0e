//! Watches whether a plugin changes its key without changing its key ID, and shows it in annotations alone. Values under
//! the older version would then never count as stale, and a rotation never be seen.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use super::key_ids::hash_of;
use super::metrics;
use crate::types::{Fingerprint, KeyName};
use crate::value::WrappedDek;

/// How many key IDs are watched, and how many sets of annotations are told apart under each.
const MAX_KEY_IDS: usize = 100;
const MAX_VARIANTS: usize = 64;

/// The sets of annotations seen under each key ID of one plugin.
pub(super) struct Annotations {
    provider: KeyName,
    seen: Mutex<HashMap<String, BTreeSet<[u8; 32]>>>,
}

impl Annotations {
    pub(super) fn new(provider: KeyName) -> Self {
        Self {
            provider,
            seen: Mutex::default(),
        }
    }

    /// Takes note of what the plugin wrapped, now or before, and warns once for each key ID that turns out to have several
    /// sets.
    pub(super) fn note(&self, wrapped: &WrappedDek<'_>) {
        let Some(variants) = self.count(wrapped) else { return };
        let hash = hash_of(&wrapped.key_id);
        if variants == 2 {
            tracing::warn!(
                provider = self.provider.as_str(),
                key_id_hash = hash,
                "this KMS plugin returns different annotations under one key_id: if they tell versions of its key apart, \
                 a rotation of the key cannot be seen, and values under the older version do not count as stale"
            );
        }
        metrics::annotation_variants(&self.provider, hash, variants);
    }

    /// How many sets were seen under a key ID.
    #[cfg(test)]
    pub(super) fn variants(&self, key_id: &str) -> usize {
        self.seen
            .lock()
            .map_or(0, |seen| seen.get(key_id).map_or(0, BTreeSet::len))
    }

    /// How many sets there are under the key ID, if this is a new one.
    fn count(&self, wrapped: &WrappedDek<'_>) -> Option<usize> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = seen.len() >= MAX_KEY_IDS;
        let variants = match seen.get_mut(&*wrapped.key_id) {
            Some(variants) => variants,
            None if is_full => return None,
            None => seen.entry(wrapped.key_id.to_string()).or_default(),
        };
        let is_new = variants.len() < MAX_VARIANTS && variants.insert(digest(wrapped));
        is_new.then_some(variants.len())
    }
}

/// A name for the annotations, which are sorted, each part behind its length.
fn digest(wrapped: &WrappedDek<'_>) -> [u8; 32] {
    let mut bytes = Vec::new();
    for (key, value) in &wrapped.annotations {
        for part in [key.as_bytes(), value] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    Fingerprint::of(&bytes).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::DekKind;

    fn wrapped(key_id: &str, version: &str) -> WrappedDek<'static> {
        WrappedDek {
            kind: DekKind::HkdfSeed,
            source: b"source".to_vec().into(),
            key_id: key_id.to_owned().into(),
            annotations: vec![("version.example.com".into(), version.as_bytes().to_vec().into())],
        }
    }

    #[test]
    fn sets_are_counted_once_each_and_by_key_id() {
        let annotations = Annotations::new(KeyName::new("p"));
        assert_eq!(annotations.count(&wrapped("a", "1")), Some(1));
        assert_eq!(annotations.count(&wrapped("a", "1")), None);
        assert_eq!(annotations.count(&wrapped("b", "2")), Some(1));
        assert_eq!(annotations.count(&wrapped("a", "2")), Some(2));
        for version in 0..200 {
            annotations.count(&wrapped("a", &version.to_string()));
            annotations.count(&wrapped(&version.to_string(), "1"));
        }
        let seen = annotations.seen.lock().unwrap();
        assert_eq!((seen.len(), seen["a"].len()), (MAX_KEY_IDS, MAX_VARIANTS));
    }
}
