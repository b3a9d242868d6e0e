//! aescbc: `IV(16) ‖ AES-CBC(plaintext, PKCS#7)`, with AES-128, 192 or 256. Confidentiality only: whoever can write to
//! etcd can change a value and move it between keys unnoticed, so nothing here may tell them *how* a value failed.

mod lanes;

use std::ops::Range;

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::consts::U16;
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
};
use rand::CryptoRng;
use subtle::ConstantTimeEq;

use super::prefix_chain::{Opened, Place, Transformer};
use super::provider::Cipher;
use super::{Deks, OpenError, ProviderKind, SealError};
use crate::types::StorageKey;

const BLOCK: usize = 16;

/// AES keyed once; both schedules are wiped when dropped.
pub(super) enum AesCbc {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Cipher for AesCbc {
    const KIND: ProviderKind = ProviderKind::AesCbc;
    // Kubernetes documents 32 bytes; its code takes every size that AES has.
    const KEY_SIZES: &'static str = "16, 24 or 32";

    fn from_key(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(Self::Aes128),
            24 => Aes192::new_from_slice(key).ok().map(Self::Aes192),
            32 => Aes256::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }
}

impl Transformer for AesCbc {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        BLOCK + plaintext_len + padding_for(plaintext_len)
    }

    /// The IV must be unpredictable, not only unique: with one that can be guessed, whoever may write a value of their
    /// own choice tests guesses of another value's first block. Hence a CSPRNG and never a counter. Random IVs repeat
    /// blocks of *ciphertext* after some 2^64 blocks under one key, far beyond what an etcd holds.
    fn to_storage<R: CryptoRng>(
        &self,
        _key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        _deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let laid_out = lay_out(plaintext, nonces, out);
        let (_, body) = out.split_at_mut(laid_out.start);
        if let Some((iv, text)) = body.split_first_chunk_mut() {
            match self {
                Self::Aes128(aes) => encrypt(aes, iv, text),
                Self::Aes192(aes) => encrypt(aes, iv, text),
                Self::Aes256(aes) => encrypt(aes, iv, text),
            }
        }
        Ok(())
    }

    fn lay_out<R: CryptoRng>(
        &self,
        _key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        _deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, SealError> {
        Ok(lay_out(plaintext, nonces, out))
    }

    fn finish(&self, laid_out: Vec<&mut [u8]>) {
        match self {
            Self::Aes128(aes) => lanes::encrypt(aes, laid_out),
            Self::Aes192(aes) => lanes::encrypt(aes, laid_out),
            Self::Aes256(aes) => lanes::encrypt(aes, laid_out),
        }
    }

    fn from_storage(
        &self,
        _key: StorageKey<'_>,
        body: &mut [u8],
        _deks: &Deks,
        _spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let (iv, text) = body.split_first_chunk_mut::<BLOCK>().ok_or(OpenError::Undecryptable)?;
        let plaintext_len = match self {
            Self::Aes128(aes) => open(aes, iv, text),
            Self::Aes192(aes) => open(aes, iv, text),
            Self::Aes256(aes) => open(aes, iv, text),
        };
        let plaintext_len = plaintext_len.ok_or(OpenError::Undecryptable)?;
        Ok((Opened::fresh(), BLOCK..BLOCK + plaintext_len))
    }
}

/// Appends an IV and the padded plaintext, and says where both lie. It is yet to be encrypted.
fn lay_out<R: CryptoRng>(plaintext: &[u8], nonces: &mut R, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    let mut iv = [0; BLOCK];
    nonces.fill_bytes(&mut iv);
    out.extend_from_slice(&iv);
    out.extend_from_slice(plaintext);
    let padding = padding_for(plaintext.len());
    // 1 to 16, so it fits a byte and the text is whole blocks.
    out.resize(out.len() + padding, u8::try_from(padding).unwrap_or_default());
    start..out.len()
}

/// PKCS#7: 1 to 16 bytes, a whole block where the text already ends on one.
fn padding_for(len: usize) -> usize {
    BLOCK - len % BLOCK
}

/// Encrypts whole blocks in place.
fn encrypt<C: BlockCipherEncrypt<BlockSize = U16>>(aes: &C, iv: &[u8; BLOCK], text: &mut [u8]) {
    let (blocks, _) = Array::slice_as_chunks_mut(text);
    cbc::Encryptor::inner_iv_init(aes, iv.into()).encrypt_blocks(blocks);
}

/// Decrypts whole blocks in place.
fn decrypt<C: BlockCipherDecrypt<BlockSize = U16>>(aes: &C, iv: &[u8; BLOCK], text: &mut [u8]) {
    let (blocks, _) = Array::slice_as_chunks_mut(text);
    cbc::Decryptor::inner_iv_init(aes, iv.into()).decrypt_blocks(blocks);
}

/// As many bytes at the end of a text as a padding could ever cover, in whole blocks.
const TAIL: usize = u8::MAX as usize + 1;

/// Decrypts `text` in place and gives its length without the padding. `None`, and `text` as it was, if it is not whole blocks
/// or its padding is not one that kube-apiserver accepts.
///
/// A block needs nothing but the one before it, so the end comes first, on a copy: nothing is written before the padding has
/// been seen to be right.
fn open<C: BlockCipherDecrypt<BlockSize = U16>>(aes: &C, iv: &[u8; BLOCK], text: &mut [u8]) -> Option<usize> {
    if !text.len().is_multiple_of(BLOCK) {
        return None;
    }
    let (front, end) = text.split_at_mut(text.len().saturating_sub(TAIL));
    let mut tail = [0; TAIL];
    let (_, plain_end) = tail.split_at_mut(TAIL - end.len());
    plain_end.copy_from_slice(end);
    decrypt(aes, front.last_chunk().unwrap_or(iv), plain_end);
    let padding = padding_of(&tail)?;
    let (_, plain_end) = tail.split_at(TAIL - end.len());
    end.copy_from_slice(plain_end);
    decrypt(aes, iv, front);
    text.len().checked_sub(padding)
}

/// Length of the padding at the end of a text, which zeros before it make as long as `TAIL` where it is shorter. `None` if
/// it is not one that kube-apiserver accepts: the last byte `n` is from 1 to the length of the text, more than a block
/// included, and so are the `n` last bytes. A padding longer than the text reaches into the zeros, which differ from it; so
/// an IV alone, which makes kube-apiserver panic, has no padding either.
///
/// Takes the same steps whatever the bytes are: it looks at all that a padding could ever cover, and decides once. Always as
/// many bytes, so that the loop has a fixed length and compiles to vector instructions without a branch: over the text itself
/// it took longer than the decryption.
fn padding_of(tail: &[u8; TAIL]) -> Option<usize> {
    const LONGEST: usize = u8::MAX as usize;
    let tail: &[u8; LONGEST] = tail.last_chunk()?;
    let &padding = tail.last()?;
    let mut differing = 0;
    for (distance, &byte) in (0..u8::MAX).rev().zip(tail) {
        // 0xff where the byte belongs to the padding, 0 elsewhere.
        let belongs = 0u8.wrapping_sub(u8::from(distance < padding));
        differing |= belongs & (byte ^ padding);
    }
    let valid = differing.ct_eq(&0) & !padding.ct_eq(&0);
    bool::from(valid).then(|| usize::from(padding))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cipher() -> AesCbc {
        AesCbc::from_key(&[7; 32]).unwrap()
    }

    /// A body whose decrypted blocks are exactly `text`, padding included.
    fn body_of(text: &[u8]) -> Vec<u8> {
        let AesCbc::Aes256(aes) = cipher() else { unreachable!() };
        let mut blocks = text.to_vec();
        encrypt(&aes, &[9; BLOCK], &mut blocks);
        [vec![9; BLOCK], blocks].concat()
    }

    /// Nothing must have changed where this fails.
    fn open(body: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut place = body.to_vec();
        let opened = cipher().from_storage(StorageKey(b""), &mut place, &Deks::default(), &mut Vec::new());
        assert!(opened.is_ok() || place == body);
        opened.map(|(_, at)| place[at].to_vec())
    }

    #[test]
    fn every_way_in_which_a_body_fails_is_one_and_the_same_error() {
        let mut uneven_padding = [b'x'; 32];
        uneven_padding[29..].copy_from_slice(&[3, 4, 3]);
        let too_long = [17; 16];
        for body in [
            vec![],
            vec![0; 15],
            vec![0; 16],
            vec![0; 17],
            vec![0; 33],
            body_of(&[0; 16]),
            body_of(&too_long),
            body_of(&[255; 16]),
            body_of(&uneven_padding),
        ] {
            assert_eq!(open(&body), Err(OpenError::Undecryptable), "{body:?}");
        }
    }

    #[test]
    fn a_padding_longer_than_a_block_opens_as_in_kube_apiserver() {
        assert_eq!(open(&body_of(&[32; 32])), Ok(vec![]));
        assert_eq!(
            open(&body_of(&[b"k8s and more.".as_slice(), &[19; 19]].concat())),
            Ok(b"k8s and more.".to_vec())
        );
        assert_eq!(
            open(&body_of(&[b"x".as_slice(), &[255; 255]].concat())),
            Ok(b"x".to_vec())
        );
    }

    #[test]
    fn no_other_key_size_is_taken() {
        let sizes: Vec<_> = (0..=64)
            .filter(|&size| AesCbc::from_key(&vec![1; size]).is_some())
            .collect();
        assert_eq!(sizes, [16, 24, 32]);
    }

    /// Upstream's rule, written as plainly as it is stated.
    fn stated_rule(text: &[u8]) -> Option<usize> {
        let padding = usize::from(*text.last()?);
        let kept = text.len().checked_sub(padding)?;
        (padding > 0 && text[kept..].iter().all(|&byte| usize::from(byte) == padding)).then_some(kept)
    }

    /// Length of `text` without its padding.
    fn kept(text: &[u8]) -> Option<usize> {
        let mut tail = [0; TAIL];
        let covered = text.len().min(TAIL);
        tail[TAIL - covered..].copy_from_slice(&text[text.len() - covered..]);
        padding_of(&tail).map(|padding| text.len() - padding)
    }

    proptest! {
        /// Any whole blocks at all, with an end that is a padding or nearly one.
        #[test]
        fn the_end_first_is_the_whole_from_the_front(
            head in proptest::collection::vec(any::<u8>(), 0..600),
            padding in prop_oneof![Just(0u8), 1u8..40, any::<u8>()],
        ) {
            let mut text = [head, vec![padding; usize::from(padding)]].concat();
            text.drain(..text.len() % BLOCK);
            let expected = stated_rule(&text).map(|kept| text[..kept].to_vec());
            prop_assert_eq!(open(&body_of(&text)).ok(), expected);
        }

        /// Where the run of equal bytes ends, and where one of them is flipped, lie close around the padding's length.
        #[test]
        fn the_constant_time_check_is_the_stated_rule(
            head in proptest::collection::vec(any::<u8>(), 0..300),
            padding in prop_oneof![0u8..40, any::<u8>()],
            longer in -2i16..3,
            flipped in -2i16..3,
        ) {
            let near = |by: i16| usize::try_from(i16::from(padding) + by).unwrap_or_default();
            let mut text = [head, vec![padding; near(longer)]].concat();
            prop_assert_eq!(kept(&text), stated_rule(&text));
            if let Some(byte) = text.len().checked_sub(near(flipped)).and_then(|at| text.get_mut(at)) {
                *byte ^= 1;
            }
            prop_assert_eq!(kept(&text), stated_rule(&text));
        }
    }
}
