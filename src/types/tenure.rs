//! Until when this process may write for clients: as long as others know, from its record in etcd, what it writes with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For ever, in [`Tenure::until`].
const FOR_EVER: u64 = u64::MAX;

/// Set by whoever keeps the record, asked before each write. By a clock that nobody sets, and that goes on while the process
/// is stopped.
#[derive(Debug)]
pub struct Tenure {
    since: Instant,
    /// Milliseconds from `since`.
    until: AtomicU64,
}

impl Tenure {
    /// Of a process of which there is no record, and for which nobody waits.
    pub fn for_ever() -> Self {
        Self::of(FOR_EVER)
    }

    /// That has yet to begin.
    pub fn none() -> Self {
        Self::of(0)
    }

    fn of(until: u64) -> Self {
        Self {
            since: Instant::now(),
            until: AtomicU64::new(until),
        }
    }

    /// Goes on until `left` from `now` have passed.
    pub fn extend(&self, now: Instant, left: Duration) {
        let until = now.saturating_duration_since(self.since) + left;
        // A time that no process lives to see is as good as any later one.
        let until = u64::try_from(until.as_millis()).unwrap_or(FOR_EVER);
        self.until.store(until, Ordering::Release);
    }

    /// Ends at once.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whether it goes on.
    pub fn holds(&self) -> bool {
        match self.until.load(Ordering::Acquire) {
            FOR_EVER => true,
            until => self.since.elapsed() < Duration::from_millis(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_its_extension_to_its_end_and_not_beyond() {
        assert!(Tenure::for_ever().holds());
        let tenure = Tenure::none();
        assert!(!tenure.holds());
        tenure.extend(Instant::now(), Duration::from_secs(3600));
        assert!(tenure.holds());
        tenure.end();
        assert!(!tenure.holds());
        // Asked for so long ago that it is over.
        tenure.extend(tenure.since, Duration::ZERO);
        assert!(!tenure.holds());
    }
}
