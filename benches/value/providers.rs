//! Sealing and opening as the proxy does it: through a whole chain, nonce, prefix and key lookup included, into a buffer that is
//! used again. KMS plugins cost nothing here: what they are asked for is at hand.

use std::fmt;
use std::future::ready;
use std::hint::black_box;
use std::sync::Arc;

use etcd_encryption_proxy::types::{KeyName, SecretBytes, StorageKey};
use etcd_encryption_proxy::value::{
    Chain, DekKind, DekV1, DekV2, Deks, Fetch, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, Provider, SealError,
    SeedWriter, WrappedDek,
};
use futures_util::FutureExt as _;

use crate::paired::Work;

pub const KEY: StorageKey<'_> = StorageKey(b"/registry/secrets/kube-system/bootstrap-token-abcdef");

/// What is done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Seal,
    Open,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seal => "seal",
            Self::Open => "open",
        })
    }
}

/// The chain that writes with the provider of this name, and reads plain text besides.
pub fn chain(provider: &str) -> Chain {
    let name = KeyName::new("key1");
    let secret = SecretBytes::new(vec![7; 32]);
    let keys = [(&name, &secret)];
    let provider = match provider {
        "identity" => Provider::identity(),
        "aescbc" => Provider::aescbc(keys).expect("a key"),
        "aesgcm" => Provider::aesgcm(keys).expect("a key"),
        "secretbox" => Provider::secretbox(keys).expect("a key"),
        "kms v1" => Provider::kms_v1(name, Arc::new(OneDek::new())),
        "kms v2" => Provider::kms_v2(name, Arc::new(OneSeed::new())),
        other => panic!("no provider {other:?}"),
    };
    Chain::new(vec![provider, Provider::identity()]).expect("a chain")
}

/// One way of `provider`, for a value of `size` bytes.
pub fn work(provider: &str, way: Way, size: usize) -> Work {
    let (chain, plaintext) = (chain(provider), vec![b'x'; size]);
    let mut out = Vec::new();
    if way == Way::Seal {
        return Box::new(move || {
            out.clear();
            seal(&chain, black_box(&plaintext), &mut out);
            black_box(&out);
        });
    }
    let mut stored = Vec::new();
    seal(&chain, &plaintext, &mut stored);
    let mut spare = Vec::new();
    Box::new(move || {
        // Opened where it lies, so that it is a copy each time.
        out.clear();
        out.extend_from_slice(black_box(&stored));
        let opened = chain.from_storage_in_place(KEY, &mut out, &Deks::default(), &mut spare);
        black_box(opened.expect("what was sealed"));
        black_box(&out);
    })
}

/// `count` values of `size` bytes sealed at once.
pub fn batch(provider: &str, count: usize, size: usize) -> Work {
    let (chain, plaintext) = (chain(provider), vec![b'x'; size]);
    Box::new(move || {
        let values = vec![(KEY, black_box(plaintext.as_slice())); count];
        black_box(chain.to_storage_batch(&values, &Deks::default()).expect("values"));
    })
}

/// The same values one after the other.
pub fn in_turn(provider: &str, count: usize, size: usize) -> Work {
    let (chain, plaintext) = (chain(provider), vec![b'x'; size]);
    Box::new(move || {
        let sealed = (0..count).map(|_| {
            let mut out = Vec::new();
            seal(&chain, black_box(&plaintext), &mut out);
            out
        });
        black_box(sealed.collect::<Vec<_>>());
    })
}

fn seal(chain: &Chain, plaintext: &[u8], out: &mut Vec<u8>) {
    let mut deks = Deks::default();
    loop {
        match chain.to_storage(KEY, plaintext, &deks, out) {
            Ok(()) => return,
            Err(SealError::Pending) => deks.fetch().now_or_never().expect("a plugin that does not wait"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A KMS v1 plugin that gives the same DEK for each value, wrapped already.
#[derive(Debug)]
struct OneDek(FreshDek);

impl OneDek {
    fn new() -> Self {
        let dek = DekV1::new(&SecretBytes::new(vec![7; 32])).expect("a key");
        Self(FreshDek {
            dek: Arc::new(dek),
            wrapped: vec![9; 120].into(),
        })
    }
}

impl KmsV1Keys for OneDek {
    fn cached(&self, wrapped: &[u8]) -> Option<Arc<DekV1>> {
        (*wrapped == *self.0.wrapped).then(|| Arc::clone(&self.0.dek))
    }

    fn unwrap(self: Arc<Self>, _wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        Box::pin(ready(Ok(Arc::clone(&self.0.dek))))
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        Box::pin(ready(Ok(self.0.clone())))
    }
}

/// A KMS v2 plugin that has wrapped one seed, and keeps it at hand.
#[derive(Debug)]
struct OneSeed(Arc<SeedWriter>, Arc<DekV2>);

impl OneSeed {
    fn new() -> Self {
        let seed = SecretBytes::new(vec![7; 32]);
        let wrapped = WrappedDek {
            kind: DekKind::HkdfSeed,
            source: vec![9; 120].into(),
            key_id: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".into(),
            annotations: vec![],
        };
        let reader = DekV2::new(DekKind::HkdfSeed, &seed).expect("a seed");
        let writer = SeedWriter::new(&seed, wrapped).expect("a seed");
        Self(Arc::new(writer), Arc::new(reader))
    }
}

impl KmsV2Keys for OneSeed {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        Ok(Arc::clone(&self.0))
    }

    fn cached(&self, wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        (wrapped == self.0.wrapped()).then(|| Arc::clone(&self.1))
    }

    fn unwrap(self: Arc<Self>, _wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        Box::pin(ready(Ok(Arc::clone(&self.1))))
    }

    fn opened(&self, key_id: &str) -> bool {
        key_id == self.0.wrapped().key_id
    }

    fn sealed(&self, _key_id: &str) {}
}
