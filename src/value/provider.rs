//! One provider of a chain: identity, or a cipher with its named keys. Knows which prefix belongs to which; holds keys
//! only inside keyed ciphers.

use std::fmt;
use std::sync::Arc;

use rand::CryptoRng;

use super::aescbc::AesCbc;
use super::aesgcm::AesGcm;
use super::identity::Identity;
use super::prefix_chain::{Link, Opened, PrefixChain, Transformer};
use super::secretbox::Secretbox;
use super::{BuildError, OpenError, SealError, prefix};
use crate::types::{KeyName, SecretBytes, StorageKey};

/// The kinds of provider, by the names that an `EncryptionConfiguration` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// No encryption.
    Identity,
    /// AES-CBC.
    AesCbc,
    /// AES-GCM.
    AesGcm,
    /// XSalsa20-Poly1305.
    Secretbox,
}

impl ProviderKind {
    /// What kube-apiserver's errors call the transformer.
    pub(super) fn transformer(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::AesCbc | Self::AesGcm => "AES",
            Self::Secretbox => "Secretbox",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        })
    }
}

/// A cipher that is keyed once, when it is built.
pub(super) trait Cipher: Transformer + Sized {
    const KIND: ProviderKind;
    /// The lengths of key that [`Cipher::from_key`] takes, in words.
    const KEY_SIZES: &'static str;

    /// `None` if there is no variant of the cipher for a key of this length.
    fn from_key(key: &[u8]) -> Option<Self>;
}

/// A provider with its keys. Clones share one set of keyed ciphers: several rules may list the same provider.
#[derive(Clone)]
pub struct Provider(Kind);

#[derive(Clone)]
enum Kind {
    Identity(Identity),
    AesCbc(Arc<Keys<AesCbc>>),
    AesGcm(Arc<Keys<AesGcm>>),
    Secretbox(Arc<Keys<Secretbox>>),
}

impl Provider {
    /// Stores values as they are.
    pub fn identity() -> Self {
        Self(Kind::Identity(Identity))
    }

    /// AES-CBC. Keys have 16, 24 or 32 bytes; the first one writes.
    pub fn aescbc<'a>(keys: impl IntoIterator<Item = (&'a KeyName, &'a SecretBytes)>) -> Result<Self, BuildError> {
        Ok(Self(Kind::AesCbc(Keys::shared(keys)?)))
    }

    /// AES-GCM. Keys have 16, 24 or 32 bytes; the first one writes.
    pub fn aesgcm<'a>(keys: impl IntoIterator<Item = (&'a KeyName, &'a SecretBytes)>) -> Result<Self, BuildError> {
        Ok(Self(Kind::AesGcm(Keys::shared(keys)?)))
    }

    /// XSalsa20-Poly1305. Keys have 32 bytes; the first one writes.
    pub fn secretbox<'a>(keys: impl IntoIterator<Item = (&'a KeyName, &'a SecretBytes)>) -> Result<Self, BuildError> {
        Ok(Self(Kind::Secretbox(Keys::shared(keys)?)))
    }

    /// Which kind of provider this is.
    pub fn kind(&self) -> ProviderKind {
        match &self.0 {
            Kind::Identity(_) => ProviderKind::Identity,
            Kind::AesCbc(_) => ProviderKind::AesCbc,
            Kind::AesGcm(_) => ProviderKind::AesGcm,
            Kind::Secretbox(_) => ProviderKind::Secretbox,
        }
    }

    /// The names of its keys, the writing one first; none for identity.
    pub fn key_names(&self) -> &[KeyName] {
        match &self.0 {
            Kind::Identity(_) => &[],
            Kind::AesCbc(keys) => &keys.names,
            Kind::AesGcm(keys) => &keys.names,
            Kind::Secretbox(keys) => &keys.names,
        }
    }

    /// This provider as a link of a chain, behind the prefix that its values begin with.
    pub(super) fn into_link(self) -> Link<Self> {
        let prefix = match self.kind() {
            ProviderKind::Identity => prefix::IDENTITY,
            ProviderKind::AesCbc => prefix::AESCBC,
            ProviderKind::AesGcm => prefix::AESGCM,
            ProviderKind::Secretbox => prefix::SECRETBOX,
        };
        Link::new(prefix, self)
    }
}

impl Transformer for Provider {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        match &self.0 {
            Kind::Identity(identity) => identity.sealed_len(plaintext_len),
            Kind::AesCbc(keys) => keys.chain.sealed_len(plaintext_len),
            Kind::AesGcm(keys) => keys.chain.sealed_len(plaintext_len),
            Kind::Secretbox(keys) => keys.chain.sealed_len(plaintext_len),
        }
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        match &self.0 {
            Kind::Identity(identity) => identity.to_storage(key, plaintext, nonces, out),
            Kind::AesCbc(keys) => keys.chain.to_storage(key, plaintext, nonces, out),
            Kind::AesGcm(keys) => keys.chain.to_storage(key, plaintext, nonces, out),
            Kind::Secretbox(keys) => keys.chain.to_storage(key, plaintext, nonces, out),
        }
    }

    fn from_storage(&self, key: StorageKey<'_>, body: &[u8], out: &mut Vec<u8>) -> Result<Opened, OpenError> {
        match &self.0 {
            Kind::Identity(identity) => identity.from_storage(key, body, out),
            Kind::AesCbc(keys) => keys.chain.from_storage(key, body, out),
            Kind::AesGcm(keys) => keys.chain.from_storage(key, body, out),
            Kind::Secretbox(keys) => keys.chain.from_storage(key, body, out),
        }
    }
}

/// `aescbc "key1","key0"`: the kind and the names of its keys.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        for (index, name) in self.key_names().iter().enumerate() {
            write!(f, "{}{:?}", if index == 0 { ' ' } else { ',' }, name.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The inner chain: one link a key, behind `<name>:`.
struct Keys<C> {
    names: Vec<KeyName>,
    chain: PrefixChain<C>,
}

impl<C: Cipher> Keys<C> {
    fn shared<'a>(keys: impl IntoIterator<Item = (&'a KeyName, &'a SecretBytes)>) -> Result<Arc<Self>, BuildError> {
        let mut names = Vec::new();
        let mut links = Vec::new();
        for (name, secret) in keys {
            let cipher = C::from_key(secret.expose()).ok_or_else(|| BuildError::KeySize {
                provider: C::KIND,
                name: name.clone(),
                actual: secret.len(),
                expected: C::KEY_SIZES,
            })?;
            links.push(Link::new(format!("{name}:"), cipher));
            names.push(name.clone());
        }
        let chain = PrefixChain::new(links, OpenError::NoMatchingKey(C::KIND)).ok_or(BuildError::NoKeys(C::KIND))?;
        Ok(Arc::new(Self { names, chain }))
    }
}
