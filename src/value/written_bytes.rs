//! Given the IV or nonce that kube-apiserver drew, the chain writes what kube-apiserver wrote, byte for byte.

use std::convert::Infallible;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::{TryCryptoRng, TryRng};
use serde_json::Value;

use super::{Chain, Deks, Provider};
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
