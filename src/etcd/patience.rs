//! Waits for trouble to pass, with a bound that the operator sets. One for reads and one for writes: a store without space
//! answers every read.

use std::cell::Cell;
use std::time::Duration;

use rand::RngExt as _;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::{CallError, Trouble};

/// Wait before the first new attempt, and what it doubles to.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Nothing that failed so long ago, and was not tried again, is the same trouble: what failed then may have been settled
/// otherwise, a key deleted, say, and nothing been tried since. Longer than any call may take.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// Between two words to the operator about the same trouble.
const NOTICE_EVERY: Duration = Duration::from_secs(30);

/// How long nothing has worked.
pub struct Patience {
    what: &'static str,
    max_wait: Duration,
    notice: Box<dyn Fn(&str)>,
    /// Since when.
    since: Cell<Option<Instant>>,
    /// When something last failed.
    failed: Cell<Option<Instant>>,
    noticed: Cell<Option<Instant>>,
}

/// One call's attempts.
#[derive(Debug, Default)]
pub struct Attempts(u32);

/// Trouble that is not waited for, or no longer.
#[derive(Clone, Debug, Error)]
pub enum WaitError {
    /// An answer that waiting does not change.
    #[error(transparent)]
    Call(CallError),
    /// What should have passed did not.
    #[error("gave up after {} s: {last}", after.as_secs())]
    GaveUp {
        /// How long nothing worked.
        after: Duration,
        /// What was wrong when it was given up.
        last: String,
    },
}

impl Patience {
    /// For `what`, such as "writing"; `notice` is told when that waits, and when it goes on.
    pub fn new(what: &'static str, max_wait: Duration, notice: impl Fn(&str) + 'static) -> Self {
        Self {
            what,
            max_wait,
            notice: Box::new(notice),
            since: Cell::new(None),
            failed: Cell::new(None),
            noticed: Cell::new(None),
        }
    }

    /// The answer to a call, which is made until there is one.
    ///
    /// # Errors
    /// Nothing has worked for too long, or waiting does not help.
    pub async fn call<T>(&self, mut call: impl AsyncFnMut() -> Result<T, CallError>) -> Result<T, WaitError> {
        let mut attempts = Attempts::default();
        loop {
            let began = Instant::now();
            match call().await {
                Ok(answer) => {
                    self.worked();
                    return Ok(answer);
                }
                Err(error) => self.after_from(began, error, &mut attempts).await?,
            }
        }
    }

    /// Something worked.
    pub fn worked(&self) {
        if self.since.take().is_some() && self.noticed.take().is_some() {
            (self.notice)(&format!("{} goes on", self.what));
        }
    }

    /// Waits until the call that failed with `error` may be made again.
    ///
    /// # Errors
    /// Nothing has worked for too long, or waiting does not help.
    pub async fn after(&self, error: CallError, attempts: &mut Attempts) -> Result<(), WaitError> {
        self.after_from(Instant::now(), error, attempts).await
    }

    async fn after_from(&self, began: Instant, error: CallError, attempts: &mut Attempts) -> Result<(), WaitError> {
        let trouble = error.trouble();
        if !trouble.is_passing() {
            return Err(WaitError::Call(error));
        }
        let hint = match trouble {
            Trouble::NoSpace => "; make room (compact, defragment, `etcdctl alarm disarm`) or raise etcd's quota",
            _ => "",
        };
        self.wait_from(began, &format!("{error}{hint}"), attempts).await
    }

    /// The same for trouble that is not etcd's.
    ///
    /// # Errors
    /// Nothing has worked for too long.
    pub async fn wait(&self, why: &str, attempts: &mut Attempts) -> Result<(), WaitError> {
        self.wait_from(Instant::now(), why, attempts).await
    }

    /// The first call that failed began then: what it took counts as waiting.
    async fn wait_from(&self, began: Instant, why: &str, Attempts(attempts): &mut Attempts) -> Result<(), WaitError> {
        let now = Instant::now();
        let failed = self.failed.replace(Some(now));
        if *attempts == 0 && failed.is_some_and(|failed| now - failed > FORGOTTEN) {
            self.since.set(None);
        }
        let since = self.since.get().unwrap_or(began);
        self.since.set(Some(since));
        let after = now - since;
        if after >= self.max_wait {
            return Err(WaitError::GaveUp {
                after,
                last: why.to_owned(),
            });
        }
        // The first attempts are nobody's concern.
        let is_due = self.noticed.get().is_none_or(|noticed| now - noticed >= NOTICE_EVERY);
        if is_due && *attempts >= 2 {
            self.noticed.set(Some(now));
            (self.notice)(&format!("{} waits: {why}", self.what));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << (*attempts).min(10)).min(LONGEST_WAIT);
        *attempts += 1;
        sleep(jittered(wait).min(self.max_wait.saturating_sub(after))).await;
        Ok(())
    }
}

/// Between half of `wait` and all of it, so that those who wait for the same do not all come back at once: the writes of a
/// sweep, the proxies of a cluster.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn trouble_is_waited_for_so_long_and_no_longer() {
        let patience = Patience::new("writing", MAX_WAIT, |_| {});
        let (began, mut attempts) = (Instant::now(), Attempts::default());
        let error = loop {
            if let Err(error) = patience.wait("no", &mut attempts).await {
                break error;
            }
        };
        assert!(matches!(error, WaitError::GaveUp { .. }));
        assert_eq!(began.elapsed(), MAX_WAIT);
    }

    /// A call that waits for a member itself may take all the time that there is.
    #[tokio::test(start_paused = true)]
    async fn what_a_call_takes_before_it_fails_is_waited_for_too() {
        let patience = Patience::new("reading", MAX_WAIT, |_| {});
        let began = Instant::now();
        let call = async || {
            sleep(MAX_WAIT).await;
            Err::<(), _>(CallError::Timeout {
                rpc: "KV/Range",
                after: MAX_WAIT,
            })
        };
        let error = patience.call(call).await.unwrap_err();
        assert!(matches!(error, WaitError::GaveUp { .. }), "{error}");
        assert_eq!(began.elapsed(), MAX_WAIT);
    }

    /// Such as a write that failed once, and whose key was gone when it was looked at.
    #[tokio::test(start_paused = true)]
    async fn a_failure_that_nobody_tried_to_mend_is_not_counted_from() {
        let patience = Patience::new("writing", MAX_WAIT, |_| {});
        patience.wait("no", &mut Attempts::default()).await.unwrap();
        advance(2 * MAX_WAIT).await;
        patience.wait("no", &mut Attempts::default()).await.unwrap();
    }
}
