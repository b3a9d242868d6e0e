//! What somebody can do who writes to etcd and has no root: nothing but put back what lay in the same place before.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::store::Model;
use super::world::{KEYRING, document, line, roots, state, strongbox};
use crate::managed::record::MAX_RECORD_BYTES;
use crate::managed::{Error, OpenError, RootError, Roots, Strongbox};
use crate::types::{StatePrefix, with_causes};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

/// What reading says once the keyring's record is `bytes`.
async fn refusal(model: &Model, roots: &Arc<Roots>, bytes: &[u8]) -> Error {
    model.put(KEYRING.as_bytes(), bytes);
    strongbox(model, roots).read().await.map(drop).unwrap_err()
}

#[test]
fn no_byte_of_a_record_can_be_changed() {
    run(async {
        let (model, roots) = (Model::default(), roots(1));
        let strongbox = strongbox(&model, &roots);
        let first = strongbox.create(&document(&["a"])).await.unwrap();
        strongbox.replace(&first, &document(&["b"]), true).await.unwrap();
        let archived = format!("/etcd-encryption-proxy/archive/{}", first.fingerprint);
        for key in [KEYRING, &archived] {
            let good = model.value(key);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                model.put(key.as_bytes(), &bad);
                let is_refused = match key {
                    KEYRING => strongbox.read().await.is_err(),
                    _ => strongbox.archived().await.unwrap()[0].document.is_err(),
                };
                assert!(is_refused, "{}", bad.escape_ascii());
            }
            model.put(key.as_bytes(), &good);
        }
        assert!(strongbox.read().await.is_ok());
        assert!(strongbox.archived().await.unwrap()[0].document.is_ok());
    });
}

/// Each field, set to something that is as good by itself.
#[tokio::test]
async fn nothing_that_is_said_of_a_document_can_be_changed() {
    let (model, roots) = (Model::default(), roots(1));
    strongbox(&model, &roots).create(&document(&["a", "b"])).await.unwrap();
    let good: Value = serde_json::from_slice(&model.value(KEYRING)).unwrap();
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    for (at, to) in [
        ("/about/generation", Value::from(2)),
        ("/about/fingerprint", other.into()),
        ("/about/created", "2020-01-01T00:00:00Z".into()),
        ("/about/updated", "2020-01-01T00:00:00Z".into()),
        ("/about/by", "host-2".into()),
        ("/about/keys/0/since", "2020-01-01T00:00:00Z".into()),
        ("/about/keys/0/name", "c".into()),
        ("/about/keys/0/provider", "aesgcm".into()),
        ("/about/keys", Value::Array(Vec::new())),
        ("/about/stretch/passes", 4.into()),
        ("/about/stretch/lanes", 1.into()),
        ("/about/stretch/memoryKib", 65537.into()),
        ("/about/stretch/salt", "AAAAAAAAAAAAAAAAAAAAAA==".into()),
    ] {
        let mut bad = good.clone();
        assert_ne!(*bad.pointer(at).unwrap(), to);
        *bad.pointer_mut(at).unwrap() = to;
        let error = refusal(&model, &roots, &serde_json::to_vec(&bad).unwrap()).await;
        let is_altered = matches!(
            error,
            Error::Open {
                source: OpenError::Altered(_),
                ..
            }
        );
        assert!(is_altered, "{at}: {error}");
    }
}

#[tokio::test]
async fn what_is_refused_is_named() {
    let (model, roots) = (Model::default(), roots(1));
    strongbox(&model, &roots).create(&document(&["a"])).await.unwrap();
    let good: Value = serde_json::from_slice(&model.value(KEYRING)).unwrap();
    for (at, to, field) in [
        ("/schema", Value::from(2), "schema"),
        ("/about/generation", (-1).into(), "about.generation"),
        ("/about/generation", "1".into(), "about.generation"),
        ("/about/fingerprint", "sha256:0".into(), "about.fingerprint"),
        ("/about/created", "yesterday".into(), "about.created"),
        ("/about/by", "a\nb".into(), "by"),
        ("/about/keys/0/provider", "rot13".into(), "about.keys[0].provider"),
        ("/about/stretch/memoryKib", u32::MAX.into(), "stretch.memoryKib"),
        ("/about/stretch/memoryKib", 8.into(), "stretch.memoryKib"),
        (
            "/about/stretch/algorithm",
            "argon2d-19".into(),
            "about.stretch.algorithm",
        ),
        ("/about/stretch/salt", "!".into(), "about.stretch.salt"),
        ("/sealed/root", "0".into(), "sealed.root"),
        ("/sealed/nonce", "AAAA".into(), "sealed.nonce"),
        ("/sealed/key/derived", "AAAA".into(), "sealed.key.derived"),
        ("/sealed/ciphertext", "".into(), "sealed.ciphertext"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = to;
        let told = refusal(&model, &roots, &serde_json::to_vec(&bad).unwrap())
            .await
            .to_string();
        assert!(
            told.starts_with(&format!("the record keyring in etcd is refused: {field}: ")),
            "{told}"
        );
    }
    let mut more = good.clone();
    more["about"]["\u{1b}[31m"] = 1.into();
    let told = refusal(&model, &roots, &serde_json::to_vec(&more).unwrap())
        .await
        .to_string();
    assert!(!told.contains('\u{1b}') && told.len() < 600, "{told}");
    for bytes in [&b""[..], b"{}", b"[]", b"\xff", &vec![b' '; MAX_RECORD_BYTES + 1]] {
        assert!(matches!(refusal(&model, &roots, bytes).await, Error::Record { .. }));
    }
}

#[tokio::test]
async fn a_record_opens_nowhere_but_where_it_was_put() {
    let (model, roots) = (Model::default(), roots(1));
    let here = strongbox(&model, &roots);
    let a = here.create(&document(&["a"])).await.unwrap();
    let b = here.replace(&a, &document(&["b"]), true).await.unwrap();
    here.replace(&b, &document(&["c"]), true).await.unwrap();
    let name = |of: &crate::managed::Current| format!("/etcd-encryption-proxy/archive/{}", of.fingerprint);

    // In another cluster of the same etcd, with the same root.
    model.put(b"/other/keyring", &model.value(KEYRING));
    let there = Strongbox::new(&model, StatePrefix::new("/other/").unwrap(), Arc::clone(&roots), "h");
    let error = there.read().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Open {
                source: OpenError::Altered(_),
                ..
            }
        ),
        "{error}"
    );

    // In the place of another, with and without its name changed.
    let moved = String::from_utf8(model.value(&name(&a))).unwrap();
    model.put(name(&b).as_bytes(), moved.as_bytes());
    let renamed = moved.replace(&a.fingerprint.to_string(), &b.fingerprint.to_string());
    for (text, wanted) in [
        (moved, "the one that the record lies under"),
        (renamed, "it was changed"),
    ] {
        model.put(name(&b).as_bytes(), text.as_bytes());
        let archived = here.archived().await.unwrap();
        let bad = archived
            .iter()
            .find(|entry| entry.fingerprint == Some(b.fingerprint))
            .unwrap();
        let told = with_causes(bad.document.as_ref().unwrap_err());
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let told = run(async {
        let (model, roots) = (Model::default(), roots(1));
        let strongbox = strongbox(&model, &roots);
        let current = strongbox.create(&document(&["a"])).await.unwrap();
        let error = RootError::Stretch;
        format!("{current:?} {strongbox:?} {roots:?} {error:?} {:?}", state())
    });
    for secret in ["QUJD", "ABCDEF", "secret:", line(1).trim()] {
        assert!(!told.contains(secret), "{told}");
    }
    assert!(!told.contains("[1, 0, 3"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_and_under_no_other_root(seed in 1..100u8, names in proptest::collection::btree_set("[a-z:é ]{1,20}[a-z]", 1..5)) {
        run(async {
            let model = Model::default();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let made = strongbox(&model, &roots(seed)).create(&document(&names)).await.unwrap();
            let read = strongbox(&model, &roots(seed)).read().await.unwrap().unwrap();
            prop_assert_eq!(read.document.expose(), document(&names));
            prop_assert_eq!(read.keys.len(), names.len());
            prop_assert_eq!(read.root, made.root);
            prop_assert!(strongbox(&model, &roots(seed + 100)).read().await.is_err());
            Ok(())
        })?;
    }
}
