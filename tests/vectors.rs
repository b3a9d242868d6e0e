//! Values that kube-apiserver's own code sealed open to exactly the plaintext that it was given.
//!
//! That the proxy writes the same bytes, given the same nonces, is tested inside the crate: outside it there is no way to
//! choose a nonce.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::future::ready;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use etcd_encryption_proxy::types::{Fingerprint, KeyName, SecretBytes, StorageKey};
use etcd_encryption_proxy::value::{
    BuildError, Chain, DekV1, DekV2, Deks, Fetch, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, OpenError, Provider,
    ProviderKind, SeedWriter, WrappedDek, is_sealed,
};
use futures_util::FutureExt as _;
use serde_json::Value;

const K8S_0_36_4: &str = include_str!("vectors/k8s-0.36.4.json");
const K8S_1_20_2: &str = include_str!("vectors/k8s-1.20.2.json");
const UPSTREAM: &str = include_str!("vectors/upstream-tests.json");

struct Vector {
    chain: Chain,
    etcd_key: Vec<u8>,
    plaintext: Vec<u8>,
    stored: Vec<u8>,
}

impl Vector {
    fn open_at(&self, etcd_key: &[u8]) -> Result<Vec<u8>, OpenError> {
        open(&self.chain, etcd_key, &self.stored)
    }
}

fn open(chain: &Chain, etcd_key: &[u8], stored: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (opened, is_stale) = try_open(chain, etcd_key, stored)?;
    assert!(!is_stale, "the only key is the one that writes");
    Ok(opened)
}

/// The plaintext, and whether it is stale.
fn try_open(chain: &Chain, etcd_key: &[u8], stored: &[u8]) -> Result<(Vec<u8>, bool), OpenError> {
    let mut deks = Deks::default();
    loop {
        let mut out = Vec::new();
        match chain.from_storage(StorageKey(etcd_key), stored, &deks, &mut out) {
            // What the plugin below answers is there at once.
            Err(OpenError::Pending) => deks.fetch().now_or_never().unwrap(),
            outcome => return outcome.map(|opened| (out, opened.stale)),
        }
    }
}

/// How a plugin of the vectors unwraps: from a key ID and what is wrapped to what was. It keeps nothing.
#[derive(Clone, Copy, Debug)]
struct Unwrap(fn(&str, &[u8]) -> Vec<u8>);

impl KmsV1Keys for Unwrap {
    fn cached(&self, _wrapped: &[u8]) -> Option<Arc<DekV1>> {
        None
    }

    fn unwrap(self: Arc<Self>, wrapped: Vec<u8>) -> Fetch<Arc<DekV1>> {
        let dek = DekV1::new(&SecretBytes::new((self.0)("", &wrapped)));
        Box::pin(ready(dek.map(Arc::new).ok_or_else(no)))
    }

    fn generate(self: Arc<Self>) -> Fetch<FreshDek> {
        Box::pin(ready(Err(no())))
    }
}

impl KmsV2Keys for Unwrap {
    fn writer(&self) -> Result<Arc<SeedWriter>, KmsFailure> {
        Err(no())
    }

    fn cached(&self, _wrapped: &WrappedDek<'_>) -> Option<Arc<DekV2>> {
        None
    }

    fn unwrap(self: Arc<Self>, wrapped: WrappedDek<'static>) -> Fetch<Arc<DekV2>> {
        let key = SecretBytes::new((self.0)(&wrapped.key_id, &wrapped.source));
        Box::pin(ready(DekV2::new(wrapped.kind, &key).map(Arc::new).ok_or_else(no)))
    }

    fn opened(&self, _key_id: &str) -> bool {
        true
    }

    fn sealed(&self, _key_id: &str) {}
}

fn no() -> KmsFailure {
    KmsFailure {
        provider: KeyName::new("vectors"),
        text: "no".into(),
        is_transient: false,
        code: None,
    }
}

fn kms_v2(name: &str, unwrap: fn(&str, &[u8]) -> Vec<u8>) -> Chain {
    Chain::new(vec![Provider::kms_v2(KeyName::new(name), Arc::new(Unwrap(unwrap)))]).unwrap()
}

/// The mocks of the vectors' writers wrap in base64; what was tampered with may be none.
fn base64_bytes(_key_id: &str, wrapped: &[u8]) -> Vec<u8> {
    BASE64_STANDARD.decode(wrapped).unwrap_or_default()
}

/// The plugin behind the vectors of 0.36.4: a nonce, then AES-256-GCM under SHA-256 of `kek ` and the key ID.
fn under_the_key_ids_kek(key_id: &str, wrapped: &[u8]) -> Vec<u8> {
    let kek = digest(&SHA256, format!("kek {key_id}").as_bytes());
    let kek = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, kek.as_ref()).unwrap());
    let Some((nonce, sealed)) = wrapped.split_first_chunk::<12>() else {
        return Vec::new();
    };
    let mut sealed = sealed.to_vec();
    let opened = kek.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut sealed);
    opened.map(|seed| seed.to_vec()).unwrap_or_default()
}

fn vectors(file: &str) -> Vec<Value> {
    serde_json::from_str(file).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn base64(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).unwrap()
}

/// A chain of one provider with one key.
fn chain(kind: &str, key_name: &str, secret: Vec<u8>) -> Chain {
    let (name, secret) = (KeyName::new(key_name), SecretBytes::new(secret));
    let keys = [(&name, &secret)];
    let provider = match kind {
        "aescbc" => Provider::aescbc(keys),
        "aesgcm" => Provider::aesgcm(keys),
        "secretbox" => Provider::secretbox(keys),
        _ if kind.starts_with("kms v1") => Ok(Provider::kms_v1(name, Arc::new(Unwrap(base64_bytes)))),
        other => panic!("a vector of an unknown provider: {other}"),
    };
    provider.and_then(|provider| Chain::new(vec![provider])).unwrap()
}

/// The vectors of k8s.io/apiserver 0.36.4.
fn of_k8s_0_36_4() -> Vec<Vector> {
    let all = vectors(K8S_0_36_4);
    let built = all.iter().map(|vector| {
        let (kind, settings) = vector["provider"].as_object().unwrap().iter().next().unwrap();
        let key = &settings["keys"][0];
        Vector {
            chain: if kind == "kms" {
                kms_v2(text(&settings["name"]), under_the_key_ids_kek)
            } else {
                chain(kind, text(&key["name"]), base64(&key["secret"]))
            },
            etcd_key: text(&vector["etcd_key"]).into(),
            plaintext: base64(&vector["plaintext_b64"]),
            stored: base64(&vector["stored_b64"]),
        }
    });
    built.collect()
}

/// The vectors of kubernetes 1.20.2, and of what it and later versions write with KMS v1.
fn of_k8s_1_20_2() -> Vec<Vector> {
    let all = vectors(K8S_1_20_2);
    let built = all.iter().map(|vector| Vector {
        chain: chain(
            text(&vector["Provider"]),
            text(&vector["KeyName"]),
            base64(&vector["SecretB64"]),
        ),
        etcd_key: text(&vector["EtcdKey"]).into(),
        plaintext: base64(&vector["PlaintextB64"]),
        stored: base64(&vector["StoredB64"]),
    });
    built.collect()
}

#[test]
fn every_value_of_k8s_0_36_4_opens() {
    let built = of_k8s_0_36_4();
    for vector in &built {
        assert_eq!(vector.open_at(&vector.etcd_key).as_ref(), Ok(&vector.plaintext));
    }
    assert_eq!(built.len(), 264);
}

#[test]
fn every_value_of_k8s_1_20_2_opens_and_what_v1_wrote_with_cbc_is_stale() {
    let built = of_k8s_1_20_2();
    let mut stale = 0;
    for vector in &built {
        let (opened, is_stale) = try_open(&vector.chain, &vector.etcd_key, &vector.stored).unwrap();
        assert_eq!(opened, vector.plaintext);
        stale += usize::from(is_stale);
    }
    assert_eq!((built.len(), stale), (36, 4));
}

#[test]
fn the_constants_of_upstreams_own_tests_hold() {
    let mut whole_values = 0;
    for vector in vectors(UPSTREAM) {
        let name = text(&vector["name"]);
        let hex = |field: &str| hex::decode(text(&vector[field])).unwrap();
        match name {
            "TestGCMLegacyDataCompatibility" => {
                let chain = chain("aesgcm", "k", hex("key_hex"));
                let stored = [b"k8s:enc:aesgcm:v1:k:".as_slice(), &hex("body_hex")].concat();
                let opened = open(&chain, text(&vector["aad"]).as_bytes(), &stored);
                assert_eq!(opened, Ok(text(&vector["plaintext"]).into()));
            }
            "TestComputeEncryptionConfigHash" => {
                assert_eq!(Fingerprint::of(&hex("input_hex")).to_string(), text(&vector["output"]));
            }
            "TestExtendedNonceGCMLegacyDataCompatibility" => {
                // The body alone is upstream's; around it stands as little as makes a whole value.
                let (body, seed) = (hex("body_hex"), hex("seed_hex"));
                let length = u8::try_from(body.len()).unwrap();
                let data = [&[1 << 3 | 2, length], body.as_slice()].concat();
                let tail = [&[2 << 3 | 2, 1, b'1', 3 << 3 | 2, 32], seed.as_slice(), &[5 << 3, 1]].concat();
                let stored = [b"k8s:enc:kms:v2:k:".as_slice(), &data, &tail].concat();
                let chain = kms_v2("k", |_, wrapped| wrapped.to_vec());
                let opened = open(&chain, text(&vector["aad"]).as_bytes(), &stored);
                assert_eq!(opened, Ok(text(&vector["plaintext"]).into()));
            }
            kms => {
                let chain = kms_v2(text(&vector["provider"]), |_, wrapped| base64_bytes("", wrapped));
                let (etcd_key, stored) = (text(&vector["aad"]).as_bytes(), base64(&vector["stored_b64"]));
                let (opened, is_stale) = try_open(&chain, etcd_key, &stored).unwrap();
                assert_eq!(opened, base64(&vector["plaintext_b64"]), "{kms}");
                // Sealed with a plain DEK, which nobody writes with any more.
                assert_eq!(is_stale, kms.contains("aes-gcm-key"), "{kms}");
                whole_values += 1;
            }
        }
    }
    assert_eq!(whole_values, 2);
}

/// What the additional data defends, and for which providers nothing does.
#[test]
fn a_value_under_another_key_opens_unless_its_provider_authenticates_the_key() {
    let built = of_k8s_0_36_4();
    let mut refused = 0;
    for vector in &built {
        let elsewhere = vector.open_at(b"/registry/secrets/default/another");
        if [b"k8s:enc:aesgcm:".as_slice(), b"k8s:enc:kms:v2:"]
            .iter()
            .any(|prefix| vector.stored.starts_with(prefix))
        {
            assert_eq!(elsewhere, Err(OpenError::Undecryptable));
            refused += 1;
        } else {
            assert_eq!(elsewhere.as_ref(), Ok(&vector.plaintext));
        }
    }
    assert_eq!(refused, 99 + 33);
}

/// Every byte behind the prefix, one bit each; every length that is too short; a byte too many.
#[test]
fn a_value_that_was_tampered_with_never_opens_where_it_is_authenticated() {
    let built = of_k8s_1_20_2();
    // A reader of KMS v1 tries AES-CBC on what does not open as AES-GCM, so that nothing of it is authenticated.
    let unauthenticated = [b"k8s:enc:aescbc:".as_slice(), b"k8s:enc:kms:v1:"];
    let is_authenticated = |vector: &&Vector| !unauthenticated.iter().any(|prefix| vector.stored.starts_with(prefix));
    for vector in built.iter().filter(is_authenticated) {
        for (at, bit) in (0..vector.stored.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut tampered = vector.stored.clone();
            tampered[at] ^= 1 << bit;
            assert!(
                open(&vector.chain, &vector.etcd_key, &tampered).is_err(),
                "bit {bit} of byte {at}"
            );
        }
        for length in 0..vector.stored.len() {
            assert!(open(&vector.chain, &vector.etcd_key, &vector.stored[..length]).is_err());
        }
        assert!(
            open(
                &vector.chain,
                &vector.etcd_key,
                &[vector.stored.as_slice(), b"x"].concat()
            )
            .is_err()
        );
    }
}

#[test]
fn the_vectors_are_what_counts_as_sealed() {
    let built = of_k8s_0_36_4();
    assert!(
        built
            .iter()
            .all(|vector| is_sealed(&vector.stored) && !is_sealed(&vector.plaintext))
    );
}

#[test]
fn a_key_of_a_wrong_size_is_refused_by_name_and_without_its_bytes() {
    let (name, secret) = (KeyName::new("short"), SecretBytes::new(b"hunter2".to_vec()));
    let error = Provider::secretbox([(&name, &secret)]).unwrap_err();
    assert_eq!(error.to_string(), "secretbox key \"short\" has 7 bytes, expected 32");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(
        Provider::aesgcm([]).unwrap_err(),
        BuildError::NoKeys(ProviderKind::AesGcm)
    );
}
