//! What the KMS providers need of whoever talks to a plugin: data encryption keys (DEKs), by what they are wrapped in.
//!
//! Providers never wait. They ask for what is at hand at once, and what is not is noted in [`super::Deks`], fetched
//! there, and the value is tried again. Knows no protocol and no socket.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{DekV1, DekV2, SeedWriter, WrappedDek};
use crate::types::KeyName;

/// An answer of a plugin that is yet to come. If this is dropped, the call behind it goes on where others may wait for the
/// same.
pub type Fetch<T> = Pin<Box<dyn Future<Output = Result<T, KmsFailure>> + Send>>;

/// A plugin gave no key. The text is made for clients and for the log; it holds no key and no plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsFailure {
    /// The name that the configuration gives the provider.
    pub provider: KeyName,
    /// What happened.
    pub text: Arc<str>,
    /// Whether nothing was said of what the plugin was given, so that the same may work later. Otherwise it has refused just
    /// this.
    pub is_transient: bool,
    /// The name of the gRPC status that the plugin's answer had, as Go writes it (`Unavailable`); `None` where the failure
    /// is not one of a call. For metrics.
    pub code: Option<&'static str>,
}

impl fmt::Display for KmsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kms provider {:?}: {}", self.provider.as_str(), self.text)
    }
}

/// DEKs of one KMS v1 plugin, each used for one write.
pub trait KmsV1Keys: fmt::Debug + Send + Sync {
    /// The DEK that `wrapped` holds, if it is at hand.
    fn cached(&self, wrapped: &[u8]) -> Option<Arc<DekV1>>;

    /// Has the plugin unwrap `wrapped`.
    fn unwrap(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>>;

    /// The same past every cache, to see whether the plugin can.
    fn unwrap_anew(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        self.unwrap(wrapped)
    }

    /// Makes a DEK that has never been used, and has the plugin wrap it.
    fn generate(self: Arc<Self>) -> Fetch<FreshDek>;
}

/// A DEK that no value has been sealed with.
#[derive(Clone, Debug)]
pub struct FreshDek {
    /// The key.
    pub dek: Arc<DekV1>,
    /// The key as the plugin wrapped it: at most 65,535 bytes, or sealing with it fails.
    pub wrapped: Arc<[u8]>,
}

/// DEKs and seeds of one KMS v2 plugin.
pub trait KmsV2Keys: fmt::Debug + Send + Sync {
    /// The seed that writes now. Fails when the plugin has not been well for too long, or has never been.
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure>;

    /// The DEK or seed that `wrapped` holds, if it is at hand.
    fn cached(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>>;

    /// Has the plugin unwrap `wrapped`.
    fn unwrap(self: Arc<Self>, wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>>;

    /// Takes note that a value sealed under `key_id` was opened, and says whether that is the plugin's key still. True
    /// as long as the plugin has not yet named its key.
    fn opened(&self, key_id: &str) -> bool;

    /// Takes note that a value was sealed under `key_id`.
    fn sealed(&self, key_id: &str);
}
