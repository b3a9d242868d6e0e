//! The bare primitives at their best: buffers at hand, one nonce again and again, no prefix and no lookup. What a provider
//! takes beyond this is its own doing.

use std::hint::black_box;

use aes::Aes256;
use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{Criterion, Throughput};
use dryoc::classic::crypto_secretbox::{crypto_secretbox_detached, crypto_secretbox_open_detached};

use crate::{KEY, SIZES};

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("bare");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut buffer = vec![b'x'; size];

        let (blocks, _) = Array::slice_as_chunks_mut(&mut buffer);
        group.bench_function(format!("aescbc seal {size}"), |b| {
            b.iter(|| {
                cbc::Encryptor::<Aes256>::new(&[7; 32].into(), &[9; 16].into()).encrypt_blocks(black_box(&mut *blocks));
            });
        });
        group.bench_function(format!("aescbc open {size}"), |b| {
            b.iter(|| {
                cbc::Decryptor::<Aes256>::new(&[7; 32].into(), &[9; 16].into()).decrypt_blocks(black_box(&mut *blocks));
            });
        });

        let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
        let nonce = || Nonce::assume_unique_for_key([9; 12]);
        group.bench_function(format!("aesgcm seal {size}"), |b| {
            b.iter(|| {
                let tag = gcm.seal_in_place_separate_tag(nonce(), Aad::from(KEY.0), black_box(&mut buffer));
                drop(black_box(tag.unwrap()));
            });
        });
        // Opened out of place, so that there is something to open the next time too.
        let mut sealed = vec![b'x'; size];
        gcm.seal_in_place_append_tag(nonce(), Aad::from(KEY.0), &mut sealed)
            .unwrap();
        let mut opened = vec![0; size];
        group.bench_function(format!("aesgcm open {size}"), |b| {
            b.iter(|| {
                let (ciphertext, tag) = black_box(&sealed).split_at(size);
                gcm.open_separate_gather(nonce(), Aad::from(KEY.0), ciphertext, tag, &mut opened)
                    .unwrap();
            });
        });

        let (key, nonce) = ([7; 32], [9; 24]);
        let (mut sealed, mut tag) = (vec![0; size], [0; 16]);
        group.bench_function(format!("secretbox seal {size}"), |b| {
            b.iter(|| crypto_secretbox_detached(&mut sealed, &mut tag, black_box(&buffer), &nonce, &key).unwrap());
        });
        group.bench_function(format!("secretbox open {size}"), |b| {
            b.iter(|| crypto_secretbox_open_detached(&mut opened, black_box(&sealed), &tag, &nonce, &key).unwrap());
        });
    }
    group.finish();
}
