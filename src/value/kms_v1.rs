//! KMS v1: `u16 length ‖ wrapped DEK ‖ body`, each value sealed with a DEK of its own that a plugin has wrapped. Written
//! with AES-GCM as Kubernetes does since 1.25; read as that, then as the AES-CBC of earlier versions. Calls no plugin.

use std::fmt;
use std::sync::Arc;

use rand::CryptoRng;

use super::aescbc::AesCbc;
use super::aesgcm::AesGcm;
use super::deks::Need;
use super::prefix_chain::{Place, Transformer};
use super::provider::Cipher as _;
use super::{Deks, KmsV1Keys, OpenError, SealError};
use crate::types::{SecretBytes, StorageKey};

/// A data encryption key, in both ciphers that values of KMS v1 may have.
pub struct DekV1 {
    gcm: AesGcm,
    cbc: AesCbc,
}

impl DekV1 {
    /// `None` unless the key has 16, 24 or 32 bytes: it is taken as the plugin gives it.
    pub fn new(key: &SecretBytes) -> Option<Self> {
        Some(Self {
            gcm: AesGcm::from_key(key.expose())?,
            cbc: AesCbc::from_key(key.expose())?,
        })
    }
}

impl fmt::Debug for DekV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DekV1(REDACTED)")
    }
}

/// The provider: seals and opens with the DEKs of one plugin.
#[derive(Clone)]
pub(super) struct KmsV1(Arc<dyn KmsV1Keys>);

impl KmsV1 {
    pub(super) fn new(keys: Arc<dyn KmsV1Keys>) -> Self {
        Self(keys)
    }

    /// The DEK behind `wrapped`, if it is at hand; otherwise what is to be done to have it.
    fn dek(&self, wrapped: &[u8], deks: &Deks) -> Result<Arc<DekV1>, OpenError> {
        if let Some(dek) = deks.cached_v1(&self.0, wrapped) {
            return Ok(dek);
        }
        deks.v1(&self.0, wrapped)
    }
}

impl Transformer for KmsV1 {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        // How long the wrapped DEK is, is not known before there is one; a guess saves most reallocations.
        const USUAL_WRAPPED_DEK: usize = 256;
        2 + USUAL_WRAPPED_DEK + super::aesgcm::sealed_len(plaintext_len)
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let fresh = deks.fresh(&self.0)?;
        let length = u16::try_from(fresh.wrapped.len()).map_err(|_| SealError::WrappedDekTooLong)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&fresh.wrapped);
        fresh.dek.gcm.to_storage(key, plaintext, nonces, deks, out)
    }

    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let (wrapped, sealed) = split(body).ok_or(OpenError::LengthPrefix)?;
        let skipped = body.len() - sealed.len();
        let dek = self.dek(wrapped, deks)?;
        let (_, sealed) = body.split_at_mut(skipped);
        let (opened, at) = dek.gcm.from_storage(key, sealed, deks, spare).or_else(|_| {
            // What Kubernetes up to 1.24 wrote. It is written anew in the first form: CBC authenticates nothing.
            let (opened, at) = dek.cbc.from_storage(key, sealed, deks, spare)?;
            Ok((opened.made_stale(), at))
        })?;
        Ok((opened, skipped + at.start..skipped + at.end))
    }

    fn survey(&self, body: &[u8], deks: &Deks) -> Need {
        let Some((wrapped, _)) = split(body) else {
            return Need::Nothing;
        };
        if let Some(dek) = deks.cached_v1(&self.0, wrapped) {
            // The cache may have forgotten it by the time that the value is opened.
            deks.hold_v1(&self.0, wrapped, dek);
            return Need::Nothing;
        }
        match deks.v1(&self.0, wrapped) {
            Err(OpenError::Pending) => Need::Pending,
            _ => Need::Nothing,
        }
    }
}

/// The wrapped DEK and what follows it.
fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
