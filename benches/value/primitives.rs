//! The bare primitives at their best: buffers at hand, one nonce again and again, no prefix and no lookup. What a provider
//! takes beyond this is its own doing.

use std::hint::black_box;

use aes::Aes256;
use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit as _};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use aws_lc_rs::hmac;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{AeadInPlace as _, KeyInit as _};
use dryoc::classic::crypto_secretbox::{crypto_secretbox_detached, crypto_secretbox_open_detached};

use crate::paired::Work;
use crate::providers::{KEY, Way};

const SECRET: [u8; 32] = [7; 32];

/// What is beneath a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    /// Bytes copied into a buffer.
    Copy,
    /// AES-256-CBC of the crates aes and cbc.
    Cbc,
    /// AES-256-GCM of aws-lc.
    Gcm,
    /// HMAC-SHA256 of 33 bytes for a key, and AES-256-GCM under that key, both of aws-lc.
    DerivedGcm,
    /// XSalsa20-Poly1305 of dryoc.
    Secretbox,
    /// The same of the `RustCrypto` project, which secretbox could be built on instead.
    RustCryptoSecretbox,
}

impl Primitive {
    /// One way of it, for `size` bytes.
    pub fn work(self, way: Way, size: usize) -> Work {
        match self {
            Self::Copy => copy(size),
            Self::Cbc => cbc(way, size),
            Self::Gcm => {
                let cipher = gcm_key(&SECRET);
                gcm(way, size, move |work| work(&cipher))
            }
            Self::DerivedGcm => {
                let seed = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
                gcm(way, size, move |work| {
                    let derived = hmac::sign(&seed, black_box(&[9; 33]));
                    work(&gcm_key(derived.as_ref()));
                })
            }
            Self::Secretbox => secretbox(way, size),
            Self::RustCryptoSecretbox => rust_crypto_secretbox(way, size),
        }
    }
}

fn copy(size: usize) -> Work {
    let (from, mut to) = (vec![b'x'; size], Vec::new());
    Box::new(move || {
        to.clear();
        to.extend_from_slice(black_box(&from));
        black_box(&to);
    })
}

fn cbc(way: Way, size: usize) -> Work {
    // A whole block of padding stands behind whole blocks of text.
    let mut buffer = vec![b'x'; size + 16];
    let cipher = <Aes256 as aes::cipher::KeyInit>::new(&SECRET.into());
    let iv = [9; 16];
    Box::new(move || {
        let (blocks, _) = Array::slice_as_chunks_mut(black_box(&mut buffer));
        match way {
            Way::Seal => cbc::Encryptor::inner_iv_init(&cipher, &iv.into()).encrypt_blocks(blocks),
            Way::Open => cbc::Decryptor::inner_iv_init(&cipher, &iv.into()).decrypt_blocks(blocks),
        }
    })
}

fn gcm_key(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

/// With the key that `keyed` brings.
fn gcm(way: Way, size: usize, keyed: impl Fn(&mut dyn FnMut(&LessSafeKey)) + 'static) -> Work {
    let nonce = || Nonce::assume_unique_for_key([9; NONCE_LEN]);
    let mut text = vec![b'x'; size];
    let seal = move |cipher: &LessSafeKey, text: &mut [u8]| -> Tag {
        cipher
            .seal_in_place_separate_tag(nonce(), Aad::from(KEY.0), black_box(text))
            .expect("a tag")
    };
    if way == Way::Seal {
        return Box::new(move || {
            keyed(&mut |cipher| {
                black_box(seal(cipher, &mut text).as_ref());
            });
        });
    }
    // Opened out of place, so that there is something to open the next time too.
    let (mut opened, mut tag) = (vec![0; size], Vec::new());
    keyed(&mut |cipher| tag = seal(cipher, &mut text).as_ref().to_vec());
    Box::new(move || {
        keyed(&mut |cipher| {
            cipher
                .open_separate_gather(nonce(), Aad::from(KEY.0), black_box(&text), &tag, &mut opened)
                .expect("what was sealed");
        });
    })
}

fn secretbox(way: Way, size: usize) -> Work {
    let nonce = [9; 24];
    let (text, mut sealed, mut tag) = (vec![b'x'; size], vec![0; size], [0; 16]);
    crypto_secretbox_detached(&mut sealed, &mut tag, &text, &nonce, &SECRET).expect("a tag");
    let mut out = vec![0; size];
    Box::new(move || match way {
        Way::Seal => {
            crypto_secretbox_detached(&mut out, &mut tag, black_box(&text), &nonce, &SECRET).expect("a tag");
        }
        Way::Open => {
            crypto_secretbox_open_detached(&mut out, black_box(&sealed), &tag, &nonce, &SECRET)
                .expect("what was sealed");
        }
    })
}

fn rust_crypto_secretbox(way: Way, size: usize) -> Work {
    let cipher = XSalsa20Poly1305::new(&SECRET.into());
    let nonce = [9; 24].into();
    let text = vec![b'x'; size];
    let mut sealed = text.clone();
    let tag = cipher
        .encrypt_in_place_detached(&nonce, b"", &mut sealed)
        .expect("a tag");
    let mut out = vec![0; size];
    Box::new(move || match way {
        Way::Seal => {
            out.copy_from_slice(black_box(&text));
            black_box(cipher.encrypt_in_place_detached(&nonce, b"", &mut out)).expect("a tag");
        }
        Way::Open => {
            out.copy_from_slice(black_box(&sealed));
            cipher
                .decrypt_in_place_detached(&nonce, b"", &mut out, &tag)
                .expect("what was sealed");
        }
    })
}
