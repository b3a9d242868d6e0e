//! Waits for trouble to pass, with a bound that the operator sets. One for reads and one for writes: a store without space
//! answers every read.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use super::{Error, Observer};
use crate::etcd::{CallError, Trouble};

/// Wait before the first new attempt, and what it doubles to.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Nothing that failed so long ago, and was not tried again, is the same trouble: what failed then may have been settled
/// otherwise, a key deleted, say, and nothing been tried since. Longer than any call may take.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// Between two words to the operator about the same trouble.
const NOTICE_EVERY: Duration = Duration::from_secs(30);

/// How long nothing has worked.
pub(super) struct Patience {
    max_wait: Duration,
    what: &'static str,
    observer: Arc<dyn Observer>,
    /// Since when.
    since: Cell<Option<Instant>>,
    /// When something last failed.
    failed: Cell<Option<Instant>>,
    noticed: Cell<Option<Instant>>,
}

/// One call's attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Patience {
    pub(super) fn new(what: &'static str, max_wait: Duration, observer: Arc<dyn Observer>) -> Self {
        Self {
            max_wait,
            what,
            observer,
            since: Cell::new(None),
            failed: Cell::new(None),
            noticed: Cell::new(None),
        }
    }

    /// Something worked.
    pub(super) fn worked(&self) {
        if self.since.take().is_some() && self.noticed.take().is_some() {
            self.observer.notice(&format!("{} goes on", self.what));
        }
    }

    /// Waits until the call that failed with `error` may be made again.
    ///
    /// # Errors
    /// Nothing has worked for too long, or waiting does not help.
    pub(super) async fn after(&self, error: CallError, attempts: &mut Attempts) -> Result<(), Error> {
        let trouble = error.trouble();
        if !trouble.is_passing() {
            return Err(Error::Call(error));
        }
        let hint = match trouble {
            Trouble::NoSpace => "; make room (compact, defragment, `etcdctl alarm disarm`) or raise etcd's quota",
            _ => "",
        };
        self.wait(&format!("{error}{hint}"), attempts).await
    }

    /// The same for trouble that is not etcd's.
    pub(super) async fn wait(&self, why: &str, Attempts(attempts): &mut Attempts) -> Result<(), Error> {
        let now = Instant::now();
        let failed = self.failed.replace(Some(now));
        if *attempts == 0 && failed.is_some_and(|failed| now - failed > FORGOTTEN) {
            self.since.set(None);
        }
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        let after = now - since;
        if after >= self.max_wait {
            return Err(Error::GaveUp {
                after,
                last: why.to_owned(),
            });
        }
        // The first attempts are nobody's concern.
        let is_due = self.noticed.get().is_none_or(|noticed| now - noticed >= NOTICE_EVERY);
        if is_due && *attempts >= 2 {
            self.noticed.set(Some(now));
            self.observer.notice(&format!("{} waits: {why}", self.what));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << (*attempts).min(10)).min(LONGEST_WAIT);
        *attempts += 1;
        // Jitter, so that the writes under way do not all come back at once.
        let wait = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
        sleep(wait.min(self.max_wait.saturating_sub(after))).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::sweep::Progress;

    struct Silent;

    impl Observer for Silent {
        fn notice(&self, _text: &str) {}
        fn progress(&self, _progress: &Progress) {}
    }

    const MAX_WAIT: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn trouble_is_waited_for_so_long_and_no_longer() {
        let patience = Patience::new("writing", MAX_WAIT, Arc::new(Silent));
        let (began, mut attempts) = (Instant::now(), Attempts::default());
        let error = loop {
            if let Err(error) = patience.wait("no", &mut attempts).await {
                break error;
            }
        };
        assert!(matches!(error, Error::GaveUp { .. }));
        assert_eq!(began.elapsed(), MAX_WAIT);
    }

    /// Such as a write that failed once, and whose key was gone when it was looked at.
    #[tokio::test(start_paused = true)]
    async fn a_failure_that_nobody_tried_to_mend_is_not_counted_from() {
        let patience = Patience::new("writing", MAX_WAIT, Arc::new(Silent));
        patience.wait("no", &mut Attempts::default()).await.unwrap();
        advance(2 * MAX_WAIT).await;
        patience.wait("no", &mut Attempts::default()).await.unwrap();
    }
}
