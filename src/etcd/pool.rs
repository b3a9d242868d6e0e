//! The connection that requests of one kind share within one runtime, and the move to the next member when it fails.
//!
//! A pool keeps one connection open at all times. It never replays a request: that is decided where the request is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::connection::{Connection, Driver, NotEtcd, OpenError};
use super::kind::KnownKind;
use super::meters::{self, Left, MemberMeter};
use super::patience::jittered;
use super::probe;
use crate::transport::{Dialer, Endpoint, Flusher};
use crate::types::{Backoff, with_causes};

/// How long a request waits for a member before it is answered UNAVAILABLE. etcd's own client waits until the caller's
/// deadline; a bound is needed for callers without one.
const WAIT_FOR_MEMBER: Duration = Duration::from_secs(30);

/// A connection that lived this long has proved itself: it is replaced at once.
const PROVEN_AFTER: Duration = Duration::from_secs(5);

/// The wait after one that did not: short, since the member has been reached and calls wait.
const AFTER_LOSS: Duration = Duration::from_millis(20);

/// From one line in the log about connections that were lost to the next.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Wait after the first dial that failed, and what it doubles to.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// While no pool of the process has a connection, one of them waits no longer than this, and the others follow it: what is away
/// may be the only member that clients can reach by way of this process, and they notice each second that it is found late. One
/// for all, because a process has two pools for each core.
const SCOUT_WAIT: Duration = Duration::from_millis(250);

/// How soon a member has to answer of which another connection of the process has heard nothing any more. Short, for calls wait;
/// of one that is only slow another connection is opened, and the calls on this one go on.
const ANSWER_OF_A_SUSPECT: Duration = Duration::from_millis(100);

/// Between two questions to a member whether it has a leader, where there is another member to go to.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The members, in the order in which they are tried.
    pub members: Arc<[Dialer]>,
    /// Index of the member to begin with, so that the runtimes of a process spread over the members.
    pub first: usize,
    /// Told of connections opened and lost, for readiness.
    pub reachability: Arc<Reachability>,
    /// What kind of store they are, once that is known.
    pub kind: Arc<KnownKind>,
}

/// How many pools of the process have a connection, of how many.
#[derive(Debug, Default)]
pub struct Reachability {
    connected: AtomicUsize,
    pools: AtomicUsize,
    changed: watch::Sender<()>,
    /// Whether nobody is to wait for a member.
    given_up: watch::Sender<bool>,
    /// Whether a pool waits for less than the others do.
    has_scout: AtomicBool,
    /// How often each member has been found to be silent.
    silent: watch::Sender<Vec<u64>>,
    /// Members that are proxies like this one, by their endpoints, as of when they were last reached.
    proxies: watch::Sender<BTreeMap<String, NotEtcd>>,
}

/// The right to wait for no longer than [`SCOUT_WAIT`], which one pool has at a time.
struct Scout<'a>(&'a AtomicBool);

impl Drop for Scout<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Reachability {
    /// Waits until a pool has a connection, or none has.
    pub async fn is(&self, reachable: bool) {
        let mut changed = self.changed.subscribe();
        while self.is_reachable() != reachable {
            // The sender is this one's own.
            let _ = changed.changed().await;
        }
    }

    /// Has everybody who waits for a member told that there is none, or wait again from now on.
    pub fn give_up(&self, given_up: bool) {
        self.given_up.send_replace(given_up);
    }

    /// Waits until each of so many members has turned out to be a proxy, and gives one of them.
    pub async fn misdirected(&self, members: &[Dialer]) -> NotEtcd {
        let mut proxies = self.proxies.subscribe();
        loop {
            if let Some(one) = self.proxy_among(members) {
                return one;
            }
            // The sender is this one's own.
            let _ = proxies.changed().await;
        }
    }

    /// One of `members`, if all of them are proxies.
    fn proxy_among(&self, members: &[Dialer]) -> Option<NotEtcd> {
        let proxies = self.proxies.borrow();
        let mut found = members.iter().map(|member| proxies.get(&member.endpoint().to_string()));
        let first = found.next()??.clone();
        found.all(|proxy| proxy.is_some()).then_some(first)
    }

    /// Notes what was reached at `endpoint`.
    fn met(&self, endpoint: &Endpoint, proxy: Option<NotEtcd>) {
        let endpoint = endpoint.to_string();
        self.proxies.send_if_modified(|proxies| match proxy {
            Some(proxy) => proxies.insert(endpoint, proxy).is_none(),
            None => proxies.remove(&endpoint).is_some(),
        });
    }

    fn is_reachable(&self) -> bool {
        self.connected.load(Ordering::Relaxed) > 0
    }

    fn scout(&self) -> Option<Scout<'_>> {
        (!self.has_scout.swap(true, Ordering::Relaxed)).then(|| Scout(&self.has_scout))
    }

    /// A connection to the member of this index was lost because nothing was heard of it.
    fn tell_of_silence(&self, member: usize) {
        self.silent.send_modify(|times| {
            times.resize(times.len().max(member + 1), 0);
            if let Some(times) = times.get_mut(member) {
                *times += 1;
            }
        });
    }

    /// Waits until that is told of this member.
    async fn is_silent(&self, member: usize) {
        let times = |times: &Vec<u64>| times.get(member).copied().unwrap_or(0);
        let mut silent = self.silent.subscribe();
        let before = times(&silent.borrow());
        // The sender is this one's own.
        let _ = silent.wait_for(|now| times(now) != before).await;
    }

    /// Waits before a pool dials again: `wait` or, while no pool has a connection, until one has, and less for a scout.
    async fn pause(&self, wait: Duration) {
        if self.is_reachable() {
            return tokio::time::sleep(jittered(wait)).await;
        }
        let scout = self.scout();
        let wait = if scout.is_some() { wait.min(SCOUT_WAIT) } else { wait };
        tokio::select! {
            () = tokio::time::sleep(jittered(wait)) => {}
            () = self.is(true) => {}
        }
    }

    fn count(&self, one_more: bool) {
        if one_more {
            self.connected.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
        self.changed.send_replace(());
    }

    /// Pools with a connection, and pools in all.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.connected.load(Ordering::Relaxed),
            self.pools.load(Ordering::Relaxed),
        )
    }
}

/// No member could be reached in time.
#[derive(Clone, Debug, Error)]
#[error("no etcd member reachable: {last}")]
pub struct Unreachable {
    last: String,
    /// Whether all that is there is proxies like this one, which no waiting changes.
    pub is_proxy: bool,
    /// Whether it was not waited for, because nobody is to.
    pub is_given_up: bool,
}

/// A connection to some member, replaced when it fails.
pub struct Pool {
    config: Config,
    stream_window: u32,
    flusher: Flusher,
    current: RefCell<Option<Connection>>,
    changed: Notify,
    /// Asks the keeper to drop the connection of this id.
    discarded: RefCell<Option<(u64, Left)>>,
    discard: Notify,
    last_failure: RefCell<String>,
    next_id: Cell<u64>,
}

impl Pool {
    /// A pool of the current runtime; it connects at once and stays connected for as long as the runtime lives.
    ///
    /// `stream_window` is the flow-control window of each call, bytes: what an answer that nobody reads leaves in memory.
    pub fn spawn(config: Config, stream_window: u32, flusher: Flusher) -> Rc<Self> {
        config.reachability.pools.fetch_add(1, Ordering::Relaxed);
        let pool = Rc::new(Self {
            config,
            stream_window,
            flusher,
            current: RefCell::new(None),
            changed: Notify::new(),
            discarded: RefCell::new(None),
            discard: Notify::new(),
            last_failure: RefCell::new("not connected yet".to_owned()),
            next_id: Cell::new(0),
        });
        tokio::task::spawn_local(Rc::clone(&pool).keep_connected());
        pool
    }

    /// What kind of store its members are, once that is known.
    pub(super) fn kind(&self) -> &KnownKind {
        &self.config.kind
    }

    /// The connection to send the next request on, as soon as there is one.
    pub async fn connection(&self) -> Result<Connection, Unreachable> {
        self.connection_within(WAIT_FOR_MEMBER).await
    }

    /// The same for somebody who waits no longer than `time`, nor than anybody does.
    pub async fn connection_within(&self, time: Duration) -> Result<Connection, Unreachable> {
        if let Some(connection) = self.current.borrow().as_ref() {
            return Ok(connection.clone());
        }
        let connected = async {
            loop {
                let changed = self.changed.notified();
                if let Some(connection) = self.current.borrow().as_ref() {
                    return connection.clone();
                }
                changed.await;
            }
        };
        let mut given_up = self.config.reachability.given_up.subscribe();
        tokio::select! {
            biased;
            connection = connected => Ok(connection),
            _ = given_up.wait_for(|given_up| *given_up) => Err(self.unreachable(true)),
            proxy = self.config.reachability.misdirected(&self.config.members) => Err(Unreachable {
                is_proxy: true,
                is_given_up: false,
                last: proxy.to_string(),
            }),
            () = tokio::time::sleep(time.min(WAIT_FOR_MEMBER)) => Err(self.unreachable(false)),
        }
    }

    fn unreachable(&self, is_given_up: bool) -> Unreachable {
        Unreachable {
            is_given_up,
            is_proxy: false,
            last: self.last_failure.borrow().clone(),
        }
    }

    /// Takes `connection` out of use where `error`, met by a call on it, is the connection's and not the call's own.
    pub fn discard_after(&self, connection: &Connection, error: &h2::Error) {
        if !error.is_reset() {
            self.discard(connection, Left::call_failed(error));
        }
    }

    /// Takes `connection` out of use: it failed, or its member said that it is going away. Calls under way on it go on.
    fn discard(&self, connection: &Connection, why: Left) {
        let is_current = self
            .current
            .borrow()
            .as_ref()
            .is_some_and(|current| current.id() == connection.id());
        if is_current {
            *self.discarded.borrow_mut() = Some((connection.id(), why));
            self.current.replace(None);
            self.discard.notify_one();
        }
    }

    /// Goes to the next member because this one can't serve, having lost its leader, say. Stays where there is no other.
    pub fn move_on(&self, connection: &Connection, why: &str) {
        if self.config.members.len() > 1 {
            self.discard(connection, Left::CannotServe(why.to_owned()));
        }
    }

    async fn keep_connected(self: Rc<Self>) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told: Option<Instant> = None;
        let bytes = meters::bytes();
        let meters: Vec<_> = self
            .config
            .members
            .iter()
            .map(|dialer| MemberMeter::new(dialer.endpoint()))
            .collect();
        let mut told_of = vec![None::<Instant>; meters.len()];
        let members = self.config.members.iter().zip(&meters).enumerate();
        for (index, (dialer, meter)) in members
            .cycle()
            .skip(self.config.first % self.config.members.len().max(1))
        {
            let id = self.next_id.replace(self.next_id.get() + 1);
            match Connection::open(dialer, &self.flusher, &bytes, self.stream_window, id).await {
                Ok((connection, driver)) => {
                    self.config.reachability.met(dialer.endpoint(), None);
                    let since = Instant::now();
                    meter.connects.increment(1);
                    meter.connections.increment(1);
                    let why = self.serve_until_lost(index, connection, driver).await;
                    meter.connections.decrement(1);
                    meter.left(&why);
                    if matches!(why, Left::Silent(_)) {
                        self.config.reachability.tell_of_silence(index);
                    }
                    if told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES) {
                        tracing::warn!(endpoint = %dialer.endpoint(), reason = %why, "left an etcd member");
                        told = Some(Instant::now());
                    }
                    self.last_failure.replace(format!("{}: {why}", dialer.endpoint()));
                    if since.elapsed() >= PROVEN_AFTER {
                        backoff.reset();
                        continue;
                    }
                    // A cluster without a leader has members that are reached and serve nothing: each is gone back to less and less
                    // often, as one that is not reached.
                    if why.is_loss() {
                        backoff.reset();
                        tokio::time::sleep(jittered(AFTER_LOSS)).await;
                        continue;
                    }
                }
                Err(error) => {
                    meter.connect_failures.increment(1);
                    let proxy = match &error {
                        OpenError::Proxy(proxy) => Some(proxy.clone()),
                        _ => None,
                    };
                    let error = with_causes(&error);
                    if proxy.is_some() {
                        self.config.reachability.met(dialer.endpoint(), proxy);
                    }
                    // Of each member, as often as it is dialed by those that are no scout.
                    if self.config.reachability.proxy_among(&self.config.members).is_some() {
                        // Whoever waits for a member is told, and says so.
                        tracing::debug!(endpoint = %dialer.endpoint(), %error, "no member is etcd");
                    } else if let Some(told) = told_of.get_mut(index)
                        && told.is_none_or(|told| told.elapsed() >= LONGEST_WAIT)
                    {
                        tracing::warn!(endpoint = %dialer.endpoint(), %error, "etcd member not reached");
                        *told = Some(Instant::now());
                    }
                    self.last_failure.replace(error);
                }
            }
            self.config.reachability.pause(backoff.step()).await;
        }
    }

    /// Offers `connection` to callers until it ends or is discarded; says why. `member` is the index of its member.
    async fn serve_until_lost(&self, member: usize, connection: Connection, driver: Driver) -> Left {
        let (ended_tx, ended) = tokio::sync::oneshot::channel();
        // The driver outlives the connection's time as the current one: calls under way finish on it.
        tokio::task::spawn_local(async move {
            let _ = ended_tx.send(driver.run().await);
        });
        let id = connection.id();
        self.current.replace(Some(connection.clone()));
        self.config.reachability.count(true);
        self.changed.notify_waiters();
        let why = tokio::select! {
            ended = ended => ended.unwrap_or(Left::Closed),
            why = self.discarded(id) => why,
            why = self.silent_as_elsewhere(member, &connection) => why,
            why = self.without_leader(&connection) => Left::NoLeader(why),
        };
        self.current.replace(None);
        self.config.reachability.count(false);
        why
    }

    /// Returns once another connection to the member was lost for its silence and it is silent here, too: what is asked on this
    /// connection from then on would wait as long as the other has waited.
    async fn silent_as_elsewhere(&self, member: usize, connection: &Connection) -> Left {
        loop {
            self.config.reachability.is_silent(member).await;
            if let Err(why) = probe::answers(connection, ANSWER_OF_A_SUSPECT).await {
                return Left::SilentAsElsewhere(why);
            }
        }
    }

    async fn discarded(&self, id: u64) -> Left {
        loop {
            self.discard.notified().await;
            if let Some((_, why)) = self.discarded.borrow_mut().take_if(|(discarded, _)| *discarded == id) {
                return why;
            }
        }
    }

    /// Returns once the member has no leader or does not answer. Never, where there is no other member to go to.
    async fn without_leader(&self, connection: &Connection) -> String {
        if self.config.members.len() < 2 {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            if let Err(why) = probe::has_leader(connection).await {
                return why;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pause(reachability: &Reachability) -> Duration {
        let begun = tokio::time::Instant::now();
        reachability.pause(LONGEST_WAIT).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_member_is_reached_one_pool_looks_often_and_the_others_follow_it() {
        let reachability = Reachability::default();
        let scout = async {
            let waited = pause(&reachability).await;
            reachability.count(true);
            waited
        };
        let (scout, second, third) = tokio::join!(scout, pause(&reachability), pause(&reachability));
        // Timers have a resolution of a millisecond.
        assert!(scout <= SCOUT_WAIT + Duration::from_millis(1), "{scout:?}");
        assert_eq!((second, third), (scout, scout));
        // A member is there: one that is away is not dialed more often on its account.
        assert!(pause(&reachability).await >= LONGEST_WAIT / 2);
        reachability.count(false);
        assert!(pause(&reachability).await <= SCOUT_WAIT + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_ends_leaves_the_scouting_to_others() {
        let reachability = Reachability::default();
        let ended = tokio::time::timeout(Duration::from_millis(1), reachability.pause(LONGEST_WAIT));
        assert!(ended.await.is_err());
        assert!(pause(&reachability).await <= SCOUT_WAIT + Duration::from_millis(1));
    }
}
