//! Notes of exports, and records that are opened where they were found.

use super::store::Model;
use super::world::{KEYRING, document, roots, state, strongbox};
use crate::managed::{Error, OpenError, is_record, open_loose};

const EXPORTS: &[u8] = b"/etcd-encryption-proxy/exports";

#[tokio::test]
async fn the_latest_exports_are_remembered_and_a_record_of_others_is_in_nobodys_way() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    let current = strongbox.create(&document(&["k1"])).await.unwrap();
    assert_eq!(strongbox.exports().await.unwrap(), []);
    for index in 0..25 {
        strongbox.note_export(&current, &format!("user-{index}")).await.unwrap();
    }
    let exports = strongbox.exports().await.unwrap();
    assert_eq!(exports.len(), 20);
    let ends = [exports.first(), exports.last()].map(|export| export.unwrap().user.as_str());
    assert_eq!(ends, ["user-5", "user-24"]);
    assert!(
        exports
            .iter()
            .all(|export| export.by == "host-1" && export.generation == 1)
    );

    // Whoever can write to etcd writes what they like, and not to anybody's terminal.
    let hostile =
        br#"{"schema":1,"exports":[{"at":"2026-01-01T00:00:00Z","by":"a\u001b[2J","user":"u","generation":9}]}"#;
    model.put(EXPORTS, hostile);
    assert_eq!(strongbox.exports().await.unwrap()[0].by, "a\u{fffd}[2J");
    for broken in [&b"x"[..], br#"{"schema":2,"exports":[]}"#] {
        model.put(EXPORTS, broken);
        assert_eq!(strongbox.exports().await.unwrap(), []);
    }
    strongbox.note_export(&current, "u").await.unwrap();
    assert_eq!(strongbox.exports().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_record_opens_where_it_was_found_and_under_its_own_key_alone() {
    let (model, own) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &own);
    let first = strongbox.create(&document(&["k1"])).await.unwrap();
    let second = strongbox.replace(&first, &document(&["k2"]), true).await.unwrap();
    let archived = format!("/etcd-encryption-proxy/archive/{}", first.fingerprint);
    for (key, of) in [(KEYRING, &second), (archived.as_str(), &first)] {
        let value = model.value(key);
        assert!(is_record(&state(), key.as_bytes()));
        let found = open_loose(&own, &state(), key.as_bytes(), &value).await.unwrap();
        assert_eq!(
            (found.is_keyring, found.generation, found.fingerprint),
            (key == KEYRING, of.generation, of.fingerprint)
        );
        assert_eq!(found.document.expose(), of.document.expose());
        let refused = open_loose(&roots(2), &state(), key.as_bytes(), &value).await;
        assert!(
            matches!(
                refused,
                Err(Error::Open {
                    source: OpenError::NoRoot { .. },
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    for other in [
        "/etcd-encryption-proxy/archive/x",
        "/etcd-encryption-proxy/exports",
        "/registry/keyring",
    ] {
        assert!(!is_record(&state(), other.as_bytes()), "{other}");
    }
    let moved = model.value(&archived);
    assert!(open_loose(&own, &state(), KEYRING.as_bytes(), &moved).await.is_err());
}
