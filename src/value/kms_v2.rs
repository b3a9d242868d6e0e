//! KMS v2: a protobuf `EncryptedObject`, which holds the sealed value, the wrapped DEK or seed, and what the plugin needs
//! to unwrap it. Written with a seed that is at hand ([`super::hkdf_gcm`]); read with seeds, and with the plain DEKs of
//! Kubernetes 1.25 to 1.28. Calls no plugin, and never seals with a DEK that came out of storage.

use std::fmt;
use std::sync::Arc;

use rand::CryptoRng;

use super::aesgcm::AesGcm;
use super::deks::Need;
use super::encrypted_object::{EncryptedObject, encode_data_header};
use super::hkdf_gcm::{self, HkdfGcm};
use super::prefix_chain::{Place, Transformer};
use super::provider::Cipher as _;
use super::{DekKind, Deks, KmsV2Keys, ObjectError, OpenError, SealError, WrappedDek, prefix};
use crate::types::{SecretBytes, StorageKey};
use crate::wire::Extent;

/// What a wrapped DEK was found to hold: it opens values and seals none.
pub struct DekV2(Opener);

enum Opener {
    Key(AesGcm),
    Seed(Box<HkdfGcm>),
}

impl DekV2 {
    /// `None` if `secret` has not the length of a DEK (16, 24 or 32 bytes) or seed (32 bytes or more).
    pub fn new(kind: DekKind, secret: &SecretBytes) -> Option<Self> {
        let opener = match kind {
            DekKind::AesGcmKey => Opener::Key(AesGcm::from_key(secret.expose())?),
            DekKind::HkdfSeed => Opener::Seed(Box::new(HkdfGcm::new(secret.expose())?)),
        };
        Some(Self(opener))
    }
}

impl fmt::Debug for DekV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DekV2(REDACTED)")
    }
}

/// Which key of its KMS a stored value was sealed under, by what it says itself. `None` if it is not of KMS v2, or is damaged.
pub fn key_id_of(stored: &[u8]) -> Option<String> {
    Some(dek_of(stored)?.key_id.into_owned())
}

/// Tells the wrapped seed (or DEK) that a stored value was sealed with from most others. `None` as for [`key_id_of`].
pub fn seed_of(stored: &[u8]) -> Option<u64> {
    let digest = dek_of(stored)?.digest();
    digest.first_chunk().map(|first| u64::from_be_bytes(*first))
}

fn dek_of(stored: &[u8]) -> Option<WrappedDek<'_>> {
    let named = stored.strip_prefix(prefix::KMS_V2.as_bytes())?;
    // The name of a plugin has no colon.
    let colon = named.iter().position(|&byte| byte == b':')?;
    let object = EncryptedObject::parse(named.get(colon + 1..)?).ok()?;
    Some(object.dek)
}

/// A seed of this process's own, which its plugin has wrapped.
pub struct SeedWriter {
    seed: HkdfGcm,
    wrapped: WrappedDek<'static>,
    /// Fields 2 to 5 of every `EncryptedObject` that is sealed with it.
    tail: Vec<u8>,
}

/// Why a plugin's answer makes no seed to write with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// What the plugin answered could not be read back.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It is no seed, or one of less than 32 bytes.
    #[error("a seed has at least 32 bytes")]
    Seed,
}

impl SeedWriter {
    /// A writer with `seed`, which is what `wrapped` holds.
    ///
    /// # Errors
    /// `wrapped` is not what may be stored, or `seed` is too short.
    pub fn new(seed: &SecretBytes, wrapped: WrappedDek<'static>) -> Result<Self, SeedError> {
        wrapped.validate()?;
        let is_seed = wrapped.kind == DekKind::HkdfSeed;
        let seed = HkdfGcm::new(seed.expose()).filter(|_| is_seed).ok_or(SeedError::Seed)?;
        let mut tail = Vec::new();
        wrapped.encode(&mut tail);
        Ok(Self { seed, wrapped, tail })
    }

    /// What the seed is wrapped in.
    pub fn wrapped(&self) -> &WrappedDek<'static> {
        &self.wrapped
    }
}

impl fmt::Debug for SeedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeedWriter(REDACTED)")
    }
}

/// The provider: seals with the seed of one plugin and opens with all that it can unwrap.
#[derive(Clone)]
pub(super) struct KmsV2(Arc<dyn KmsV2Keys>);

impl KmsV2 {
    pub(super) fn new(keys: Arc<dyn KmsV2Keys>) -> Self {
        Self(keys)
    }

    /// What `wrapped` holds, if it is at hand; otherwise what is to be done to have it.
    fn dek(&self, wrapped: &WrappedDek<'_>, deks: &Deks) -> Result<Arc<DekV2>, OpenError> {
        if let Some(dek) = self.0.cached(wrapped) {
            return Ok(dek);
        }
        deks.v2(&self.0, wrapped)
    }
}

impl Transformer for KmsV2 {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        /// Tag and length of field 1, at most.
        const HEADER: usize = 11;
        // Which seed writes, and so how long its fields are, is asked for once, when it does. A key's name and a wrapped seed
        // are usually shorter than this.
        const USUAL_TAIL: usize = 512;
        HEADER + hkdf_gcm::sealed_len(plaintext_len) + USUAL_TAIL
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let writer = self.0.writer().map_err(SealError::Kms)?;
        encode_data_header(out, hkdf_gcm::sealed_len(plaintext.len()));
        writer.seed.to_storage(key, plaintext, nonces, deks, out)?;
        out.extend_from_slice(&writer.tail);
        self.0.sealed(&writer.wrapped.key_id);
        Ok(())
    }

    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let object = EncryptedObject::parse(body).map_err(OpenError::Object)?;
        let dek = self.dek(&object.dek, deks)?;
        let (kind, key_id) = (object.dek.kind, object.dek.key_id.into_owned());
        let Extent { start, end, .. } = object.data.extent;
        let data = body.get_mut(start..end).unwrap_or_default();
        let (opened, at) = match &dek.0 {
            Opener::Key(key_of_value) => key_of_value.from_storage(key, data, deks, spare),
            Opener::Seed(seed) => seed.from_storage(key, data, deks, spare),
        }?;
        // Another DEK under the same key ID is as good as the one that writes now.
        let is_current = self.0.opened(&key_id) && kind == DekKind::HkdfSeed;
        let opened = if is_current { opened } else { opened.made_stale() };
        Ok((opened, start + at.start..start + at.end))
    }

    fn survey(&self, body: &[u8], deks: &Deks) -> Need {
        let Ok(EncryptedObject { dek: wrapped, .. }) = EncryptedObject::parse(body) else {
            return Need::Nothing;
        };
        if let Some(dek) = self.0.cached(&wrapped) {
            // The cache may have forgotten it by the time that the value is opened.
            deks.hold_v2(&self.0, &wrapped, dek);
            return Need::Nothing;
        }
        match deks.v2(&self.0, &wrapped) {
            Err(OpenError::Pending) => Need::Pending,
            _ => Need::Nothing,
        }
    }
}
