//! Whether every runtime still gets to its tasks: each notes the time once a second. One that has not for long is stuck or
//! gone, and only a restart would help. Never acts on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a runtime notes the time.
const BEAT: Duration = Duration::from_secs(1);

/// Silence after which a runtime counts as stuck. No slice of work is near that long, on a machine however busy.
const STUCK: Duration = Duration::from_secs(30);

/// The heartbeats of all runtimes. Clones are the same.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    began: Instant,
    /// Milliseconds from the beginning, by runtime.
    last: Arc<[AtomicU64]>,
}

impl Heartbeats {
    /// Those of `count` runtimes, all of which count as having just beaten.
    pub(super) fn new(count: usize) -> Self {
        Self {
            began: Instant::now(),
            last: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Beats for the runtime `index`, for as long as it is polled.
    pub(super) async fn run(self, index: usize) {
        let Some(last) = self.last.get(index) else { return };
        loop {
            last.store(self.now(), Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// A runtime that has not got to its tasks for half a minute or longer, and for how long.
    pub fn stuck(&self) -> Option<(usize, Duration)> {
        let now = self.now();
        let silent = |last: &AtomicU64| Duration::from_millis(now.saturating_sub(last.load(Ordering::Relaxed)));
        self.last
            .iter()
            .map(silent)
            .enumerate()
            .find(|(_, silence)| *silence >= STUCK)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_that_beats_is_not_stuck_and_the_silent_one_is_named() {
        let mut hearts = Heartbeats::new(2);
        hearts.began = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        assert_eq!(hearts.stuck().map(|(index, _)| index), Some(0));
        tokio::select! {
            biased;
            () = hearts.clone().run(0) => unreachable!("it never ends"),
            () = std::future::ready(()) => {}
        }
        let (index, silence) = hearts.stuck().unwrap();
        assert_eq!(index, 1);
        assert!(silence >= Duration::from_mins(1));
    }
}
