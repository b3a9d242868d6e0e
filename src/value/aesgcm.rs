//! aesgcm: `nonce(12) ‖ ciphertext ‖ tag(16)`, with AES-128, 192 or 256. Confidentiality and integrity, as long as no
//! nonce comes twice under one key. Does not count how often a key has written, nor rotate it.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::CryptoRng;

use super::prefix_chain::{Opened, Place, Transformer};
use super::provider::Cipher;
use super::{Deks, OpenError, ProviderKind, SealError};
use crate::types::StorageKey;

const TAG: usize = 16;

/// AES-GCM keyed once; the schedule is wiped when dropped.
///
/// # What the additional data defends
///
/// The whole etcd key is authenticated with every value, so that whoever can write to etcd can't answer for one Secret
/// with another's. It does not defend against an older value of the same key: etcd's revision is no part of it.
pub(super) struct AesGcm(LessSafeKey);

impl Cipher for AesGcm {
    const KIND: ProviderKind = ProviderKind::AesGcm;
    const KEY_SIZES: &'static str = "16, 24 or 32";

    fn from_key(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, key)
            .ok()
            .map(|key| Self(LessSafeKey::new(key)))
    }
}

impl Transformer for AesGcm {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        sealed_len(plaintext_len)
    }

    /// The nonce is random because nothing else is shared: several API servers write with the same configured key, none
    /// knows how far another has counted, and a counter would start again with every restart.
    ///
    /// 96 random bits wear out. NIST SP 800-38D section 8.3 allows 2^32 values a key, where a repetition somewhere has
    /// probability 2^-32; a repetition reveals the difference of two plaintexts and lets tags be forged. Kubernetes
    /// advises a new key every 200,000 writes, which no provider with a fixed key can hold by itself: the operator
    /// rotates.
    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        _deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_LEN];
        nonces.fill_bytes(&mut nonce);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let (_, text) = out.split_at_mut(start);
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.aad()), text)
            .map_err(|_| SealError::Cipher(Self::KIND))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The cipher decrypts before it knows the tag to be right, and where it is not overwrites what it has made: hence the
    /// copy, of ciphertext, which is all that is ever in `spare`.
    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        _deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let (&mut nonce, sealed) = body.split_first_chunk_mut().ok_or(OpenError::Undecryptable)?;
        spare.clear();
        spare.extend_from_slice(sealed);
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(key.aad()), sealed)
            .map(|plaintext| plaintext.len());
        let Ok(plaintext_len) = opened else {
            sealed.copy_from_slice(spare);
            return Err(OpenError::Undecryptable);
        };
        Ok((Opened::fresh(), NONCE_LEN..NONCE_LEN + plaintext_len))
    }
}

/// How many bytes sealing a plaintext of so many makes, whatever the key.
pub(super) fn sealed_len(plaintext_len: usize) -> usize {
    NONCE_LEN + plaintext_len + TAG
}
