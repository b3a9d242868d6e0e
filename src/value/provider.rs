//! One provider of a chain: identity, or a cipher with its named keys. Knows which prefix belongs to which; holds keys
//! only inside keyed ciphers.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rand::CryptoRng;

use super::aescbc::AesCbc;
use super::aesgcm::AesGcm;
use super::deks::Need;
use super::identity::Identity;
use super::kms_v1::KmsV1;
use super::kms_v2::KmsV2;
use super::prefix_chain::{Link, Place, PrefixChain, Transformer};
use super::secretbox::Secretbox;
use super::{BuildError, Deks, KmsV1Keys, KmsV2Keys, OpenError, SealError, prefix};
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
    /// A KMS plugin that wraps a key for each value.
    KmsV1,
    /// A KMS plugin that wraps a seed now and then.
    KmsV2,
}

impl ProviderKind {
    /// What kube-apiserver's errors call the transformer.
    pub(super) fn transformer(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::AesCbc | Self::AesGcm => "AES",
            Self::Secretbox => "Secretbox",
            Self::KmsV1 | Self::KmsV2 => "envelope",
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
            Self::KmsV1 => "kms v1",
            Self::KmsV2 => "kms v2",
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
    KmsV1(KeyName, KmsV1),
    KmsV2(KeyName, KmsV2),
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

    /// KMS v1 through a plugin, under the name that the configuration gives it.
    pub fn kms_v1(name: KeyName, keys: Arc<dyn KmsV1Keys>) -> Self {
        Self(Kind::KmsV1(name, KmsV1::new(keys)))
    }

    /// KMS v2 through a plugin, under the name that the configuration gives it.
    pub fn kms_v2(name: KeyName, keys: Arc<dyn KmsV2Keys>) -> Self {
        Self(Kind::KmsV2(name, KmsV2::new(keys)))
    }

    /// Which kind of provider this is.
    pub fn kind(&self) -> ProviderKind {
        match &self.0 {
            Kind::Identity(_) => ProviderKind::Identity,
            Kind::AesCbc(_) => ProviderKind::AesCbc,
            Kind::AesGcm(_) => ProviderKind::AesGcm,
            Kind::Secretbox(_) => ProviderKind::Secretbox,
            Kind::KmsV1(..) => ProviderKind::KmsV1,
            Kind::KmsV2(..) => ProviderKind::KmsV2,
        }
    }

    /// The names of its keys, the writing one first; none for identity. A KMS provider has one, its own name: it is what
    /// stands in a stored value where others have a key's name.
    pub fn key_names(&self) -> &[KeyName] {
        match &self.0 {
            Kind::Identity(_) => &[],
            Kind::AesCbc(keys) => &keys.names,
            Kind::AesGcm(keys) => &keys.names,
            Kind::Secretbox(keys) => &keys.names,
            Kind::KmsV1(name, _) | Kind::KmsV2(name, _) => std::slice::from_ref(name),
        }
    }

    /// Whether its values name their key behind the provider's prefix, by a chain of keys of its own.
    pub fn has_key_prefixes(&self) -> bool {
        match &self.0 {
            Kind::Identity(_) | Kind::KmsV1(..) | Kind::KmsV2(..) => false,
            Kind::AesCbc(_) | Kind::AesGcm(_) | Kind::Secretbox(_) => true,
        }
    }

    /// What every value that it seals begins with: `k8s:enc:aescbc:v1:`. Empty for identity.
    pub fn prefix(&self) -> Cow<'_, str> {
        match &self.0 {
            Kind::Identity(_) => prefix::IDENTITY.into(),
            Kind::AesCbc(_) => prefix::AESCBC.into(),
            Kind::AesGcm(_) => prefix::AESGCM.into(),
            Kind::Secretbox(_) => prefix::SECRETBOX.into(),
            Kind::KmsV1(name, _) => format!("{}{name}:", prefix::KMS_V1).into(),
            Kind::KmsV2(name, _) => format!("{}{name}:", prefix::KMS_V2).into(),
        }
    }

    /// This provider as a link of a chain, behind the prefix that its values begin with.
    pub(super) fn into_link(self) -> Link<Self> {
        let prefix = self.prefix().into_owned();
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
            Kind::KmsV1(_, kms) => kms.sealed_len(plaintext_len),
            Kind::KmsV2(_, kms) => kms.sealed_len(plaintext_len),
        }
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        match &self.0 {
            Kind::Identity(identity) => identity.to_storage(key, plaintext, nonces, deks, out),
            Kind::AesCbc(keys) => keys.chain.to_storage(key, plaintext, nonces, deks, out),
            Kind::AesGcm(keys) => keys.chain.to_storage(key, plaintext, nonces, deks, out),
            Kind::Secretbox(keys) => keys.chain.to_storage(key, plaintext, nonces, deks, out),
            Kind::KmsV1(_, kms) => kms.to_storage(key, plaintext, nonces, deks, out),
            Kind::KmsV2(_, kms) => kms.to_storage(key, plaintext, nonces, deks, out),
        }
    }

    fn lay_out<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, SealError> {
        if let Kind::AesCbc(keys) = &self.0 {
            return keys.chain.lay_out(key, plaintext, nonces, deks, out);
        }
        self.to_storage(key, plaintext, nonces, deks, out)?;
        Ok(out.len()..out.len())
    }

    fn finish(&self, laid_out: Vec<&mut [u8]>) {
        if let Kind::AesCbc(keys) = &self.0 {
            keys.chain.finish(laid_out);
        }
    }

    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        match &self.0 {
            Kind::Identity(identity) => identity.from_storage(key, body, deks, spare),
            Kind::AesCbc(keys) => keys.chain.from_storage(key, body, deks, spare),
            Kind::AesGcm(keys) => keys.chain.from_storage(key, body, deks, spare),
            Kind::Secretbox(keys) => keys.chain.from_storage(key, body, deks, spare),
            Kind::KmsV1(_, kms) => kms.from_storage(key, body, deks, spare),
            Kind::KmsV2(_, kms) => kms.from_storage(key, body, deks, spare),
        }
    }

    fn survey(&self, body: &[u8], deks: &Deks) -> Need {
        match &self.0 {
            Kind::Identity(_) | Kind::AesCbc(_) | Kind::AesGcm(_) | Kind::Secretbox(_) => Need::Nothing,
            Kind::KmsV1(_, kms) => kms.survey(body, deks),
            Kind::KmsV2(_, kms) => kms.survey(body, deks),
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
            links.push(Link::new(prefix::of_key(name), cipher));
            names.push(name.clone());
        }
        let chain = PrefixChain::new(links, OpenError::NoMatchingKey(C::KIND)).ok_or(BuildError::NoKeys(C::KIND))?;
        Ok(Arc::new(Self { names, chain }))
    }
}
