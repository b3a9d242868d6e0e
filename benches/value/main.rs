//! What sealing and opening a value costs, nonce, prefix and key lookup included, beside the bare primitives and beside
//! OpenSSL; and why secretbox is dryoc's.
//!
//! `cargo bench --bench value`. The last table has it all as ratios, with the CPU features that were found: on a CPU without
//! AES instructions nothing else in it means much.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark, not an interface"
)]

mod openssl;
mod primitives;
mod ratios;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{AeadInPlace, KeyInit};
use dryoc::classic::crypto_secretbox::{crypto_secretbox_detached, crypto_secretbox_open_detached};
use etcd_encryption_proxy::keyspace::{EtcdPrefix, KeySpace};
use etcd_encryption_proxy::types::{KeyName, SecretBytes, StorageKey};
use etcd_encryption_proxy::value::{
    Chain, DekKind, DekV2, Deks, Fetch, KmsFailure, KmsV2Keys, Provider, SeedWriter, WrappedDek,
};

const SIZE: usize = 1024;
const SIZES: [usize; 6] = [64, 256, 1024, 4096, 65_536, 1_048_576];
const KEY: StorageKey<'_> = StorageKey(b"/registry/secrets/kube-system/bootstrap-token-abcdef");

fn chains() -> [(&'static str, Chain); 6] {
    let name = KeyName::new("key1");
    let chain = |provider: Provider| Chain::new(vec![provider, Provider::identity()]).unwrap();
    let key = |length: usize| SecretBytes::new(vec![7; length]);
    [
        ("identity", chain(Provider::identity())),
        ("aescbc", chain(Provider::aescbc([(&name, &key(32))]).unwrap())),
        ("aesgcm", chain(Provider::aesgcm([(&name, &key(32))]).unwrap())),
        ("aesgcm-192", chain(Provider::aesgcm([(&name, &key(24))]).unwrap())),
        ("secretbox", chain(Provider::secretbox([(&name, &key(32))]).unwrap())),
        ("kms-v2", chain(Provider::kms_v2(name.clone(), Arc::new(Seed::new())))),
    ]
}

/// A KMS v2 plugin that has wrapped one seed, and keeps it at hand.
#[derive(Debug)]
struct Seed(Arc<SeedWriter>, Arc<DekV2>);

impl Seed {
    fn new() -> Self {
        let seed = SecretBytes::new(vec![7; 32]);
        let wrapped = WrappedDek {
            kind: DekKind::HkdfSeed,
            source: vec![9; 120].into(),
            key_id: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".into(),
            annotations: vec![],
        };
        let reader = DekV2::new(DekKind::HkdfSeed, &seed).unwrap();
        Self(Arc::new(SeedWriter::new(&seed, wrapped).unwrap()), Arc::new(reader))
    }
}

impl KmsV2Keys for Seed {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        Ok(Arc::clone(&self.0))
    }

    fn cached(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        (wrapped == self.0.wrapped()).then(|| Arc::clone(&self.1))
    }

    fn unwrap(self: Arc<Self>, _wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        Box::pin(async move { Ok(Arc::clone(&self.1)) })
    }

    fn opened(&self, key_id: &str) -> bool {
        key_id == self.0.wrapped().key_id
    }

    fn sealed(&self, _key_id: &str) {}
}

/// Through the whole chain, into a buffer that is used again.
fn providers(c: &mut Criterion) {
    for (name, chain) in chains() {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let plaintext = vec![b'x'; size];
            group.throughput(Throughput::Bytes(size as u64));
            let mut out = Vec::new();
            group.bench_function(format!("seal {size}"), |b| {
                b.iter(|| {
                    out.clear();
                    let sealed = chain.to_storage(KEY, black_box(&plaintext), &Deks::default(), &mut out);
                    sealed.unwrap();
                    black_box(&out);
                });
            });
            let mut stored = Vec::new();
            let sealed = chain.to_storage(KEY, &plaintext, &Deks::default(), &mut stored);
            sealed.unwrap();
            let mut spare = Vec::new();
            group.bench_function(format!("open {size}"), |b| {
                b.iter(|| {
                    // Opened where it lies, so that it is a copy each time.
                    out.clear();
                    out.extend_from_slice(black_box(&stored));
                    let opened = chain.from_storage_in_place(KEY, &mut out, &Deks::default(), &mut spare);
                    black_box(opened.unwrap());
                    black_box(&out);
                });
            });
        }
        group.finish();
    }
}

/// Several values together, in time for each of them.
fn batches(c: &mut Criterion) {
    let plaintext = vec![b'x'; SIZE];
    let mut group = c.benchmark_group("batch");
    for (name, chain) in chains().into_iter().filter(|(name, _)| name.starts_with("aes")) {
        for count in [1usize, 2, 4, 8, 16, 64] {
            let values = vec![(KEY, plaintext.as_slice()); count];
            group.throughput(Throughput::Bytes((SIZE * count) as u64));
            group.bench_function(format!("{name} seal {count}"), |b| {
                b.iter(|| black_box(chain.to_storage_batch(black_box(&values), &Deks::default()).unwrap()));
            });
        }
    }
    group.finish();
}

/// The two implementations of XSalsa20-Poly1305, at their best: the same nonce again and again, buffers at hand.
fn secretbox_implementations(c: &mut Criterion) {
    let (key, nonce, message) = ([7; 32], [9; 24], vec![b'x'; SIZE]);
    let (mut buffer, mut tag) = (message.clone(), [0; 16]);
    let mut group = c.benchmark_group("secretbox-1KiB");
    group.throughput(Throughput::Bytes(SIZE as u64));

    group.bench_function("dryoc/seal", |b| {
        b.iter(|| crypto_secretbox_detached(&mut buffer, &mut tag, black_box(&message), &nonce, &key).unwrap());
    });
    let sealed = buffer.clone();
    group.bench_function("dryoc/open", |b| {
        b.iter(|| crypto_secretbox_open_detached(&mut buffer, black_box(&sealed), &tag, &nonce, &key).unwrap());
    });

    let cipher = XSalsa20Poly1305::new(&key.into());
    group.bench_function("crypto_secretbox/seal", |b| {
        b.iter(|| {
            buffer.copy_from_slice(black_box(&message));
            cipher
                .encrypt_in_place_detached(&nonce.into(), b"", &mut buffer)
                .unwrap()
        });
    });
    group.bench_function("crypto_secretbox/open", |b| {
        b.iter(|| {
            buffer.copy_from_slice(black_box(&sealed));
            cipher
                .decrypt_in_place_detached(&nonce.into(), b"", &mut buffer, &tag.into())
                .unwrap();
        });
    });
    group.finish();
}

/// From a key to its resource: once for every value of a list.
fn classify(c: &mut Criterion) {
    let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
    for (name, key) in [
        ("built-in", KEY.0),
        ("irregular", b"/registry/services/specs/default/kubernetes"),
        ("custom", b"/registry/bears.example/pandas/default/a"),
        ("unlisted", b"/registry/neverheardof/default/a"),
    ] {
        c.bench_function(&format!("classify/{name}"), |b| {
            b.iter(|| {
                black_box(keyspace.classify(black_box(key)));
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = providers, primitives::all, batches, secretbox_implementations, classify
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Nothing was measured where this is run as a test.
    if std::env::args().any(|argument| argument == "--bench") {
        ratios::print(&SIZES);
    }
}
