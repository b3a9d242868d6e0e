//! How often each key has sealed a value in this process, and a warning before an AES-GCM key has done so too often.
//!
//! The count outlives a keyring: the next one goes on where the last one was. It does not outlive the process, and knows
//! nothing of what other proxies write with the same key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use metrics::Counter;

use super::families::KEY_WRITES;
use crate::audit::KeyUse;
use crate::telemetry::Tally;
use crate::types::KeyName;
use crate::value::ProviderKind;

/// After how many writes Kubernetes' documentation has an AES-GCM key replaced. Its nonces are random and of 96 bits: two
/// equal ones under one key give both plaintexts away, and the chance of that grows with the square of this.
const GCM_WRITES: u64 = 200_000;

/// How many before that the operator is told, so that there is time to act.
const HEADROOM: u64 = 20_000;

/// How many writes of one thread lie between two looks at what all have written. A warning comes so many late for each thread,
/// at most, which is little of the headroom.
const BETWEEN_LOOKS: u64 = 64;

type Shared = Mutex<HashMap<(ProviderKind, KeyName), Arc<KeyWrites>>>;

static ALL: LazyLock<Shared> = LazyLock::new(Shared::default);

/// The writes of one key. Keys of the same name and kind of provider are counted as one, be their bytes the same or not:
/// that warns too early at worst.
#[derive(Debug)]
pub(super) struct KeyWrites {
    provider: ProviderKind,
    key: KeyName,
    count: Tally,
    /// How many of the warnings have been said.
    warned: AtomicUsize,
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
            count: Tally::default(),
            warned: AtomicUsize::new(0),
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
        if self.count.add(1).is_multiple_of(BETWEEN_LOOKS) && self.provider == ProviderKind::AesGcm {
            self.look();
        }
    }

    #[cold]
    fn look(&self) {
        let writes = self.count.sum();
        if let Some(text) = self.due(writes) {
            tracing::warn!(key = self.key.as_str(), writes, "{text}");
        }
    }

    /// What is to be said after so many writes and has not been said, by whichever thread.
    fn due(&self, writes: u64) -> Option<&'static str> {
        let reached = WARNINGS.iter().take_while(|(at, _)| writes >= *at).count();
        let said = self.warned.fetch_max(reached, Ordering::Relaxed);
        let (_, text) = WARNINGS.get(said..reached)?.last()?;
        Some(text)
    }
}

/// How many values each key has sealed in this process, by kind of provider and name.
pub fn key_writes() -> Vec<(ProviderKind, KeyName, u64)> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = all
        .values()
        .map(|writes| (writes.provider, writes.key.clone(), writes.count.sum()));
    counts.collect()
}

/// What is said of an AES-GCM key, and from how many writes on.
const WARNINGS: [(u64, &str); 2] = [
    (
        GCM_WRITES - HEADROOM,
        "an aesgcm key nears the 200000 writes after which it should have been replaced: rotate it, or use secretbox or a \
         KMS, which have no such limit",
    ),
    (
        GCM_WRITES,
        "an aesgcm key has sealed 200000 values since this process began: it must be replaced",
    ),
];

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn writes(provider: ProviderKind) -> KeyWrites {
        KeyWrites::new(provider, KeyName::new("a key of these tests alone"))
    }

    #[test]
    fn a_key_is_warned_of_twice_soon_after_its_time_has_come() {
        let key = writes(ProviderKind::AesGcm);
        let due = (1..=500_000).filter(|count| count % BETWEEN_LOOKS == 0 && key.due(*count).is_some());
        assert_eq!(due.collect::<Vec<_>>(), [180_032, 200_000]);
    }

    #[test]
    fn however_many_threads_look_one_warns() {
        let key = writes(ProviderKind::AesGcm);
        let told = thread::scope(|scope| {
            let looks = [180_000, 180_001, 180_002, 180_003].map(|count| {
                let key = &key;
                scope.spawn(move || key.due(count).is_some())
            });
            looks.map(|look| look.join().unwrap())
        });
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
    }

    #[test]
    fn writes_of_all_threads_count_and_an_aesgcm_key_alone_wears_out() {
        for (kind, warnings) in [(ProviderKind::AesGcm, 2), (ProviderKind::AesCbc, 0)] {
            let key = writes(kind);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..=GCM_WRITES / 4).for_each(|_| key.add()));
                }
            });
            assert_eq!(key.count.sum(), GCM_WRITES + 4);
            // Looks of each thread lie apart; the last may have come a little before the end.
            (0..BETWEEN_LOOKS).for_each(|_| key.add());
            assert_eq!(key.warned.load(Ordering::Relaxed), warnings, "{kind}");
        }
    }

    #[test]
    fn a_key_goes_on_counting_in_the_next_keyring() {
        let key = KeyName::new("a key of this test alone");
        KeyWrites::of(ProviderKind::AesGcm, &key).add();
        KeyWrites::of(ProviderKind::AesGcm, &key).add();
        KeyWrites::of(ProviderKind::AesCbc, &key).add();
        assert_eq!(KeyWrites::of(ProviderKind::AesGcm, &key).count.sum(), 2);
    }
}
