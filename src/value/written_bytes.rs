//! Given the IV or nonce that kube-apiserver drew, the chain writes what kube-apiserver wrote, byte for byte.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::FutureExt as _;
use rand::{TryCryptoRng, TryRng};
use serde_json::Value;

use super::{Chain, DekV1, Deks, Fetch, FreshDek, KmsV1Keys, Provider, SealError};
use crate::types::{KeyName, SecretBytes, StorageKey};

/// Says it is random and is not: hands out the given bytes, each once, and panics beyond.
struct GivenBytes<'a>(std::slice::Iter<'a, u8>);

impl TryRng for GivenBytes<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("nonces are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("nonces are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| *self.0.next().expect("no more bytes drawn than the nonce has"));
        Ok(())
    }
}

impl TryCryptoRng for GivenBytes<'_> {}

#[test]
fn the_values_of_k8s_1_20_2_are_written_as_kube_apiserver_wrote_them() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/k8s-1.20.2.json")).unwrap();
    let mut written = 0;
    for vector in &vectors {
        let text = |field: &str| vector[field].as_str().unwrap();
        let bytes = |field: &str| BASE64_STANDARD.decode(text(field)).unwrap();
        let (name, secret) = (KeyName::new(text("KeyName")), SecretBytes::new(bytes("SecretB64")));
        let keys = [(&name, &secret)];
        let (provider, nonce_len) = match text("Provider") {
            "aescbc" => (Provider::aescbc(keys), 16),
            "aesgcm" => (Provider::aesgcm(keys), 12),
            "secretbox" => (Provider::secretbox(keys), 24),
            _kms => continue,
        };
        let chain = Chain::new(vec![provider.unwrap()]).unwrap();
        let (stored, plaintext) = (bytes("StoredB64"), bytes("PlaintextB64"));
        let body = format!("k8s:enc:{}:v1:{name}:", text("Provider")).len();
        let mut nonces = GivenBytes(stored[body..body + nonce_len].iter());

        let mut out = b"what was there".to_vec();
        chain
            .to_storage_with(
                StorageKey(text("EtcdKey").as_bytes()),
                &plaintext,
                &mut nonces,
                &Deks::default(),
                &mut out,
            )
            .unwrap();

        assert_eq!(
            out,
            [b"what was there".as_slice(), &stored].concat(),
            "{}",
            text("Name")
        );
        assert_eq!(nonces.0.len(), 0, "the nonce is all that is random");
        written += 1;
    }
    assert_eq!(written, 28);
}

/// A plugin that wraps in base64, and whose next key is given.
#[derive(Debug)]
struct GivenDek(SecretBytes);

impl KmsV1Keys for GivenDek {
    fn cached(&self, _wrapped: &[u8]) -> Option<Arc<DekV1>> {
        None
    }

    fn unwrap(self: Arc<Self>, _wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        unreachable!("nothing is read")
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        Box::pin(ready(Ok(FreshDek {
            dek: Arc::new(DekV1::new(&self.0).unwrap()),
            wrapped: BASE64_STANDARD.encode(self.0.expose()).into_bytes().into(),
        })))
    }
}

#[test]
fn values_of_kms_v1_are_written_as_kubernetes_writes_them_since_1_25() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/k8s-1.20.2.json")).unwrap();
    let mut written = 0;
    for vector in &vectors {
        let text = |field: &str| vector[field].as_str().unwrap();
        let bytes = |field: &str| BASE64_STANDARD.decode(text(field)).unwrap();
        if !text("Name").starts_with("kmsv1-gcm") {
            continue;
        }
        let (stored, plaintext) = (bytes("StoredB64"), bytes("PlaintextB64"));
        let length_at = format!("k8s:enc:kms:v1:{}:", text("KeyName")).len();
        let wrapped_at = length_at + 2;
        let length = usize::from(u16::from_be_bytes([stored[length_at], stored[length_at + 1]]));
        let (wrapped, rest) = stored[wrapped_at..].split_at(length);
        let dek = SecretBytes::new(BASE64_STANDARD.decode(wrapped).unwrap());
        let provider = Provider::kms_v1(KeyName::new(text("KeyName")), Arc::new(GivenDek(dek)));
        let chain = Chain::new(vec![provider]).unwrap();

        let (mut deks, mut out) = (Deks::default(), Vec::new());
        let key = StorageKey(text("EtcdKey").as_bytes());
        let seal = |deks: &Deks, out: &mut Vec<u8>| {
            chain.to_storage_with(key, &plaintext, &mut GivenBytes(rest[..12].iter()), deks, out)
        };
        assert_eq!(seal(&deks, &mut out), Err(SealError::Pending));
        deks.fetch().now_or_never().unwrap();
        seal(&deks, &mut out).unwrap();

        assert_eq!(out, stored, "{}", text("Name"));
        written += 1;
    }
    assert_eq!(written, 4);
}
