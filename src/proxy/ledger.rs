//! How much memory the clients of the process make it hold together, and which of them is let go when that is too much.
//!
//! A connection draws from here in steps, so that the calls of one that holds little touch nothing that cores share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::families::CLIENT_MEMORY;

/// A client whose reading made no headway for so long is let go first.
const STALLED: Duration = Duration::from_secs(5);

/// Where there is no room for so long although every client reads, the one that holds most is let go.
const OVERDUE: Duration = Duration::from_secs(30);

/// What the whole process may hold for its clients.
#[derive(Debug)]
pub struct Ledger {
    limit: usize,
    held: AtomicUsize,
    accounts: Mutex<Vec<Weak<Account>>>,
    begun: Instant,
    /// Since when somebody finds no room, in milliseconds since it was begun, and 1; 0: there is room.
    full_since: AtomicU64,
}

/// What one connection has drawn.
#[derive(Debug, Default)]
pub(super) struct Account {
    drawn: AtomicUsize,
    /// Since when it has read nothing of what waits for it, in the ledger's milliseconds, and 1; 0: it reads.
    stalled_since: AtomicU64,
    why: OnceLock<LetGo>,
    told: Notify,
}

/// Why a client is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetGo {
    /// It leaves too much of its streams unread.
    Unread,
    /// The process holds as much as it may, and this client most of it.
    Memory,
    /// It resets calls faster than any client that works.
    Resets,
    /// It is one too many.
    TooMany,
}

impl LetGo {
    pub(super) const ALL: [Self; 4] = [Self::Unread, Self::Memory, Self::Resets, Self::TooMany];

    /// The metric's label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Memory => "memory",
            Self::Resets => "resets",
            Self::TooMany => "too_many",
        }
    }

    /// What the log says.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unread => "it leaves too many streams unread",
            Self::Memory => "all clients hold as much memory as they may, and this one most of what is not read",
            Self::Resets => "it resets calls faster than a client that uses their answers",
            Self::TooMany => "there are too many connections",
        }
    }
}

impl Ledger {
    /// With `limit` bytes for all clients.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            accounts: Mutex::default(),
            begun: Instant::now(),
            full_since: AtomicU64::new(0),
        }
    }

    /// What all clients may hold, bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// An account for a new connection.
    pub(super) fn open(&self) -> Arc<Account> {
        let account = Arc::new(Account::default());
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|known| known.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    pub(super) fn draw(&self, account: &Account, bytes: usize) {
        account.drawn.fetch_add(bytes, Ordering::Relaxed);
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        show(held);
        if held > self.limit {
            self.relieve(0);
        }
    }

    pub(super) fn give_back(&self, account: &Account, bytes: usize) {
        account.drawn.fetch_sub(bytes, Ordering::Relaxed);
        let held = self.held.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes);
        show(held);
        if held <= self.limit {
            self.full_since.store(0, Ordering::Relaxed);
        }
    }

    /// Whether there is room for `bytes` more. If not, a client that stands in the way may be let go.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let has_room = self.held.load(Ordering::Relaxed).saturating_add(bytes) <= self.limit;
        if !has_room {
            self.relieve(bytes);
        }
        has_room
    }

    /// Lets a client go if there is no room for `bytes` more, even when those have left that were told to.
    fn relieve(&self, bytes: usize) {
        let accounts: Vec<_> = {
            let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.iter().filter_map(Weak::upgrade).collect()
        };
        let (leaving, staying): (Vec<_>, Vec<_>) = accounts.iter().partition(|account| account.why.get().is_some());
        let leaving: usize = leaving.iter().map(|account| account.drawn()).sum();
        let held = self.held.load(Ordering::Relaxed).saturating_sub(leaving);
        if held.saturating_add(bytes) <= self.limit {
            return;
        }
        let now = self.now();
        // Whoever was first to find no room has noted when.
        let full_since = match self
            .full_since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => now,
            Err(since) => since,
        };
        let is_overdue = has_passed(full_since, now, OVERDUE);
        let in_the_way = staying
            .into_iter()
            .filter(|account| is_overdue || self.has_stalled(account, STALLED));
        if let Some(most) = in_the_way.max_by_key(|account| account.drawn()) {
            most.let_go(LetGo::Memory);
            self.full_since.store(0, Ordering::Relaxed);
        }
    }

    /// Milliseconds since it was begun, and 1.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |milliseconds| milliseconds.saturating_add(1))
    }

    /// Whether the client of `account` has read nothing of what waits for it for so long.
    pub(super) fn has_stalled(&self, account: &Account, time: Duration) -> bool {
        let since = account.stalled_since.load(Ordering::Relaxed);
        since != 0 && has_passed(since, self.now(), time)
    }

    /// The client of `account` reads nothing of what waits for it, from now on.
    pub(super) fn stalls(&self, account: &Account) {
        account.stalled_since.store(self.now(), Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody needs its last byte")]
fn show(held: usize) {
    metrics::gauge!(CLIENT_MEMORY.name).set(held as f64);
}

fn has_passed(since: u64, now: u64, time: Duration) -> bool {
    u128::from(now.saturating_sub(since)) >= time.as_millis()
}

impl Account {
    /// What it has drawn, bytes.
    pub(super) fn drawn(&self) -> usize {
        self.drawn.load(Ordering::Relaxed)
    }

    /// Its client reads.
    pub(super) fn reads(&self) {
        self.stalled_since.store(0, Ordering::Relaxed);
    }

    /// Has the connection end.
    pub(super) fn let_go(&self, why: LetGo) {
        if self.why.set(why).is_ok() {
            self.told.notify_one();
        }
    }

    /// Resolves when the connection is to end.
    pub(super) async fn is_let_go(&self) -> LetGo {
        loop {
            if let Some(why) = self.why.get() {
                return *why;
            }
            self.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_does_not_read_is_let_go_and_no_other() {
        let ledger = Ledger::new(1000);
        let [reader, idle, hoarder, small] = [700, 10, 200, 90].map(|bytes| {
            let account = ledger.open();
            ledger.draw(&account, bytes);
            account
        });
        let told = || [&reader, &idle, &hoarder, &small].map(|account| account.why.get().copied());
        assert!(ledger.has_room(0));
        assert!(!ledger.has_room(1));
        assert_eq!(told(), [None; 4], "all read");
        for account in [&hoarder, &small] {
            account.stalled_since.store(1, Ordering::Relaxed);
        }
        // Not for long enough, so far.
        assert!(!ledger.has_room(1));
        assert_eq!(told(), [None; 4]);
        let mut ledger = ledger;
        ledger.begun = ledger.begun.checked_sub(STALLED).unwrap();
        assert!(!ledger.has_room(1));
        assert_eq!(told(), [None, None, Some(LetGo::Memory), None]);
        // What it holds is as good as given back; no second one has to go for the same room.
        assert!(!ledger.has_room(200));
        assert_eq!(told(), [None, None, Some(LetGo::Memory), None]);
        ledger.give_back(&hoarder, 200);
        assert!(ledger.has_room(200));
    }

    #[test]
    fn where_all_read_and_there_is_no_room_for_long_the_largest_is_let_go() {
        let mut ledger = Ledger::new(100);
        let [large, small] = [90, 10].map(|bytes| {
            let account = ledger.open();
            ledger.draw(&account, bytes);
            account
        });
        assert!(!ledger.has_room(50));
        ledger.begun = ledger.begun.checked_sub(OVERDUE).unwrap();
        assert!(!ledger.has_room(50));
        assert_eq!(large.why.get(), Some(&LetGo::Memory));
        assert_eq!(small.why.get(), None);
    }
}
