//! secretbox: `nonce(24) ‖ tag(16) ‖ ciphertext`, `XSalsa20` with Poly1305. Confidentiality and integrity of the value, but
//! nothing ties it to its etcd key.

use dryoc::classic::crypto_secretbox::{Mac, Nonce, crypto_secretbox_detached, crypto_secretbox_open_easy_inplace};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::prefix_chain::{Opened, Place, Transformer};
use super::provider::Cipher;
use super::{Deks, OpenError, ProviderKind, SealError};
use crate::types::StorageKey;

const NONCE: usize = size_of::<Nonce>();
const TAG: usize = size_of::<Mac>();

/// The key itself: `XSalsa20` derives another from it for every nonce, so there is no schedule to keep.
///
/// The etcd key is not authenticated. Whoever can write to etcd can answer for one Secret with another's, unnoticed.
pub(super) struct Secretbox(Zeroizing<[u8; 32]>);

impl Cipher for Secretbox {
    const KIND: ProviderKind = ProviderKind::Secretbox;
    const KEY_SIZES: &'static str = "32";

    fn from_key(key: &[u8]) -> Option<Self> {
        // Copied into place rather than converted, so that no copy stays behind on the stack.
        let mut own = Zeroizing::new([0; 32]);
        (key.len() == own.len()).then(|| own.copy_from_slice(key))?;
        Some(Self(own))
    }
}

impl Transformer for Secretbox {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        NONCE + TAG + plaintext_len
    }

    /// 192 random bits do not wear out: a repetition stays improbable (2^-32) up to 2^80 values a key.
    fn to_storage<R: CryptoRng>(
        &self,
        _key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        _deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let mut nonce = Nonce::default();
        nonces.fill_bytes(&mut nonce);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.resize(start + TAG + plaintext.len(), 0);
        let (_, sealed) = out.split_at_mut(start);
        let (tag, ciphertext) = sealed.split_first_chunk_mut().ok_or(SealError::Cipher(Self::KIND))?;
        crypto_secretbox_detached(ciphertext, tag, plaintext, &nonce, &self.0)
            .map_err(|_| SealError::Cipher(Self::KIND))
    }

    /// The tag is of the ciphertext and looked at first, so nothing is written where it is wrong. The plaintext comes to lie
    /// where the tag was.
    fn from_storage(
        &self,
        _key: StorageKey<'_>,
        body: &mut [u8],
        _deks: &Deks,
        _spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let (&mut nonce, sealed) = body.split_first_chunk_mut::<NONCE>().ok_or(OpenError::Undecryptable)?;
        crypto_secretbox_open_easy_inplace(sealed, &nonce, &self.0).map_err(|_| OpenError::Undecryptable)?;
        let plaintext_len = sealed.len().saturating_sub(TAG);
        Ok((Opened::fresh(), NONCE..NONCE + plaintext_len))
    }
}
