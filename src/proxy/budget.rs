//! How much memory the messages of one client connection may take up at once, in either direction.
//!
//! A client decides how many calls it opens, how much of each request it sends, and when it reads which answer. HTTP/2's
//! windows bound what lies in a stream, not the messages that are put together from it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that one client connection may have under way, bytes. Far above what kube-apiserver can: it serves 200 writes
/// at once by default, of at most 1.5 MiB each.
const REQUESTS: usize = 512 * 1024 * 1024;

/// Answers that one client connection may have waiting to be read, bytes: some large lists.
const ANSWERS: usize = 512 * 1024 * 1024;

/// Answers up to this length are not counted: what is remembered of a call is of the same order.
const SMALL_ANSWER: usize = 16 * 1024;

/// Unit in which answers are counted, so that any length is a number of permits.
const UNIT: usize = 1024;

/// What one client connection may still take up. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    requests: Rc<Cell<usize>>,
    answers: Arc<Semaphore>,
}

/// Memory taken up; given back when dropped.
#[derive(Debug)]
pub(super) enum Share {
    /// By a request.
    Request {
        /// The connection's room, less this one's.
        room: Rc<Cell<usize>>,
        /// What this one takes of it.
        bytes: usize,
    },
    /// By an answer; `None` for a small one.
    Answer {
        /// Given back with this.
        _share: Option<OwnedSemaphorePermit>,
    },
}

impl Budget {
    /// A new connection's.
    pub(super) fn new() -> Self {
        Self {
            requests: Rc::new(Cell::new(REQUESTS)),
            answers: Arc::new(Semaphore::new(ANSWERS / UNIT)),
        }
    }

    /// Room for a request of `bytes`; `None` where there is too little. Requests do not wait for one another: each could
    /// be waiting for window that those before it hold.
    pub(super) fn request(&self, bytes: usize) -> Option<Share> {
        self.requests.set(self.requests.get().checked_sub(bytes)?);
        Some(Share::Request {
            room: Rc::clone(&self.requests),
            bytes,
        })
    }

    /// Waits for room for an answer of `bytes`: etcd keeps it until then. One that is larger than all there is gets all.
    pub(super) async fn answer(&self, bytes: usize) -> Share {
        if bytes <= SMALL_ANSWER {
            return Share::Answer { _share: None };
        }
        let permits = u32::try_from(bytes.min(ANSWERS).div_ceil(UNIT)).unwrap_or(u32::MAX);
        // Fails only where the semaphore is closed, which it never is.
        let share = Arc::clone(&self.answers).acquire_many_owned(permits).await;
        Share::Answer { _share: share.ok() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Self::Request { room, bytes } = self {
            room.set(room.get().saturating_add(*bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn requests_are_refused_beyond_the_budget_and_accepted_again_once_others_end() {
        let budget = Budget::new();
        let most = budget.request(REQUESTS - 10).expect("room");
        assert!(budget.request(11).is_none());
        let rest = budget.request(10).expect("room");
        assert!(budget.request(1).is_none());
        drop(most);
        assert!(budget.request(REQUESTS - 10).is_some());
        drop(rest);
        assert!(budget.request(REQUESTS).is_some());
    }

    #[test]
    fn answers_wait_beyond_the_budget_and_the_largest_gets_all_of_it() {
        let budget = Budget::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |bytes| match std::pin::pin!(budget.answer(bytes)).poll(&mut context) {
            Poll::Ready(share) => Some(share),
            Poll::Pending => None,
        };
        let first = poll(SMALL_ANSWER + 1).expect("room");
        assert!(poll(usize::MAX).is_none());
        drop(first);
        let all = poll(usize::MAX).expect("room");
        assert!(poll(SMALL_ANSWER + 1).is_none());
        assert!(poll(SMALL_ANSWER).is_some());
        drop(all);
        assert!(poll(SMALL_ANSWER + 1).is_some());
    }
}
