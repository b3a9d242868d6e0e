//! KMS v2: one seed of this process's own writes for as long as the plugin keeps its key; what other processes wrote is
//! unwrapped once and kept. What follows from a plugin's Status is in `status`.

pub(super) mod status;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::annotations::Annotations;
use super::client_v2::ApiV2;
use super::failure::CallError;
use super::flights::Flights;
use super::gate::Gate;
use super::key_ids::{KeyIds, Use, hash_of};
use super::pulse::Pulse;
use super::{Config, metrics};
use crate::types::{KeyName, SecretBytes};
use crate::value::{DekV2, Fetch, KmsFailure, KmsV2Keys, SeedWriter, WrappedDek};

/// Seeds of this process's own that are never forgotten. One comes with each change of key, so that only a plugin that
/// changes its key all the time has more; of those the older ones may be forgotten and unwrapped again.
const MAX_OWN: usize = 1024;

/// The keys of one plugin.
pub(super) struct V2<A> {
    name: KeyName,
    api: A,
    runtime: Handle,
    config: Config,
    gate: Gate,
    /// What writes. Stays when the plugin is no longer well: it also tells what is stale.
    current: ArcSwapOption<Current>,
    /// Seeds made here, by a digest of what they are wrapped in.
    own: ArcSwap<HashMap<[u8; 32], Arc<DekV2>>>,
    /// Everything else that was unwrapped.
    cache: Cache<[u8; 32], Arc<DekV2>>,
    flights: Flights<[u8; 32], Arc<DekV2>>,
    pulse: Pulse,
    key_ids: KeyIds,
    annotations: Annotations,
    /// What only the check touches.
    checked: Mutex<Checked>,
    /// The last order to write under a fresh seed, and how many there were: a seed of an earlier one does not write.
    order: Mutex<Vec<u8>>,
    orders: AtomicU64,
    /// How many of them are insisted on.
    insisted: AtomicU64,
    /// What expiries are counted from.
    began: Instant,
    pub(super) watcher: OnceLock<AbortHandle>,
}

/// What earlier checks have found.
#[derive(Default)]
struct Checked {
    /// The version that the first good Status named; another one is refused from then on.
    version: Option<String>,
    /// Hashes of the key IDs that have been written with.
    key_ids: HashSet<String>,
    /// Hashes of those that a Status has named, as far as metrics tell them apart.
    named: HashSet<String>,
    /// When the annotations of a fresh Encrypt were last looked at.
    annotations: Option<Instant>,
    /// When the plugin last unwrapped the seed in use.
    unwrapped: Option<Instant>,
}

/// A seed that writes.
struct Current {
    writer: Arc<SeedWriter>,
    dek: Arc<DekV2>,
    /// What the plugin has to give back whenever it is asked to unwrap it.
    seed: SecretBytes,
    /// How many orders for a fresh seed there had been before it was made.
    orders: u64,
    /// Milliseconds from the beginning; pushed ahead by each good Status.
    expiry: AtomicU64,
}

impl Current {
    fn key_id(&self) -> &str {
        &self.writer.wrapped().key_id
    }
}

impl<A: ApiV2> V2<A> {
    pub(super) fn new(name: KeyName, api: A, runtime: Handle, config: Config) -> Self {
        Self {
            api,
            runtime,
            gate: Gate::new(config.concurrency),
            current: ArcSwapOption::empty(),
            own: ArcSwap::default(),
            cache: Cache::new(config.cached_deks.max(1)),
            flights: Flights::new(),
            pulse: Pulse::new(name.clone(), config.clone()),
            key_ids: KeyIds::new(name.clone()),
            annotations: Annotations::new(name.clone()),
            checked: Mutex::default(),
            order: Mutex::default(),
            orders: AtomicU64::new(0),
            insisted: AtomicU64::new(0),
            began: Instant::now(),
            watcher: OnceLock::new(),
            config,
            name,
        }
    }

    /// What the plugin's client lives on.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.name
    }

    /// The hash of the key ID that writes and when that will end, if the plugin has ever been well.
    pub(super) fn writing(&self) -> Option<(String, SystemTime)> {
        let current = self.current.load();
        let current = current.as_ref()?;
        Some((hash_of(current.key_id()), wall_clock(self.expiry(current))))
    }

    /// Takes an order to write under a fresh seed, which the next check has wrapped. Whether it is a new one, so that the plugin has to
    /// be asked.
    pub(super) fn order(&self, order: &[u8]) -> bool {
        let mut known = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != order;
        if is_new {
            *known = order.to_vec();
            self.orders.fetch_add(1, Ordering::SeqCst);
        }
        is_new
    }

    /// From now on nothing is sealed with a seed that was made before the last order.
    pub(super) fn insist(&self) {
        self.insisted
            .store(self.orders.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether `current` was made after all orders that are insisted on.
    fn may_write(&self, current: &Current) -> bool {
        current.orders >= self.insisted.load(Ordering::SeqCst)
    }

    /// Whether no order for a fresh seed came after `current` was made.
    fn is_as_ordered(&self, current: &Current) -> bool {
        current.orders == self.orders.load(Ordering::SeqCst)
    }

    fn expiry(&self, current: &Current) -> Instant {
        self.began + Duration::from_millis(current.expiry.load(Ordering::Relaxed))
    }

    /// Why nothing may be written, as kube-apiserver says it, with what ails the plugin behind.
    fn cannot_write(&self, current: Option<&Current>) -> KmsFailure {
        let why = match current {
            Some(current) if !self.may_write(current) => {
                "everything is being written again, and the plugin has not wrapped a fresh seed for that yet".to_owned()
            }
            Some(current) => {
                let time = |at| humantime::format_rfc3339_seconds(at);
                format!(
                    "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                    hash_of(current.key_id()),
                    time(wall_clock(self.expiry(current))),
                    time(SystemTime::now()),
                )
            }
            None => "there is no key to write with".to_owned(),
        };
        let state = self.pulse.state();
        let text = match &state.ailment {
            Some(ailment) => format!("{why}: {ailment}"),
            None => why,
        };
        KmsFailure {
            provider: self.name.clone(),
            text: text.into(),
            is_transient: true,
            code: None,
        }
    }

    fn look_up(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        if let Some(current) = &*self.current.load()
            && current.writer.wrapped() == wrapped
        {
            return Some(Arc::clone(&current.dek));
        }
        let digest = wrapped.digest();
        if let Some(dek) = self.own.load().get(&digest) {
            return Some(Arc::clone(dek));
        }
        self.cache.get(&digest)
    }

    async fn fetch(&self, digest: [u8; 32], wrapped: &WrappedDek<'static>) -> Result<Arc<DekV2>, KmsFailure> {
        // It may have come since it was missed.
        if let Some(dek) = self.look_up(wrapped) {
            return Ok(dek);
        }
        metrics::missed();
        let unwrap = async || {
            let secret = self.api.decrypt(wrapped).await?;
            DekV2::new(wrapped.kind, &secret).ok_or_else(|| {
                CallError::Unusable(format!(
                    "the plugin returned {} bytes, which is no key of this kind",
                    secret.len()
                ))
            })
        };
        let dek = Arc::new(
            self.gate
                .pass(self.api.timeout(), unwrap)
                .await
                .map_err(|error| error.of(&self.name))?,
        );
        self.cache.insert(digest, Arc::clone(&dek));
        self.count_cached();
        self.annotations.note(wrapped);
        Ok(dek)
    }

    fn count_cached(&self) {
        metrics::cached_sources(&self.name, self.cache.len() + self.own.load().len());
    }
}

impl<A: ApiV2> KmsV2Keys for V2<A> {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        let current = self.current.load();
        match &*current {
            Some(seed) if self.may_write(seed) && Instant::now() <= self.expiry(seed) => Ok(Arc::clone(&seed.writer)),
            _ => Err(self.cannot_write(current.as_deref())),
        }
    }

    fn cached(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        self.look_up(wrapped)
    }

    fn unwrap(self: Arc<Self>, wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        let this = Arc::clone(&self);
        let digest = wrapped.digest();
        self.flights.join(&self.runtime, &self.name, digest, || async move {
            this.fetch(digest, &wrapped).await
        })
    }

    fn opened(&self, key_id: &str) -> bool {
        self.key_ids.note(key_id, Use::Opened);
        self.current
            .load()
            .as_ref()
            .is_none_or(|current| current.key_id() == key_id)
    }

    fn sealed(&self, key_id: &str) {
        self.key_ids.note(key_id, Use::Sealed);
    }
}

impl<A> Drop for V2<A> {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

impl<A> fmt::Debug for V2<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V2({:?})", self.name.as_str())
    }
}

/// What the clock on the wall will show, or did.
fn wall_clock(at: Instant) -> SystemTime {
    let now = Instant::now();
    let wall = SystemTime::now();
    let shifted = match at.checked_duration_since(now) {
        Some(ahead) => wall.checked_add(ahead),
        None => wall.checked_sub(now - at),
    };
    shifted.unwrap_or(wall)
}
