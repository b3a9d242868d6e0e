//! How much memory one client connection may make the process hold, in either direction.
//!
//! A client decides how many calls it opens, how much of each request it sends, and when it reads which answer. HTTP/2's
//! windows bound what lies in a stream, not the messages that are put together from it. What is counted here:
//!
//! - each call, its header list and its request, until the call ends: beyond the bound it is refused;
//! - each answer that is whole, until the client has taken it: beyond the bound the next waits at etcd. So many calls at once
//!   have an answer under way, and those that do not are not sent to etcd;
//! - each stream that the client does not read, with what etcd may send to it meanwhile: beyond the bound the client is let go.
//!
//! Lists and watches have bounds of their own: neither waits for the other. All that is drawn from the process's [`Ledger`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ledger::{Account, Ledger, LetGo};
use super::worker::{CALL_WINDOW, STREAM_WINDOW};
use crate::transport::Backlog;

/// What one connection may hold of each kind, as a part of what all may hold.
const REQUESTS: Part = Part(2, 7);
const ANSWERS: Part = Part(3, 7);
const EVENTS: Part = Part(1, 7);
const STALLED: Part = Part(2, 7);

/// A call without its header list and its messages, bytes: its state here and in HTTP/2, in both directions.
const CALL: usize = 8 * 1024;

/// Answers that one connection may have under way, each with [`CALL_WINDOW`] in HTTP/2's hands. kube-apiserver serves 600
/// requests at once by default, on all of its connections together.
const UNDER_WAY: usize = 512;

/// An event's message of up to this length waits for no other, bytes.
const SMALL_EVENT: usize = 64 * 1024;

/// What a connection may hold without drawing on what all share, and the step in which it draws, bytes.
const FREE: usize = 128 * 1024;
const STEP: usize = 256 * 1024;

/// Unit in which waiting is counted, so that any length is a number of permits.
const UNIT: usize = 1024;

/// From one look whether there is room for all to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A client that leaves too many streams unread has so long to read something.
const READS_NOTHING: Duration = Duration::from_secs(1);

/// Calls that a client may reset at once, and so many a second from then on. A kube-apiserver that restarts its watches resets
/// thousands, once.
const RESETS: u32 = 20_000;
const RESETS_A_SECOND: u32 = 1_000;

#[derive(Clone, Copy)]
struct Part(usize, usize);

impl Part {
    fn of(self, all: usize) -> usize {
        all.checked_div(self.1).unwrap_or_default().saturating_mul(self.0)
    }
}

/// What one client connection may still take up. Clones share it.
#[derive(Clone)]
pub(super) struct Budget(Rc<Shared>);

struct Shared {
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    backlog: Backlog,
    /// All that it holds.
    held: Cell<usize>,
    /// Of that, calls with their requests.
    requests: Cell<usize>,
    /// And streams that are not read.
    stalled: Cell<usize>,
    /// Sends that wait for the client to read.
    waiting: Cell<usize>,
    /// Whether it is being looked at for leaving too much unread.
    judged: Cell<bool>,
    under_way: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    events: Arc<Semaphore>,
    resets: Cell<Resets>,
}

/// Memory taken up; given back when dropped.
pub(super) struct Share {
    of: Rc<Shared>,
    kind: Kind,
    bytes: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Answer,
    Stalled,
}

/// Leave to have an answer under way.
pub(super) struct UnderWay(#[expect(dead_code, reason = "given back when dropped")] Option<OwnedSemaphorePermit>);

/// A send that waits for the client to read, until dropped.
pub(super) struct Waiting(
    Rc<Shared>,
    #[expect(dead_code, reason = "given back when dropped")] Share,
);

impl Budget {
    /// A new connection's, of what all may hold. `backlog` is what lies between its calls and its socket.
    pub(super) fn new(ledger: Arc<Ledger>, backlog: Backlog) -> Self {
        let all = ledger.limit();
        let permits = |part: Part| Arc::new(Semaphore::new(part.of(all).div_ceil(UNIT)));
        Self(Rc::new(Shared {
            account: ledger.open(),
            ledger,
            backlog,
            held: Cell::new(0),
            requests: Cell::new(0),
            stalled: Cell::new(0),
            waiting: Cell::new(0),
            judged: Cell::new(false),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            answers: permits(ANSWERS),
            events: permits(EVENTS),
            resets: Cell::new(Resets::new(Instant::now())),
        }))
    }

    /// Room for a call with a header list of so many bytes; `None` where there is too little.
    pub(super) fn call(&self, headers: usize) -> Option<Share> {
        self.request(CALL.saturating_add(headers))
    }

    /// Room for a request of `bytes`; `None` where there is too little. Requests do not wait for one another: each could
    /// be waiting for window that those before it hold.
    pub(super) fn request(&self, bytes: usize) -> Option<Share> {
        let requests = self.0.requests.get().checked_add(bytes)?;
        if requests > REQUESTS.of(self.0.ledger.limit()) {
            return None;
        }
        // What is within its own needs nobody's room.
        let draws = self.0.held.get().saturating_add(bytes) > FREE;
        if draws && !self.0.ledger.has_room(bytes) {
            return None;
        }
        Some(self.0.share(Kind::Request, bytes, None))
    }

    /// Waits until one more answer may be under way: only then is etcd asked for it.
    pub(super) async fn under_way(&self) -> UnderWay {
        // Fails only where the semaphore is closed, which it never is; so below.
        UnderWay(Arc::clone(&self.0.under_way).acquire_owned().await.ok())
    }

    /// The same without waiting, where one may be at once.
    pub(super) fn try_under_way(&self) -> Option<UnderWay> {
        let permit = Arc::clone(&self.0.under_way).try_acquire_owned().ok()?;
        Some(UnderWay(Some(permit)))
    }

    /// Room for an answer of `bytes`. One that does not fit into the window of its call waits for it, at etcd; one that is
    /// larger than all there is gets all.
    pub(super) async fn answer(&self, bytes: usize) -> Share {
        let window = CALL_WINDOW as usize;
        if bytes <= window {
            return self.0.share(Kind::Answer, bytes, None);
        }
        // As much of it as may be here while it waits.
        let begun = self.0.share(Kind::Answer, window, None);
        let permit = self.0.wait(&self.0.answers, ANSWERS, bytes).await;
        drop(begun);
        self.0.share(Kind::Answer, bytes, permit)
    }

    /// The same for what comes by a stream that lasts.
    pub(super) async fn event(&self, bytes: usize) -> Share {
        if bytes <= SMALL_EVENT {
            return self.0.share(Kind::Answer, bytes, None);
        }
        let begun = self.0.share(Kind::Answer, STREAM_WINDOW as usize, None);
        let permit = self.0.wait(&self.0.events, EVENTS, bytes).await;
        drop(begun);
        self.0.share(Kind::Answer, bytes, permit)
    }

    /// Notes that a send waits for the client to read, while up to `bytes` come in for it.
    pub(super) fn waits(&self, bytes: usize) -> Waiting {
        let shared = &self.0;
        shared.waiting.set(shared.waiting.get().saturating_add(1));
        if shared.waiting.get() == 1 {
            shared.ledger.stalls(&shared.account);
        }
        let share = shared.share(Kind::Stalled, bytes, None);
        if shared.is_unread() && !shared.judged.replace(true) {
            tokio::task::spawn_local(judge(Rc::clone(shared)));
        }
        Waiting(Rc::clone(shared), share)
    }

    /// What lies between calls and socket.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.0.backlog
    }

    /// The client has reset a call.
    pub(super) fn has_reset(&self) {
        let mut resets = self.0.resets.get();
        if !resets.one_more(Instant::now()) {
            self.0.account.let_go(LetGo::Resets);
        }
        self.0.resets.set(resets);
    }

    /// Resolves when the connection is to end.
    pub(super) async fn is_let_go(&self) -> LetGo {
        self.0.account.is_let_go().await
    }
}

/// Lets the client go once it leaves too much unread and reads nothing of it. One that reads on, however much there is, stays.
async fn judge(shared: Rc<Shared>) {
    while shared.is_unread() {
        if shared.ledger.has_stalled(&shared.account, READS_NOTHING) {
            shared.account.let_go(LetGo::Unread);
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    shared.judged.set(false);
}

impl Waiting {
    /// The client has read some.
    pub(super) fn moves(&self) {
        self.0.ledger.stalls(&self.0.account);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.0.waiting.get().saturating_sub(1);
        self.0.waiting.set(left);
        if left == 0 {
            self.0.account.reads();
        }
    }
}

impl Shared {
    /// Whether too many streams are left unread.
    fn is_unread(&self) -> bool {
        self.stalled.get() > STALLED.of(self.ledger.limit())
    }

    fn share(self: &Rc<Self>, kind: Kind, bytes: usize, permit: Option<OwnedSemaphorePermit>) -> Share {
        let add = |count: &Cell<usize>| count.set(count.get().saturating_add(bytes));
        match kind {
            Kind::Request => add(&self.requests),
            Kind::Stalled => add(&self.stalled),
            Kind::Answer => {}
        }
        add(&self.held);
        self.settle();
        Share {
            of: Rc::clone(self),
            kind,
            bytes,
            _permit: permit,
        }
    }

    /// Draws what it holds beyond its own, and gives back what it no longer does.
    fn settle(&self) {
        let (drawn, held) = (self.account.drawn(), self.held.get());
        let over = held.saturating_sub(FREE);
        if over > drawn {
            let bytes = over.saturating_sub(drawn).next_multiple_of(STEP);
            self.ledger.draw(&self.account, bytes);
        } else if drawn > over.saturating_add(2 * STEP) || over == 0 && drawn > 0 {
            self.ledger
                .give_back(&self.account, drawn.saturating_sub(over.next_multiple_of(STEP)));
        }
    }

    /// Waits for room for `bytes` among its own, and then among all.
    async fn wait(&self, own: &Arc<Semaphore>, part: Part, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let most = part.of(self.ledger.limit());
        let bytes = bytes.min(most);
        let permits = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(own).acquire_many_owned(permits).await;
        while !self.ledger.has_room(bytes) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        permit.ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.ledger.give_back(&self.account, self.account.drawn());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let less = |count: &Cell<usize>| count.set(count.get().saturating_sub(self.bytes));
        match self.kind {
            Kind::Request => less(&self.of.requests),
            Kind::Stalled => less(&self.of.stalled),
            Kind::Answer => {}
        }
        less(&self.of.held);
        self.of.settle();
    }
}

/// Resets that a client may still make.
#[derive(Clone, Copy)]
struct Resets {
    left: u32,
    since: Instant,
}

impl Resets {
    fn new(now: Instant) -> Self {
        Self {
            left: RESETS,
            since: now,
        }
    }

    /// Whether there was one left.
    fn one_more(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.since).as_secs_f64() * f64::from(RESETS_A_SECOND);
        if more >= 1.0 {
            // What is more than there can be is cut off.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "no more than RESETS"
            )]
            let more = more.min(f64::from(RESETS)) as u32;
            self.left = self.left.saturating_add(more).min(RESETS);
            self.since = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn budget(ledger: &Arc<Ledger>) -> Budget {
        Budget::new(Arc::clone(ledger), Backlog::default())
    }

    fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn requests_are_refused_beyond_the_budget_and_accepted_again_once_others_end() {
        let ledger = Arc::new(Ledger::new(70 * MIB));
        let budget = budget(&ledger);
        let most = budget.request(20 * MIB - 10).expect("room");
        assert!(budget.request(11).is_none());
        let rest = budget.request(10).expect("room");
        assert!(budget.request(1).is_none() && budget.call(0).is_none());
        drop(most);
        assert!(budget.request(20 * MIB - 10).is_some());
        drop(rest);
        assert!(budget.request(20 * MIB).is_some());
    }

    #[tokio::test]
    async fn answers_wait_beyond_the_budget_and_events_do_not_wait_for_them() {
        let ledger = Arc::new(Ledger::new(70 * MIB));
        let budget = budget(&ledger);
        let first = poll(budget.answer(3 * MIB)).expect("room");
        assert!(poll(budget.answer(usize::MAX)).is_none());
        drop(first);
        let all = poll(budget.answer(30 * MIB)).expect("room");
        assert!(poll(budget.answer(CALL_WINDOW as usize + 1)).is_none());
        assert!(poll(budget.answer(CALL_WINDOW as usize)).is_some());
        let event = poll(budget.event(10 * MIB)).expect("room");
        assert!(poll(budget.event(SMALL_EVENT + 1)).is_none());
        assert!(poll(budget.event(SMALL_EVENT)).is_some());
        drop((all, event));
        assert!(poll(budget.answer(30 * MIB)).is_some());
    }

    #[test]
    fn what_one_connection_holds_is_drawn_from_all_and_given_back() {
        let ledger = Arc::new(Ledger::new(70 * MIB));
        let (one, other) = (budget(&ledger), budget(&ledger));
        let little = one.request(FREE).expect("room");
        assert_eq!(one.0.account.drawn(), 0);
        let all: Vec<_> = (0..4).map(|_| budget(&ledger)).collect();
        let shares: Vec<_> = all
            .iter()
            .map(|budget| budget.request(16 * MIB).expect("room"))
            .collect();
        assert!(other.request(16 * MIB).is_none(), "there is no room for all of them");
        assert!(other.request(FREE).is_some(), "what is its own is always there");
        drop(shares);
        assert!(other.request(16 * MIB).is_some());
        drop((little, one, all));
        assert_eq!(other.0.account.drawn(), 0);
        assert!(ledger.has_room(70 * MIB), "all is given back");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_client_that_leaves_too_many_streams_unread_is_let_go_unless_it_reads_on() {
        let ledger = Arc::new(Ledger::new(7 * MIB));
        let budget = budget(&ledger);
        let second = || tokio::time::sleep(READS_NOTHING + LOOK_AGAIN);
        let unread: Vec<_> = (0..16).map(|_| budget.waits(MIB / 8)).collect();
        second().await;
        assert!(poll(budget.is_let_go()).is_none(), "not too many");
        let one_more = budget.waits(1);
        for _ in 0..100 {
            one_more.moves();
            tokio::time::sleep(READS_NOTHING / 2).await;
        }
        assert!(poll(budget.is_let_go()).is_none(), "it reads");
        drop(unread);
        second().await;
        let _unread: Vec<_> = (0..16).map(|_| budget.waits(MIB / 8)).collect();
        second().await;
        assert_eq!(poll(budget.is_let_go()), Some(LetGo::Unread));
    }

    #[test]
    fn resets_are_counted_over_time() {
        let now = Instant::now();
        let mut resets = Resets::new(now);
        assert!((0..RESETS).all(|_| resets.one_more(now)));
        assert!(!resets.one_more(now));
        let later = now + Duration::from_secs(1);
        assert!((0..RESETS_A_SECOND).all(|_| resets.one_more(later)));
        assert!(!resets.one_more(later));
        let much_later = later + Duration::from_secs(3600);
        assert!((0..RESETS).all(|_| resets.one_more(much_later)));
        assert!(!resets.one_more(much_later));
    }
}
