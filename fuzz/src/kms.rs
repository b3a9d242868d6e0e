//! A KMS plugin that wraps a key by writing it down, and keeps none: for what is stored, sound or not.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use etcd_encryption_proxy::{
    types::{KeyName, SecretBytes},
    value::{
        DekKind, DekV1, DekV2, Deks, Fetch, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, Provider, SeedWriter,
        WrappedDek,
    },
};

/// The key that writes.
const KEY: [u8; 32] = [5; 32];

/// The key ID that writes.
pub const KEY_ID: &str = "now";

#[derive(Debug)]
struct Paper;

/// KMS v1 under the name that the target's prefixes have.
pub fn v1() -> Provider {
    Provider::kms_v1(KeyName::new("plugin"), Arc::new(Paper))
}

/// KMS v2, the same.
pub fn v2() -> Provider {
    Provider::kms_v2(KeyName::new("plugin"), Arc::new(Paper))
}

/// Has the plugin asked, which answers at once.
pub fn fetch(deks: &mut Deks) {
    let fetched = pin!(deks.fetch()).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(fetched, Poll::Ready(()));
}

fn refused() -> KmsFailure {
    KmsFailure {
        provider: KeyName::new("plugin"),
        text: "not a key".into(),
        is_transient: false,
        code: None,
    }
}

fn wrapped() -> WrappedDek<'static> {
    WrappedDek {
        kind: DekKind::HkdfSeed,
        source: KEY.to_vec().into(),
        key_id: KEY_ID.into(),
        annotations: vec![("a.b".into(), b"c".to_vec().into())],
    }
}

impl KmsV1Keys for Paper {
    fn cached(&self, _wrapped: &[u8]) -> Option<Arc<DekV1>> {
        None
    }

    fn unwrap(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        let dek = DekV1::new(&SecretBytes::new(wrapped));
        Box::pin(ready(dek.map(Arc::new).ok_or_else(refused)))
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        let dek = DekV1::new(&SecretBytes::new(KEY.to_vec())).expect("32 bytes are a key");
        Box::pin(ready(Ok(FreshDek {
            dek: Arc::new(dek),
            wrapped: KEY.into(),
        })))
    }
}

impl KmsV2Keys for Paper {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        let writer = SeedWriter::new(&SecretBytes::new(KEY.to_vec()), wrapped());
        Ok(Arc::new(writer.expect("32 bytes are a seed")))
    }

    fn cached(&self, _wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        None
    }

    fn unwrap(self: Arc<Self>, wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        wrapped.validate().expect("what cannot be stored is not asked for");
        let dek = DekV2::new(wrapped.kind, &SecretBytes::new(wrapped.source.into_owned()));
        Box::pin(ready(dek.map(Arc::new).ok_or_else(refused)))
    }

    fn opened(&self, key_id: &str) -> bool {
        key_id == KEY_ID
    }

    fn sealed(&self, key_id: &str) {
        assert_eq!(key_id, KEY_ID);
    }
}
