//! AES-256-GCM under a key of each value's own, derived from a seed: `info(32) ‖ nonce(12) ‖ ciphertext ‖ tag(16)`. The
//! body of what KMS v2 writes. Does not know where the seed comes from, and holds no derived key longer than a value.

use aws_lc_rs::hmac;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::aesgcm::{self, AesGcm};
use super::prefix_chain::{Place, Transformer};
use super::provider::Cipher as _;
use super::{Deks, OpenError, ProviderKind, SealError};
use crate::types::StorageKey;

/// Random bytes from which, with the seed, a value's key is derived.
const INFO: usize = 32;

/// Shortest seed, bytes. kube-apiserver makes seeds of just this length, and takes longer ones.
const MIN_SEED: usize = 32;

/// A seed.
///
/// # Wear
///
/// Each value has 256 random bits of its own for its key and another 96 for its nonce, so the number of values under one
/// seed has no bound that matters, where a plain AES-GCM key wears out at 2^32. That is why a seed may live as long as the
/// process, and why writing needs no call to a KMS.
pub(super) struct HkdfGcm(hmac::Key);

impl HkdfGcm {
    /// `None` if the seed is shorter than 32 bytes.
    pub(super) fn new(seed: &[u8]) -> Option<Self> {
        (seed.len() >= MIN_SEED).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, seed)))
    }

    /// HKDF-Expand (RFC 5869, section 2.3) with SHA-256 for 32 bytes: the first block, `HMAC(seed, info ‖ 1)`, is all of
    /// it. The extract step is left out, as kube-apiserver leaves it out: a seed is uniform to begin with.
    fn derived(&self, info: &[u8]) -> Option<AesGcm> {
        let info: [u8; INFO] = info.try_into().ok()?;
        let mut block = [1; INFO + 1];
        let (front, _) = block.split_at_mut(INFO);
        front.copy_from_slice(&info);
        // Straight into what is wiped: a tag of its own would stay behind on the stack.
        let mut key = Zeroizing::new([0; 32]);
        hmac::sign_to_buffer(&self.0, &block, &mut *key).ok()?;
        AesGcm::from_key(&*key)
    }
}

impl Transformer for HkdfGcm {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        sealed_len(plaintext_len)
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let mut info = [0; INFO];
        nonces.fill_bytes(&mut info);
        let cipher = self.derived(&info).ok_or(SealError::Cipher(ProviderKind::KmsV2))?;
        out.extend_from_slice(&info);
        cipher.to_storage(key, plaintext, nonces, deks, out)
    }

    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let (info, body) = body.split_at_mut_checked(INFO).ok_or(OpenError::Undecryptable)?;
        let cipher = self.derived(info).ok_or(OpenError::Undecryptable)?;
        let (opened, at) = cipher.from_storage(key, body, deks, spare)?;
        Ok((opened, INFO + at.start..INFO + at.end))
    }
}

/// How many bytes sealing a plaintext of so many makes, whatever the seed.
pub(super) fn sealed_len(plaintext_len: usize) -> usize {
    INFO + aesgcm::sealed_len(plaintext_len)
}
