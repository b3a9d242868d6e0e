//! How long a process may write under a right that it has, by its own clock: not up to the end of its lease, so that what
//! is under way then has been answered when somebody else begins.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

use crate::etcd::lease::usable;
use crate::types::BootInstant;

/// How long this process may write.
#[derive(Debug, Default)]
pub struct Term {
    /// `None`: for ever.
    until: Cell<Option<BootInstant>>,
    extended: Notify,
}

impl Term {
    /// For what writes nothing.
    pub fn open() -> Self {
        Self::default()
    }

    /// Of a lease that was asked for at `sent`, and lives for `ttl`.
    pub(super) fn of(sent: BootInstant, ttl: Duration) -> Self {
        let term = Self::default();
        term.extend(sent, ttl);
        term
    }

    /// Waits while the lease could have ended, by this process's own clock: until etcd has said that it lives. Where it
    /// does not, [`Owner::keep`](super::Owner::keep) ends; whoever waits here is to end with it.
    pub async fn passed(&self) {
        loop {
            let extended = self.extended.notified();
            if self.is_open() {
                return;
            }
            extended.await;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.get().is_none_or(|until| BootInstant::now() < until)
    }

    /// The lease lives for `ttl` from some moment after `sent`.
    pub(super) fn extend(&self, sent: BootInstant, ttl: Duration) {
        self.until.set(Some(sent.after(usable(ttl))));
        self.extended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_closes_before_the_lease_could_end_and_opens_when_that_lives_on() {
        let ttl = Duration::from_secs(15);
        let term = Term::of(BootInstant::now(), ttl);
        advance(Duration::from_millis(12_999)).await;
        term.passed().await;
        advance(Duration::from_millis(1)).await;
        timeout(Duration::from_secs(3_600), term.passed()).await.unwrap_err();
        let extended = async { term.extend(BootInstant::now(), ttl) };
        tokio::join!(term.passed(), extended);
        Term::open().passed().await;
    }
}
