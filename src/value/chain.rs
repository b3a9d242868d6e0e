//! The chain of one rule: its providers in order. The first one writes, any of them reads. Does not know which resource
//! it is for, and never falls back to writing with another provider than the first.

use std::fmt;

use rand::CryptoRng;

use super::prefix_chain::{Opened, PrefixChain, Transformer};
use super::{BuildError, OpenError, Provider, ProviderKind, SealError};
use crate::types::{KeyName, StorageKey};

/// Seals and opens the values of one rule.
pub struct Chain(PrefixChain<Provider>);

impl Chain {
    /// A chain of at least one provider.
    pub fn new(providers: Vec<Provider>) -> Result<Self, BuildError> {
        let links = providers.into_iter().map(Provider::into_link);
        PrefixChain::new(links, OpenError::NoMatchingPrefix)
            .map(Self)
            .ok_or(BuildError::NoProviders)
    }

    /// Appends to `out` what etcd is to hold under `key` for `plaintext`: sealed by the first provider, with its first
    /// key and a fresh random nonce. An empty plaintext is sealed like any other.
    ///
    /// Leaves `out` as it was on error.
    pub fn to_storage(&self, key: StorageKey<'_>, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        self.to_storage_with(key, plaintext, &mut rand::rng(), out)
    }

    /// [`Chain::to_storage`] with the source of nonces given: safe only with one that never repeats itself.
    pub(super) fn to_storage_with<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let start = out.len();
        out.reserve(self.0.sealed_len(plaintext.len()));
        self.0
            .to_storage(key, plaintext, nonces, out)
            .inspect_err(|_| out.truncate(start))
    }

    /// Appends to `out` the plaintext of what etcd holds under `key`, and says whether it should be written again.
    ///
    /// Leaves `out` as it was on error.
    pub fn from_storage(&self, key: StorageKey<'_>, stored: &[u8], out: &mut Vec<u8>) -> Result<Opened, OpenError> {
        self.0.from_storage(key, stored, out)
    }

    /// What [`Chain::to_storage`] writes with.
    pub fn writer(&self) -> Writer<'_> {
        let provider = self.0.writer();
        Writer {
            provider: provider.kind(),
            key: provider.key_names().first(),
        }
    }

    /// What [`Chain::from_storage`] reads with, in order, the writer's provider first.
    pub fn readers(&self) -> impl Iterator<Item = &Provider> {
        self.0.readers()
    }
}

/// Names only, never a key: `writes aescbc key "key1"; reads aescbc "key1","key0", identity`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writes {}; reads ", self.writer())?;
        for (index, provider) in self.readers().enumerate() {
            write!(f, "{}{provider}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The provider and key that a chain writes with, by name: `aescbc key "key1"`, `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer<'a> {
    /// Which kind of provider.
    pub provider: ProviderKind,
    /// Which of its keys; `None` for identity.
    pub key: Option<&'a KeyName>,
}

impl fmt::Display for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.provider)?;
        match self.key {
            Some(name) => write!(f, " key {:?}", name.as_str()),
            None => Ok(()),
        }
    }
}
