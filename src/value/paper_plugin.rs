//! A plugin for tests that wraps a key by writing it down as it is. It can forget, refuse and rotate, and counts what it is
//! asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{DekKind, DekV1, DekV2, Fetch, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, SeedWriter, WrappedDek};
use crate::types::{KeyName, SecretBytes};

/// One plugin, for both versions of the protocol.
#[derive(Debug, Default)]
pub(crate) struct PaperPlugin {
    cache_v1: Mutex<HashMap<Vec<u8>, Arc<DekV1>>>,
    cache_v2: Mutex<HashMap<[u8; 32], Arc<DekV2>>>,
    /// It keeps no key: every value must ask.
    pub(crate) forgets: AtomicBool,
    /// It forgets a key as soon as it has given it, as a small cache does that others use as well.
    pub(crate) gives_once: AtomicBool,
    /// It answers nothing but errors.
    pub(crate) is_down: AtomicBool,
    /// The errors are its last word, not an outage.
    pub(crate) is_final: AtomicBool,
    pub(crate) unwrapped: AtomicUsize,
    pub(crate) generated: AtomicUsize,
    key_id: Mutex<String>,
}

impl PaperPlugin {
    pub(crate) fn new() -> Arc<Self> {
        let plugin = Self::default();
        *plugin.key_id.lock().unwrap() = "kek-1".to_owned();
        Arc::new(plugin)
    }

    pub(crate) fn rotate(&self, key_id: &str) {
        *self.key_id.lock().unwrap() = key_id.to_owned();
    }

    /// It keeps nothing of what it has kept so far.
    pub(crate) fn forget(&self) {
        self.cache_v1.lock().unwrap().clear();
        self.cache_v2.lock().unwrap().clear();
    }

    fn check(&self) -> Result<(), KmsFailure> {
        if self.is_down.load(Relaxed) {
            return Err(failure("out of paper", !self.is_final.load(Relaxed)));
        }
        Ok(())
    }
}

fn failure(text: &str, is_transient: bool) -> KmsFailure {
    KmsFailure {
        provider: KeyName::new("paper"),
        text: text.into(),
        is_transient,
        code: None,
    }
}

impl KmsV1Keys for PaperPlugin {
    fn cached(&self, wrapped: &[u8]) -> Option<Arc<DekV1>> {
        let mut cache = self.cache_v1.lock().unwrap();
        if self.gives_once.load(Relaxed) {
            return cache.remove(wrapped);
        }
        cache.get(wrapped).cloned()
    }

    fn unwrap(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        self.unwrapped.fetch_add(1, Relaxed);
        Box::pin(async move {
            self.check()?;
            let dek = DekV1::new(&SecretBytes::new(wrapped.clone()));
            let dek = Arc::new(dek.ok_or_else(|| failure("illegible", false))?);
            if !self.forgets.load(Relaxed) {
                self.cache_v1.lock().unwrap().insert(wrapped, Arc::clone(&dek));
            }
            Ok(dek)
        })
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        let number = self.generated.fetch_add(1, Relaxed);
        Box::pin(async move {
            self.check()?;
            let key = number.to_be_bytes().repeat(4);
            Ok(FreshDek {
                dek: Arc::new(DekV1::new(&SecretBytes::new(key.clone())).unwrap()),
                wrapped: key.into(),
            })
        })
    }
}

impl KmsV2Keys for PaperPlugin {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        self.check()?;
        let key_id = self.key_id.lock().unwrap().clone();
        // The key ID stands in the seed, so that each has its own.
        let mut seed = vec![7; 64];
        seed[..key_id.len()].copy_from_slice(key_id.as_bytes());
        let wrapped = WrappedDek {
            kind: DekKind::HkdfSeed,
            source: seed.clone().into(),
            key_id: key_id.into(),
            annotations: vec![("version.paper.test".into(), vec![1, 2, 3].into())],
        };
        Ok(Arc::new(SeedWriter::new(&SecretBytes::new(seed), wrapped).unwrap()))
    }

    fn cached(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        let mut cache = self.cache_v2.lock().unwrap();
        if self.gives_once.load(Relaxed) {
            return cache.remove(&wrapped.digest());
        }
        cache.get(&wrapped.digest()).cloned()
    }

    fn unwrap(self: Arc<Self>, wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        self.unwrapped.fetch_add(1, Relaxed);
        Box::pin(async move {
            self.check()?;
            let key = SecretBytes::new(wrapped.source.to_vec());
            let dek = Arc::new(DekV2::new(wrapped.kind, &key).ok_or_else(|| failure("illegible", false))?);
            if !self.forgets.load(Relaxed) {
                self.cache_v2.lock().unwrap().insert(wrapped.digest(), Arc::clone(&dek));
            }
            Ok(dek)
        })
    }

    fn opened(&self, key_id: &str) -> bool {
        *self.key_id.lock().unwrap() == key_id
    }

    fn sealed(&self, _key_id: &str) {}
}
