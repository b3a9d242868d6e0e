//! Values that bear an encryption header and that no key of this process opens, as its clients have met them: about how many,
//! and since when. Told to whoever reports on the process, so that a loss does not hide behind a proof that came before it.
//!
//! Touched only where a value does not open, which is rare and slow anyway; no call waits for another. Which values there
//! were is not kept: a bit for each, by a hash of its etcd key, tells many from few.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::families::UNOPENED;

/// Words of the sketch: it tells some thousand values apart, and counts the rest as these.
const WORDS: usize = 64;

/// What was met since it was last settled.
#[derive(Debug)]
pub struct Unopened {
    /// Each value each time.
    met: AtomicU64,
    /// How many of these have been answered for by a proof.
    settled: AtomicU64,
    sketch: [AtomicU64; WORDS],
    /// Seconds of the Unix epoch; 0 for never.
    since: AtomicU64,
    noted: Notify,
}

/// Values that do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encounters {
    /// How many there are at least.
    pub at_least: u64,
    /// When the first of them was met, by this process's clock.
    pub since: SystemTime,
}

impl Default for Unopened {
    fn default() -> Self {
        Self {
            met: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            sketch: [const { AtomicU64::new(0) }; WORDS],
            since: AtomicU64::new(0),
            noted: Notify::new(),
        }
    }
}

impl Unopened {
    /// Values were met, of which these are the hashes of the etcd keys.
    #[cold]
    pub(super) fn note(&self, hashes: &[u64]) {
        if hashes.is_empty() {
            return;
        }
        for hash in hashes {
            // The upper bits choose the word, the lower six the bit in it.
            let index = usize::try_from(hash >> 32).unwrap_or_default() % WORDS;
            if let Some(word) = self.sketch.get(index) {
                word.fetch_or(1 << (hash % 64), Ordering::Relaxed);
            }
        }
        self.begun();
        self.met.fetch_add(hashes.len() as u64, Ordering::Release);
        self.noted.notify_one();
        self.export();
    }

    /// Ends once values have been met since the last time it ended.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// What was met and not settled.
    pub fn encounters(&self) -> Option<Encounters> {
        if self.met() == self.settled.load(Ordering::Acquire) {
            return None;
        }
        let bits = self.sketch.iter().map(|word| word.load(Ordering::Relaxed).count_ones());
        Some(Encounters {
            at_least: u64::from(bits.sum::<u32>()).max(1),
            since: UNIX_EPOCH + Duration::from_secs(self.begun()),
        })
    }

    /// How often a value was met since the process began.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Acquire)
    }

    /// A proof has shown that what was met while this was [`Unopened::met`] opens by now, or is gone.
    pub fn settle(&self, met: u64) {
        if self.met() != met {
            return;
        }
        self.sketch.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.since.store(0, Ordering::Relaxed);
        // What has come in between is beyond this number, and so remains.
        self.settled.store(met, Ordering::Release);
        self.export();
    }

    /// When the first was met: now, if that is not known. It is not where others were settled at the very moment.
    fn begun(&self) -> u64 {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs().max(1);
        let before = self
            .since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        before.err().unwrap_or(now)
    }

    fn export(&self) {
        let values = self.encounters().map_or(0, |met| met.at_least);
        let values = u32::try_from(values).unwrap_or(u32::MAX);
        metrics::gauge!(UNOPENED.name).set(f64::from(values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread as those of etcd keys are.
    fn hashes(count: u64) -> Vec<u64> {
        (0..count)
            .map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index << 40))
            .collect()
    }

    #[test]
    fn values_are_told_apart_and_those_met_again_are_not() {
        let unopened = Unopened::default();
        assert_eq!(unopened.encounters(), None);
        for _ in 0..50 {
            unopened.note(&hashes(20));
        }
        let met = unopened.encounters().unwrap();
        assert!((15..=20).contains(&met.at_least), "{met:?}");
        assert_eq!(unopened.met(), 1_000);
    }

    #[test]
    fn a_proof_answers_for_what_came_before_it_alone() {
        let unopened = Unopened::default();
        unopened.note(&hashes(3));
        let before = unopened.met();
        unopened.note(&[7]);
        unopened.settle(before);
        assert!(unopened.encounters().is_some(), "one came behind the proof");
        unopened.settle(unopened.met());
        assert_eq!(unopened.encounters(), None);
        unopened.note(&[7]);
        assert_eq!(unopened.encounters().map(|met| met.at_least), Some(1));
    }
}
