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

use base64::prelude::{BASE64_STANDARD, Engine as _};
use etcd_encryption_proxy::types::{Fingerprint, KeyName, SecretBytes, StorageKey};
use etcd_encryption_proxy::value::{BuildError, Chain, Deks, OpenError, Provider, ProviderKind, is_sealed};
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
    let mut out = Vec::new();
    let opened = chain.from_storage(StorageKey(etcd_key), stored, &Deks::default(), &mut out)?;
    assert!(!opened.stale, "the only key is the one that writes");
    Ok(out)
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

/// A chain of one provider with one key. `None` for a kind that is not built yet.
fn chain(kind: &str, key_name: &str, secret: Vec<u8>) -> Option<Chain> {
    let (name, secret) = (KeyName::new(key_name), SecretBytes::new(secret));
    let keys = [(&name, &secret)];
    let provider = match kind {
        "aescbc" => Provider::aescbc(keys),
        "aesgcm" => Provider::aesgcm(keys),
        "secretbox" => Provider::secretbox(keys),
        _ if kind.starts_with("kms") => return None,
        other => panic!("a vector of an unknown provider: {other}"),
    };
    Some(provider.and_then(|provider| Chain::new(vec![provider])).unwrap())
}

/// The vectors of k8s.io/apiserver 0.36.4, and how many of them need KMS.
fn of_k8s_0_36_4() -> (Vec<Vector>, usize) {
    let all = vectors(K8S_0_36_4);
    let built: Vec<_> = all
        .iter()
        .filter_map(|vector| {
            let (kind, settings) = vector["provider"].as_object().unwrap().iter().next().unwrap();
            let key = &settings["keys"][0];
            let chain = if kind == "kms" {
                chain(kind, "", vec![])
            } else {
                chain(kind, text(&key["name"]), base64(&key["secret"]))
            };
            Some(Vector {
                chain: chain?,
                etcd_key: text(&vector["etcd_key"]).into(),
                plaintext: base64(&vector["plaintext_b64"]),
                stored: base64(&vector["stored_b64"]),
            })
        })
        .collect();
    let left = all.len() - built.len();
    (built, left)
}

/// The vectors of kubernetes 1.20.2, and how many of them need KMS.
fn of_k8s_1_20_2() -> (Vec<Vector>, usize) {
    let all = vectors(K8S_1_20_2);
    let built: Vec<_> = all
        .iter()
        .filter_map(|vector| {
            Some(Vector {
                chain: chain(
                    text(&vector["Provider"]),
                    text(&vector["KeyName"]),
                    base64(&vector["SecretB64"]),
                )?,
                etcd_key: text(&vector["EtcdKey"]).into(),
                plaintext: base64(&vector["PlaintextB64"]),
                stored: base64(&vector["StoredB64"]),
            })
        })
        .collect();
    let left = all.len() - built.len();
    (built, left)
}

#[test]
fn every_value_of_k8s_0_36_4_opens() {
    let (built, left_for_kms) = of_k8s_0_36_4();
    for vector in &built {
        assert_eq!(vector.open_at(&vector.etcd_key).as_ref(), Ok(&vector.plaintext));
    }
    // Exact, so that no vector is forgotten once its provider is there.
    assert_eq!((built.len(), left_for_kms), (231, 33));
}

#[test]
fn every_value_of_k8s_1_20_2_opens() {
    let (built, left_for_kms) = of_k8s_1_20_2();
    for vector in &built {
        assert_eq!(vector.open_at(&vector.etcd_key).as_ref(), Ok(&vector.plaintext));
    }
    assert_eq!((built.len(), left_for_kms), (28, 8));
}

#[test]
fn the_constants_of_upstreams_own_tests_hold() {
    let mut left_for_kms = 0;
    for vector in vectors(UPSTREAM) {
        let name = text(&vector["name"]);
        let hex = |field: &str| hex::decode(text(&vector[field])).unwrap();
        match name {
            "TestGCMLegacyDataCompatibility" => {
                let chain = chain("aesgcm", "k", hex("key_hex")).unwrap();
                let stored = [b"k8s:enc:aesgcm:v1:k:".as_slice(), &hex("body_hex")].concat();
                let opened = open(&chain, text(&vector["aad"]).as_bytes(), &stored);
                assert_eq!(opened, Ok(text(&vector["plaintext"]).into()));
            }
            "TestComputeEncryptionConfigHash" => {
                assert_eq!(Fingerprint::of(&hex("input_hex")).to_string(), text(&vector["output"]));
            }
            kms => {
                assert!(
                    kms.contains("KMSv2") || kms.contains("ExtendedNonce"),
                    "{kms} is no vector of KMS"
                );
                left_for_kms += 1;
            }
        }
    }
    assert_eq!(left_for_kms, 3);
}

/// What the additional data defends, and for which providers nothing does.
#[test]
fn a_value_under_another_key_opens_unless_its_provider_authenticates_the_key() {
    let (built, _) = of_k8s_0_36_4();
    let mut refused = 0;
    for vector in &built {
        let elsewhere = vector.open_at(b"/registry/secrets/default/another");
        if vector.stored.starts_with(b"k8s:enc:aesgcm:") {
            assert_eq!(elsewhere, Err(OpenError::Undecryptable));
            refused += 1;
        } else {
            assert_eq!(elsewhere.as_ref(), Ok(&vector.plaintext));
        }
    }
    assert_eq!(refused, 99);
}

/// Every byte behind the prefix, one bit each; every length that is too short; a byte too many.
#[test]
fn a_value_that_was_tampered_with_never_opens_where_it_is_authenticated() {
    let (built, _) = of_k8s_1_20_2();
    for vector in built
        .iter()
        .filter(|vector| !vector.stored.starts_with(b"k8s:enc:aescbc:"))
    {
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
    let (built, _) = of_k8s_0_36_4();
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
