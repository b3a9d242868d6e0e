//! etcd in memory: revisions with all their history, leases, compaction, and calls that take their time, fail before or
//! after they have happened, and can be told that the caller dies in one of them.
//!
//! It checks every write of a sweep when it happens: nothing is revived, released from its lease or given another
//! plaintext.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::world::{opened, scope};
use crate::etcd::{CallError, Guard, KeyValue, Page, PageAsk, Replaced, Store};
use crate::sweep::Scope;

type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// The store. Clients of it are references to it.
pub(super) struct Model {
    state: RefCell<State>,
    rng: RefCell<StdRng>,
    /// How many of a thousand calls fail.
    pub(super) trouble: Cell<u32>,
    /// Longest time of a call, milliseconds.
    pub(super) latency: Cell<u64>,
    /// Calls after which the caller dies; 0 for never.
    pub(super) dies_after: Cell<u32>,
    pub(super) death: Notify,
    /// Whose plaintexts a sweep's writes are compared with.
    readers: Scope,
    /// Whether a sweep may write now.
    pub(super) may_rewrite: Cell<bool>,
    /// Whether the members' records cannot be read.
    pub(super) hides_members: Cell<bool>,
    /// What alone the caller may read, where not everything.
    pub(super) only: RefCell<Option<Vec<u8>>>,
    /// Successful writes of sweeps.
    pub(super) rewrites: Cell<u32>,
    /// Keys that pages have given.
    pub(super) read: Cell<usize>,
}

struct State {
    now: Keys,
    revision: i64,
    compacted: i64,
    /// What each key became, and when.
    history: BTreeMap<Vec<u8>, Vec<(i64, Option<KeyValue>)>>,
    leases: BTreeMap<i64, Option<Instant>>,
    next_lease: i64,
}

impl Model {
    /// An empty store whose chances come from `seed`; `readers` open everything that is ever written.
    pub(super) fn new(seed: u64, readers: &[&str]) -> Self {
        Self {
            state: RefCell::new(State {
                now: Keys::new(),
                revision: 1,
                compacted: 0,
                history: BTreeMap::new(),
                leases: BTreeMap::new(),
                next_lease: 100,
            }),
            rng: RefCell::new(StdRng::seed_from_u64(seed)),
            trouble: Cell::new(0),
            latency: Cell::new(0),
            dies_after: Cell::new(0),
            death: Notify::new(),
            readers: scope(readers),
            may_rewrite: Cell::new(true),
            hides_members: Cell::new(false),
            only: RefCell::new(None),
            rewrites: Cell::new(0),
            read: Cell::new(0),
        }
    }

    pub(super) fn random(&self, below: u32) -> u32 {
        self.rng.borrow_mut().random_range(0..below)
    }

    /// What a client other than a sweep writes: at once, whatever was there.
    pub(super) fn put(&self, key: &[u8], value: &[u8], lease: i64) {
        self.state.borrow_mut().put(key, value, lease);
    }

    pub(super) fn delete(&self, key: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.now.contains_key(key) {
            state.change(&[key.to_vec()], |_| None);
        }
    }

    pub(super) fn new_lease(&self) -> i64 {
        self.state.borrow_mut().new_lease(None)
    }

    pub(super) fn end_lease(&self, lease: i64) {
        self.state.borrow_mut().end_lease(lease);
    }

    pub(super) fn compact(&self) {
        let mut state = self.state.borrow_mut();
        state.compacted = state.revision;
    }

    /// Everything that is there.
    pub(super) fn now(&self) -> Keys {
        self.state.borrow().now.clone()
    }

    /// The lease of whoever sweeps.
    pub(super) fn owner_lease(&self) -> Option<i64> {
        let state = self.state.borrow();
        state
            .now
            .values()
            .find(|kv| kv.key.ends_with(b"sweep/owner"))
            .map(|kv| kv.lease)
    }

    /// Lets time pass, and the caller die, or fail before anything has happened.
    async fn before(&self) -> Result<(), CallError> {
        self.pause().await;
        self.state.borrow_mut().expire();
        if self.dies_after.get() > 0 {
            self.dies_after.set(self.dies_after.get() - 1);
            if self.dies_after.get() == 0 {
                // Half of the time it dies before the call has happened.
                if self.random(2) == 0 {
                    self.die().await;
                }
                self.dies_after.set(u32::MAX);
            }
        }
        let status = |code, text: &str| CallError::Status {
            rpc: "model",
            code,
            text: text.to_owned(),
        };
        if self.random(1000) < self.trouble.get() {
            return Err(match self.random(4) {
                0 => status(8, "etcdserver: too many requests"),
                1 => status(14, "etcdserver: no leader"),
                2 => status(8, "etcdserver: mvcc: database space exceeded"),
                _ => lost(),
            });
        }
        Ok(())
    }

    /// Lets time pass, and the answer be lost.
    async fn after<T>(&self, answer: T) -> Result<T, CallError> {
        if self.dies_after.get() == u32::MAX {
            self.die().await;
        }
        self.pause().await;
        if self.random(1000) < self.trouble.get() {
            return Err(match self.random(3) {
                0 => lost(),
                1 => CallError::Timeout {
                    rpc: "model",
                    after: Duration::ZERO,
                },
                _ => CallError::Status {
                    rpc: "model",
                    code: 14,
                    text: "etcdserver: leader changed".to_owned(),
                },
            });
        }
        Ok(answer)
    }

    fn permit(&self, start: &[u8]) -> Result<(), CallError> {
        let is_permitted = self.only.borrow().as_ref().is_none_or(|only| start.starts_with(only));
        if is_permitted { Ok(()) } else { Err(denied()) }
    }

    async fn die(&self) {
        self.dies_after.set(0);
        self.death.notify_one();
        std::future::pending::<()>().await;
    }

    async fn pause(&self) {
        let longest = self.latency.get();
        if longest > 0 {
            let wait = self.rng.borrow_mut().random_range(0..=longest);
            sleep(Duration::from_millis(wait)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

fn denied() -> CallError {
    CallError::Status {
        rpc: "model",
        code: 7,
        text: "etcdserver: permission denied".to_owned(),
    }
}

fn lost() -> CallError {
    CallError::Lost {
        rpc: "model",
        why: "the wire broke".to_owned(),
    }
}

impl State {
    /// Puts what `change` makes in the place of `keys`, at one revision.
    fn change(&mut self, keys: &[Vec<u8>], change: impl Fn(i64) -> Option<KeyValue>) {
        self.revision += 1;
        for key in keys {
            let kv = change(self.revision);
            match &kv {
                Some(kv) => self.now.insert(key.clone(), kv.clone()),
                None => self.now.remove(key),
            };
            self.history.entry(key.clone()).or_default().push((self.revision, kv));
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let before = self.now.get(key).map(|kv| kv.create_revision);
        self.change(&[key.to_vec()], |revision| {
            Some(KeyValue {
                key: key.to_vec().into(),
                value: value.to_vec().into(),
                create_revision: before.unwrap_or(revision),
                mod_revision: revision,
                lease,
            })
        });
    }

    /// Whether every guard holds now.
    fn holds(&self, guards: &[Guard<'_>]) -> bool {
        guards.iter().all(|guard| guard.holds(self.now.get(guard.key())))
    }

    /// The keys from `start` to `end` as they were at `revision`.
    fn at(&self, revision: i64, start: &[u8], end: Option<&[u8]>) -> Vec<KeyValue> {
        let is_in = |key: &[u8]| end.is_none_or(|end| key < end);
        let keys = self.history.range(start.to_vec()..).take_while(|(key, _)| is_in(key));
        let then = keys.filter_map(|(_, versions)| versions.iter().rev().find(|(at, _)| *at <= revision));
        then.filter_map(|(_, kv)| kv.clone()).collect()
    }

    fn new_lease(&mut self, ends: Option<Instant>) -> i64 {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, ends);
        self.next_lease
    }

    fn end_lease(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let tied = self.now.values().filter(|kv| kv.lease == lease);
        let tied: Vec<_> = tied.map(|kv| kv.key.to_vec()).collect();
        if !tied.is_empty() {
            self.change(&tied, |_| None);
        }
    }

    fn expire(&mut self) {
        let ended = self
            .leases
            .iter()
            .filter(|(_, ends)| ends.is_some_and(|ends| ends <= Instant::now()));
        let ended: Vec<i64> = ended.map(|(lease, _)| *lease).collect();
        for lease in ended {
            self.end_lease(lease);
        }
    }
}

impl Store for &Model {
    async fn page(&self, ask: PageAsk<'_>) -> Result<Page, CallError> {
        self.before().await?;
        if self.hides_members.get() && ask.start.windows(9).any(|part| part == b"/members/") {
            return Err(denied());
        }
        self.permit(ask.start)?;
        // As one that was cut for its bytes.
        let most = 1 + self.random(7) as usize;
        let page = {
            let state = self.state.borrow();
            let revision = if ask.revision == 0 {
                state.revision
            } else {
                ask.revision
            };
            if revision < state.compacted {
                Err(CallError::Status {
                    rpc: "model",
                    code: 11,
                    text: "etcdserver: mvcc: required revision has been compacted".to_owned(),
                })
            } else {
                let mut kvs = state.at(revision, ask.start, ask.end);
                let count = kvs.len() as u64;
                let limit = usize::try_from(ask.limit).unwrap().min(most);
                let more = kvs.len() > limit;
                kvs.truncate(limit);
                let is_cut = ask.limit != 1 && kvs.first().is_some_and(|kv| kv.value.len() > ask.enough);
                let more = more || is_cut;
                if is_cut {
                    kvs.clear();
                }
                self.read.set(self.read.get() + kvs.len());
                Ok(Page {
                    revision: state.revision,
                    bytes: kvs.iter().map(|kv| kv.value.len()).sum(),
                    kvs,
                    more,
                    count,
                })
            }
        }?;
        self.after(page).await
    }

    async fn count(&self, start: &[u8], end: Option<&[u8]>) -> Result<(i64, u64), CallError> {
        self.before().await?;
        self.permit(start)?;
        let answer = {
            let state = self.state.borrow();
            let is_in = |key: &&Vec<u8>| key.as_slice() >= start && end.is_none_or(|end| key.as_slice() < end);
            (state.revision, state.now.keys().filter(is_in).count() as u64)
        };
        self.after(answer).await
    }

    async fn get(&self, key: &[u8]) -> Result<(i64, Option<KeyValue>), CallError> {
        self.before().await?;
        let answer = {
            let state = self.state.borrow();
            (state.revision, state.now.get(key).cloned())
        };
        self.after(answer).await
    }

    async fn replace(
        &self,
        key: &[u8],
        mod_revision: i64,
        value: &[u8],
        lease: i64,
        fence: Guard<'_>,
    ) -> Result<Replaced, CallError> {
        self.before().await?;
        let answer = {
            let mut state = self.state.borrow_mut();
            match state.now.get(key).cloned() {
                Some(kv) if kv.mod_revision == mod_revision && !state.holds(&[fence]) => Replaced::Fenced,
                Some(kv) if kv.mod_revision == mod_revision => {
                    assert!(self.may_rewrite.get(), "somebody could not read this yet");
                    assert_eq!(kv.lease, lease, "the lease is kept");
                    let readers = &self.readers;
                    assert_eq!(
                        opened(readers, key, value),
                        opened(readers, key, &kv.value),
                        "the plaintext is kept"
                    );
                    assert!(
                        lease == 0 || state.leases.contains_key(&lease),
                        "keys end with their lease"
                    );
                    state.put(key, value, lease);
                    self.rewrites.set(self.rewrites.get() + 1);
                    Replaced::Done(state.revision)
                }
                found => Replaced::Lost(found),
            }
        };
        self.after(answer).await
    }

    async fn get_both(&self, keys: [&[u8]; 2]) -> Result<[Option<KeyValue>; 2], CallError> {
        self.before().await?;
        let found = keys.map(|key| self.state.borrow().now.get(key).cloned());
        self.after(found).await
    }

    async fn put_both_if(&self, _: &[Guard<'_>], _: [(&[u8], &[u8]); 2]) -> Result<Option<i64>, CallError> {
        unreachable!("a sweep puts one record at a time")
    }

    async fn put_if(
        &self,
        guards: &[Guard<'_>],
        key: &[u8],
        value: &[u8],
        lease: i64,
    ) -> Result<Option<i64>, CallError> {
        self.before().await?;
        assert!(
            key.starts_with(b"/etcd-encryption-proxy/"),
            "records lie under the state prefix"
        );
        let answer = {
            let mut state = self.state.borrow_mut();
            if !state.holds(guards) {
                Ok(None)
            } else if lease != 0 && !state.leases.contains_key(&lease) {
                Err(CallError::Status {
                    rpc: "model",
                    code: 5,
                    text: "etcdserver: requested lease not found".to_owned(),
                })
            } else {
                state.put(key, value, lease);
                Ok(Some(state.revision))
            }
        }?;
        self.after(answer).await
    }

    async fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> Result<Option<i64>, CallError> {
        self.before().await?;
        assert!(
            key.starts_with(b"/etcd-encryption-proxy/"),
            "records lie under the state prefix"
        );
        let answer = {
            let mut state = self.state.borrow_mut();
            state.holds(guards).then(|| {
                // As etcd does: what is not there is no change, and its revision stays.
                if state.now.contains_key(key) {
                    state.change(&[key.to_vec()], |_| None);
                }
                state.revision
            })
        };
        self.after(answer).await
    }

    async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), CallError> {
        self.before().await?;
        let lease = self.state.borrow_mut().new_lease(Some(Instant::now() + ttl));
        self.after((lease, ttl)).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<Option<Duration>, CallError> {
        self.before().await?;
        let ttl = Duration::from_secs(15);
        let answer = {
            let mut state = self.state.borrow_mut();
            state.leases.get_mut(&lease).map(|ends| {
                *ends = Some(Instant::now() + ttl);
                ttl
            })
        };
        self.after(answer).await
    }

    async fn revoke(&self, lease: i64) -> Result<(), CallError> {
        self.before().await?;
        self.state.borrow_mut().end_lease(lease);
        self.after(()).await
    }

    async fn is_compacted_before(&self, revision: i64) -> Result<bool, CallError> {
        self.before().await?;
        let is_compacted = self.state.borrow().compacted >= revision;
        self.after(is_compacted).await
    }
}
