//! How often each key has sealed a value in this process, and a warning before an AES-GCM key has done so too often.
//!
//! The count outlives a keyring: the next one goes on where the last one was. It does not outlive the process, and knows
//! nothing of what other proxies write with the same key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use metrics::Counter;

use super::families::KEY_WRITES;
use crate::audit::KeyUse;
use crate::types::KeyName;
use crate::value::ProviderKind;

/// After how many writes Kubernetes' documentation has an AES-GCM key replaced. Its nonces are random and of 96 bits: two
/// equal ones under one key give both plaintexts away, and the chance of that grows with the square of this.
const GCM_WRITES: u64 = 200_000;

/// How many before that the operator is told, so that there is time to act.
const HEADROOM: u64 = 20_000;

type Shared = Mutex<HashMap<(ProviderKind, KeyName), Arc<KeyWrites>>>;

static ALL: LazyLock<Shared> = LazyLock::new(Shared::default);

/// The writes of one key. Keys of the same name and kind of provider are counted as one, be their bytes the same or not:
/// that warns too early at worst.
#[derive(Debug)]
pub(super) struct KeyWrites {
    provider: ProviderKind,
    key: KeyName,
    count: AtomicU64,
    used: Arc<KeyUse>,
    exported: OnceLock<Counter>,
}

impl KeyWrites {
    /// The one for this key, begun at 0 or by an earlier keyring.
    pub(super) fn of(provider: ProviderKind, key: &KeyName) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry((provider, key.clone()));
        Arc::clone(entry.or_insert_with(|| Arc::new(Self::new(provider, key.clone()))))
    }

    fn new(provider: ProviderKind, key: KeyName) -> Self {
        Self {
            used: KeyUse::of(provider.to_string(), key.as_str()),
            provider,
            key,
            count: AtomicU64::new(0),
            exported: OnceLock::new(),
        }
    }

    /// Counts a value that has been sealed.
    pub(super) fn add(&self) {
        let exported = self.exported.get_or_init(|| {
            let (provider, key) = (self.provider.to_string(), self.key.to_string());
            metrics::counter!(KEY_WRITES.name, "provider" => provider, "key" => key)
        });
        exported.increment(1);
        self.used.note();
        // Each number comes once, on whichever core.
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(text) = warning(self.provider, count) {
            tracing::warn!(key = self.key.as_str(), writes = count, "{text}");
        }
    }
}

/// How many values each key has sealed in this process, by kind of provider and name.
pub fn key_writes() -> Vec<(ProviderKind, KeyName, u64)> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = all.values().map(|writes| {
        let count = writes.count.load(Ordering::Relaxed);
        (writes.provider, writes.key.clone(), count)
    });
    counts.collect()
}

/// What is to be said about a key on its `count`th write.
fn warning(provider: ProviderKind, count: u64) -> Option<&'static str> {
    match (provider, count) {
        (ProviderKind::AesGcm, WARN_AT) => Some(
            "an aesgcm key nears the 200000 writes after which it should have been replaced: rotate it, or use secretbox \
             or a KMS, which have no such limit",
        ),
        (ProviderKind::AesGcm, GCM_WRITES) => {
            Some("an aesgcm key has sealed 200000 values since this process began: it must be replaced")
        }
        _ => None,
    }
}

const WARN_AT: u64 = GCM_WRITES - HEADROOM;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aesgcm_key_is_warned_of_twice_and_no_other_ever() {
        let warned = |kind| {
            (1..=500_000)
                .filter(|count| warning(kind, *count).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(warned(ProviderKind::AesGcm), [180_000, 200_000]);
        assert!(warned(ProviderKind::AesCbc).is_empty() && warned(ProviderKind::KmsV2).is_empty());
    }

    #[test]
    fn a_key_goes_on_counting_in_the_next_keyring() {
        let key = KeyName::new("a key of this test alone");
        KeyWrites::of(ProviderKind::AesGcm, &key).add();
        KeyWrites::of(ProviderKind::AesGcm, &key).add();
        KeyWrites::of(ProviderKind::AesCbc, &key).add();
        let count = KeyWrites::of(ProviderKind::AesGcm, &key).count.load(Ordering::Relaxed);
        assert_eq!(count, 2);
    }
}
