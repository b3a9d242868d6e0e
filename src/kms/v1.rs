//! KMS v1: a key wrapped for every write, unwrapped keys in a cache of the configured size.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::client_v1::ApiV1;
use super::failure::CallError;
use super::flights::{Flights, alone};
use super::gate::Gate;
use super::pulse::{Ailment, Patient, Pulse};
use super::{Config, metrics, wrapping};
use crate::types::{KeyName, SecretBytes};
use crate::value::{DekV1, Fetch, FreshDek, KmsFailure, KmsV1Keys};

/// Length of the keys made here, bytes.
const DEK: usize = 32;

/// What a health check has encrypted and decrypted, as kube-apiserver's does.
const PING: &[u8] = b"ping";

/// Keys that are asked for within this belong together.
const MET_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Places that are made for a cache at once, however large it may become.
const EXPECTED: usize = 1024;

/// The keys of one plugin.
pub(super) struct V1<A> {
    name: KeyName,
    api: A,
    runtime: Handle,
    /// Apart, so that values which make the plugin take long to say no do not keep others from being written.
    sealing: Gate,
    opening: Gate,
    /// By what they are wrapped in. `None`: the configuration wants no cache.
    cache: Option<Cache<Box<[u8]>, Arc<DekV1>>>,
    flights: Flights<Box<[u8]>, Arc<DekV1>>,
    pulse: Pulse,
    arrivals: Mutex<Arrivals>,
    /// A check's word came back from the plugin as it was.
    has_returned: AtomicBool,
    pub(super) watcher: OnceLock<AbortHandle>,
}

/// When the plugin was last needed.
#[derive(Default)]
struct Arrivals {
    sealing: Option<Instant>,
    opening: Option<Instant>,
    /// Since when keys that had to be asked for are counted, and how many there were.
    met: Option<(Instant, u64)>,
    /// That they are more than the cache holds was said.
    is_told: bool,
}

impl<A: ApiV1> V1<A> {
    /// `cache_size`: how many keys are kept; negative for none.
    pub(super) fn new(name: KeyName, api: A, cache_size: i32, runtime: Handle, config: &Config) -> Self {
        let cache = usize::try_from(cache_size)
            .ok()
            .filter(|size| *size > 0)
            .and_then(cache_of);
        Self {
            api,
            runtime,
            sealing: Gate::new(config.concurrency),
            opening: Gate::new(config.concurrency),
            cache,
            flights: Flights::new(),
            pulse: Pulse::new(name.clone(), config.clone()),
            arrivals: Mutex::default(),
            has_returned: AtomicBool::new(false),
            watcher: OnceLock::new(),
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

    /// Whether it has ever given back what it had wrapped.
    pub(super) fn has_returned(&self) -> bool {
        self.has_returned.load(Ordering::Relaxed)
    }

    fn keep(&self, wrapped: &[u8], dek: &Arc<DekV1>) {
        if let Some(cache) = &self.cache {
            cache.insert(wrapped.into(), Arc::clone(dek));
            metrics::cache_fill(cache.len(), cache.capacity());
        }
    }

    async fn fetch(&self, wrapped: &[u8]) -> Result<Arc<DekV1>, KmsFailure> {
        // It may have come since it was missed.
        if let Some(dek) = self.look_up(wrapped) {
            return Ok(dek);
        }
        metrics::missed();
        self.arrival("from_storage", |arrivals| &mut arrivals.opening);
        self.note_met();
        let dek = self.fetch_anew(wrapped).await?;
        self.keep(wrapped, &dek);
        Ok(dek)
    }

    /// Says once that what clients read needs more keys than are kept: then each list asks the plugin for all that were forgotten.
    fn note_met(&self) {
        let Some(places) = self.cache.as_ref().map(Cache::capacity) else {
            return;
        };
        let now = Instant::now();
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = arrivals.met.unwrap_or((now, 0));
        let (since, count) = if now - since < MET_WITHIN {
            (since, count + 1)
        } else {
            (now, 1)
        };
        arrivals.met = Some((since, count));
        let is_told = arrivals.is_told;
        arrivals.is_told |= count > places;
        drop(arrivals);
        if count > places && !is_told {
            tracing::warn!(
                provider = self.name.as_str(),
                cachesize = places,
                "more keys are met than the cache of this KMS v1 provider holds, so the plugin is asked for the same ones again and \
                 again; raise cachesize above the number of values that it has encrypted, or go over to KMS v2"
            );
        }
    }

    async fn fetch_anew(&self, wrapped: &[u8]) -> Result<Arc<DekV1>, KmsFailure> {
        let unwrap = async || {
            let key = self.api.decrypt(wrapped).await?;
            DekV1::new(&key).ok_or_else(|| unusable(&key))
        };
        let dek = self
            .opening
            .pass(self.api.timeout(), unwrap)
            .await
            .map_err(|error| error.of(&self.name))?;
        Ok(Arc::new(dek))
    }

    async fn make(&self) -> Result<FreshDek, KmsFailure> {
        self.arrival("to_storage", |arrivals| &mut arrivals.sealing);
        let began = Instant::now();
        let mut key = vec![0; DEK];
        rand::rng().fill_bytes(&mut key);
        let key = SecretBytes::new(key);
        let wrap = async || {
            let wrapped = self.api.encrypt(&key).await?;
            wrapping::check(&key, [wrapped.as_slice()])?;
            let dek = DekV1::new(&key).ok_or_else(|| unusable(&key))?;
            Ok((dek, wrapped))
        };
        let made = self.sealing.pass(self.api.timeout(), wrap).await;
        metrics::generated(began.elapsed(), made.is_ok());
        let (dek, wrapped) = made.map_err(|error: CallError| error.of(&self.name))?;
        let dek = Arc::new(dek);
        self.keep(&wrapped, &dek);
        Ok(FreshDek {
            dek,
            wrapped: wrapped.into(),
        })
    }

    fn look_up(&self, wrapped: &[u8]) -> Option<Arc<DekV1>> {
        self.cache.as_ref()?.get(wrapped)
    }

    fn arrival(&self, transformation_type: &'static str, pick: fn(&mut Arrivals) -> &mut Option<Instant>) {
        let now = Instant::now();
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let since: Option<Duration> = pick(&mut arrivals).replace(now).map(|last| now - last);
        drop(arrivals);
        if let Some(since) = since {
            metrics::arrival(transformation_type, since);
        }
    }
}

fn cache_of(size: usize) -> Option<Cache<Box<[u8]>, Arc<DekV1>>> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(size.min(EXPECTED))
        .weight_capacity(size as u64)
        .build()
        .ok()?;
    Some(Cache::with_options(
        options,
        UnitWeighter,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    ))
}

fn unusable(key: &SecretBytes) -> CallError {
    CallError::Unusable(format!(
        "the plugin returned a key of {} bytes; AES has keys of 16, 24 or 32",
        key.len()
    ))
}

impl<A: ApiV1> KmsV1Keys for V1<A> {
    fn cached(&self, wrapped: &[u8]) -> Option<Arc<DekV1>> {
        self.look_up(wrapped)
    }

    fn unwrap(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        let this = Arc::clone(&self);
        let key: Box<[u8]> = wrapped.as_slice().into();
        self.flights.join(
            &self.runtime,
            &self.name,
            key,
            || async move { this.fetch(&wrapped).await },
        )
    }

    fn unwrap_anew(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        let (runtime, name) = (self.runtime.clone(), self.name.clone());
        alone(&runtime, &name, async move { self.fetch_anew(&wrapped).await })
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        let (runtime, name) = (self.runtime.clone(), self.name.clone());
        alone(&runtime, &name, async move { self.make().await })
    }
}

impl<A: ApiV1> Patient for V1<A> {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    async fn is_there(&self) -> bool {
        self.api.is_there().await
    }

    async fn check(&self) -> Result<(), Ailment> {
        let failed = |step: &str, error: CallError| {
            Ailment::from(format!(
                "failed to perform {step} section of the healthz check for KMS Provider {}, error: {error}",
                self.name
            ))
        };
        let ping = SecretBytes::new(PING.to_vec());
        let wrapped = self
            .api
            .encrypt(&ping)
            .await
            .map_err(|error| failed("encrypt", error))?;
        let back = self
            .api
            .decrypt(&wrapped)
            .await
            .map_err(|error| failed("decrypt", error))?;
        // kube-apiserver does not look at it, so this makes no plugin ill; but one that gives back something else is not gone over to.
        if back == ping {
            self.has_returned.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<A> Drop for V1<A> {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

impl<A> fmt::Debug for V1<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V1({:?})", self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encrypts at once, and never says anything to a Decrypt.
    struct OneWay;

    impl ApiV1 for OneWay {
        async fn encrypt(&self, key: &SecretBytes) -> Result<Vec<u8>, CallError> {
            Ok(key.expose().iter().map(|byte| !byte).collect())
        }

        async fn decrypt(&self, _wrapped: &[u8]) -> Result<SecretBytes, CallError> {
            std::future::pending().await
        }
    }

    /// Bytes that are not drawn are the same each time, or zero. The wrapped key shows what was drawn.
    #[tokio::test]
    async fn no_two_deks_are_the_same_and_none_is_empty() {
        let v1 = V1::new(KeyName::new("p"), OneWay, 10, Handle::current(), &Config::default());
        let v1 = Arc::new(v1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            let wrapped = Arc::clone(&v1).generate().await.unwrap().wrapped;
            let different: std::collections::BTreeSet<u8> = wrapped.iter().copied().collect();
            assert!(different.len() >= DEK / 2, "{} different bytes", different.len());
            assert!(seen.insert(wrapped), "a key was drawn twice");
        }
    }

    #[tokio::test]
    async fn values_that_cannot_be_opened_do_not_keep_others_from_being_sealed() {
        let config = Config {
            concurrency: 1,
            ..Config::default()
        };
        let v1 = Arc::new(V1::new(KeyName::new("p"), OneWay, 10, Handle::current(), &config));
        let opening = Arc::clone(&v1).unwrap(b"hostile".to_vec());
        while v1.opening.is_open() {
            tokio::task::yield_now().await;
        }
        assert!(Arc::clone(&v1).generate().await.is_ok());
        drop(opening);
    }
}
