//! Until when others know, from its record in etcd, what this process has loaded. What rests on it is not whether late writes
//! are lost, for which there is the fence, but what else depends on being known: writes without a fence, and what is made of
//! a value that does not open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::BootInstant;

/// For ever, in [`Tenure::until`].
const FOR_EVER: u64 = u64::MAX;

/// Set by whoever keeps the record. By a clock that nobody sets, and that goes on while the process or the machine is
/// stopped.
#[derive(Debug)]
pub struct Tenure {
    /// Milliseconds since the boot.
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
            until: AtomicU64::new(until),
        }
    }

    /// Goes on until `left` from `now` have passed.
    pub fn extend(&self, now: BootInstant, left: Duration) {
        let until = now.after(left).since_boot();
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
            until => BootInstant::now().since_boot() < Duration::from_millis(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_holds_from_its_extension_to_its_end_and_not_beyond() {
        assert!(Tenure::for_ever().holds());
        let tenure = Tenure::none();
        assert!(!tenure.holds());
        let begun = BootInstant::now();
        tenure.extend(begun, Duration::from_secs(3600));
        assert!(tenure.holds());
        tenure.end();
        assert!(!tenure.holds());
        tenure.extend(begun, Duration::from_secs(10));
        advance(Duration::from_secs(9)).await;
        assert!(tenure.holds());
        advance(Duration::from_secs(1)).await;
        assert!(!tenure.holds());
        // Asked for so long ago that it is over.
        tenure.extend(begun, Duration::ZERO);
        assert!(!tenure.holds());
    }
}
