//! Keeps this process's record in etcd for as long as it serves: under a lease, so that it ends with the process, and
//! written anew as soon as something else is loaded. Trouble with etcd is waited out; clients do not wait for it.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::record::Member;
use crate::etcd::lease::{BEAT, TTL, give_back, usable};
use crate::etcd::{CallError, Guard, Store};
use crate::types::{BootInstant, StatePrefix};

/// Where the records lie below the state prefix.
pub(super) const FOLDER: &str = "members/";

/// Between two attempts while etcd is in trouble.
const RETRY: Duration = Duration::from_secs(1);

/// Tells one process from all others, also of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberId(u64);

impl MemberId {
    /// One that nobody has.
    pub fn new() -> Self {
        Self(rand::random())
    }
}

impl Default for MemberId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Told how the record stands.
pub trait Witness<S> {
    /// The record is about to be written, for the first time or after others may have taken this process for gone: what it
    /// is to say is looked at anew first.
    fn renew(&self) -> impl Future<Output = ()>;
    /// The record is in etcd, says what is so, and stays for `left` from `now`.
    fn stands(&self, store: &S, now: BootInstant, left: Duration) -> impl Future<Output = Result<(), CallError>>;
    /// It no longer does.
    fn falls(&self);
}

/// What is kept, and who is told.
pub struct Presence<D, W> {
    /// Whose record it is.
    pub id: MemberId,
    /// What the record is to say now.
    pub describe: D,
    /// Sees a change when that may have changed. Other changes are seen within a few seconds.
    pub changed: watch::Receiver<()>,
    /// Told how the record stands.
    pub witness: W,
    /// Set when the record is to go.
    pub leave: watch::Receiver<bool>,
}

/// The record as it lies in etcd.
struct Kept {
    lease: i64,
    revision: i64,
    record: Vec<u8>,
    /// When the lease was last known to live.
    alive_at: BootInstant,
}

/// Takes the record away, so that nobody waits for a process that is gone. Where that fails it ends by itself.
async fn take_away<S: Store>(store: &S, key: &[u8], kept: &Kept) {
    if matches!(store.keeps_leases().await, Ok(false)) {
        if let Err(error) = store.delete_if(&[Guard::mod_revision(key, kept.revision)], key).await {
            tracing::debug!(%error, "the record was not taken away");
        }
    } else {
        give_back(store, kept.lease).await;
    }
}

impl<D: Fn() -> Member, W> Presence<D, W> {
    /// Keeps the record under `state` until it is told to leave, and takes it away then.
    pub async fn keep<S>(mut self, store: &S, state: &StatePrefix)
    where
        S: Store,
        W: Witness<S>,
    {
        let key = [state.as_bytes(), FOLDER.as_bytes(), self.id.to_string().as_bytes()].concat();
        let mut is_told = false;
        while !self.is_leaving() {
            self.witness.renew().await;
            match self.register(store, &key).await {
                Ok(Some(kept)) => {
                    is_told = false;
                    let kept = self.hold(store, &key, kept).await;
                    self.witness.falls();
                    take_away(store, &key, &kept).await;
                }
                // What was sent before has come through late.
                Ok(None) => self.pause(RETRY).await,
                Err(error) => {
                    if !is_told {
                        is_told = true;
                        tracing::warn!(
                            %error,
                            "this process's record cannot be kept in etcd; sweeps of others may not wait for it, and it takes \
                             no writes of what it encrypts"
                        );
                    }
                    self.pause(RETRY).await;
                }
            }
        }
    }

    /// Writes the record under a new lease; `None` if it was written from elsewhere meanwhile.
    async fn register<S: Store>(&self, store: &S, key: &[u8]) -> Result<Option<Kept>, CallError> {
        let alive_at = BootInstant::now();
        let (lease, _) = store.grant(TTL).await?;
        let record = (self.describe)().encode();
        let put = async {
            // The key is this process's alone. If it is there, an answer got lost; its lease may be an older one.
            let there = store.get(key).await?.1.map_or(0, |kv| kv.mod_revision);
            store
                .put_if(&[Guard::mod_revision(key, there)], key, &record, lease)
                .await
        };
        let put = put.await;
        if !matches!(put, Ok(Some(_))) {
            give_back(store, lease).await;
        }
        Ok(put?.map(|revision| Kept {
            lease,
            revision,
            record,
            alive_at,
        }))
    }

    /// Until the record is no longer there, or is to go: as it was last written.
    async fn hold<S: Store>(&mut self, store: &S, key: &[u8], mut kept: Kept) -> Kept
    where
        W: Witness<S>,
    {
        while !self.is_leaving() && kept.alive_at.elapsed() < TTL {
            match self.beat(store, key, &mut kept).await {
                Ok(true) => self.pause_or_change(kept.alive_at).await,
                Ok(false) => {
                    tracing::debug!("this process's record in etcd is gone; writing it anew");
                    return kept;
                }
                Err(error) => {
                    tracing::debug!(%error, "no sign of life was heard");
                    self.pause(RETRY).await;
                }
            }
        }
        kept
    }

    /// One sign of life: the lease lives on, the record stands, and says what is so now. False where it is gone.
    async fn beat<S: Store>(&self, store: &S, key: &[u8], kept: &mut Kept) -> Result<bool, CallError>
    where
        W: Witness<S>,
    {
        let keeps_leases = store.keeps_leases().await?;
        let asked = BootInstant::now();
        if keeps_leases && store.keep_alive(kept.lease).await?.is_none() {
            return Ok(false);
        }
        let record = (self.describe)().encode();
        // Where leases are not kept alive, the record is: each time that it is written its lease begins anew.
        if keeps_leases && record == kept.record {
            let found = store.get(key).await?.1;
            if found.is_none_or(|kv| kv.mod_revision != kept.revision) {
                return Ok(false);
            }
        } else {
            let guard = [Guard::mod_revision(key, kept.revision)];
            let Some(revision) = store.put_if(&guard, key, &record, kept.lease).await? else {
                return Ok(false);
            };
            (kept.revision, kept.record) = (revision, record);
        }
        kept.alive_at = asked;
        self.witness.stands(store, asked, usable(TTL)).await?;
        Ok(true)
    }

    /// Whether the record is to go; also where nobody is left to say so.
    fn is_leaving(&self) -> bool {
        *self.leave.borrow() || self.leave.has_changed().is_err()
    }

    /// Waits, but not beyond being told to leave.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.leave.changed() => {}
        }
    }

    /// Waits until the next sign of life after that of `alive_at` is due, or until something else may have been loaded.
    async fn pause_or_change(&mut self, alive_at: BootInstant) {
        tokio::select! {
            () = sleep(BEAT.saturating_sub(alive_at.elapsed())) => {}
            _ = self.leave.changed() => {}
            Ok(()) = self.changed.changed() => {}
        }
    }
}
