//! Which keys have been used since somebody last looked. To note a use takes one look at an atomic and, once in a while,
//! a store; no clock is read, and nothing is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Not used yet; used, but not since the last look; used since then.
const NEVER: u8 = 0;
const IDLE: u8 = 1;
const USED: u8 = 2;

type Key = (String, String);

/// Every key that was ever loaded in this process, by provider and name.
static ALL: LazyLock<Mutex<BTreeMap<Key, Arc<KeyUse>>>> = LazyLock::new(Mutex::default);

/// The uses of one key, whichever keyring has it.
#[derive(Debug)]
pub struct KeyUse(AtomicU8);

impl KeyUse {
    /// The one for this kind of provider and this name.
    pub fn of(provider: impl Into<String>, key: impl Into<String>) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry((provider.into(), key.into()));
        Arc::clone(entry.or_insert_with(|| Arc::new(Self(AtomicU8::new(NEVER)))))
    }

    /// A value was sealed or opened with it.
    pub fn note(&self) {
        if self.0.load(Ordering::Relaxed) != USED {
            self.0.store(USED, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last call.
    fn look(&self) -> bool {
        self.0
            .compare_exchange(USED, IDLE, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// The keys that were used since the last call, by provider and name.
pub(super) fn used() -> Vec<Key> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let used = all.iter().filter(|(_, uses)| uses.look());
    used.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_seen_once_by_whoever_looks() {
        let [a, again] = [(); 2].map(|()| KeyUse::of("test", "a"));
        let seen = || a.look();
        assert!(!seen());
        again.note();
        again.note();
        assert!(seen());
        assert!(!seen());
        a.note();
        assert!(seen());
    }
}
