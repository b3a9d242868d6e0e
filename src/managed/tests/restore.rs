//! Backups, put back on stores of all kinds.

use super::store::{Model, Trouble};
use super::world::{KEYRING, document, roots, strongbox};
use crate::managed::Error;
use crate::types::Fingerprint;

/// A store with two generations, and its backup.
async fn cluster() -> (Model, Vec<u8>) {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    strongbox.replace(&first, &document(&["b"]), true).await.unwrap();
    let backup = strongbox.backup().await.unwrap();
    (model, backup)
}

async fn names(model: &Model) -> Vec<Vec<u8>> {
    let roots = roots(1);
    let archived = strongbox(model, &roots).archived().await.unwrap();
    let mut names: Vec<_> = archived
        .iter()
        .filter_map(|entry| entry.document.as_ref().ok())
        .map(|document| document.expose().to_vec())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_empty_store_gets_what_was_backed_up_whichever_call_goes_wrong() {
    let (model, backup) = cluster().await;
    let text = String::from_utf8(backup.clone()).unwrap();
    assert!(text.contains("\"generation\": 2") && !text.contains("QUJD"), "{text}");
    for after in 0..6 {
        for trouble in [Trouble::Unheard, Trouble::Unanswered] {
            let (empty, roots) = (Model::default(), roots(1));
            let strongbox = strongbox(&empty, &roots);
            empty.fails(after, trouble);
            let mut restored = strongbox.restore(&backup, false).await;
            if let Err(error) = &restored {
                assert!(error.is_passing(), "{error}");
                restored = strongbox.restore(&backup, false).await;
            }
            empty.fails(0, Trouble::None);
            assert_eq!(restored.unwrap().current.generation, 2);
            // Each has begun an epoch of its own.
            let values = |model: &Model| -> Vec<_> {
                let records = model.all().into_values().filter(|kv| !kv.key.ends_with(b"/epoch"));
                records.map(|kv| (kv.key, kv.value)).collect()
            };
            assert_eq!(values(&empty), values(&model));
            let epochs = |model: &Model| model.all().into_values().find(|kv| kv.key.ends_with(b"/epoch"));
            assert_ne!(epochs(&empty).map(|kv| kv.value), epochs(&model).map(|kv| kv.value));
        }
    }
}

#[tokio::test]
async fn a_later_or_another_keyring_is_replaced_only_by_force_and_then_archived() {
    let (model, backup) = cluster().await;
    let roots = roots(1);
    let strongbox = strongbox(&model, &roots);
    let same = strongbox.restore(&backup, false).await.unwrap();
    assert_eq!((same.current.generation, same.archived), (2, 0), "it is there already");

    let third = strongbox.replace(&same.current, &document(&["c"]), true).await.unwrap();
    let before = model.all();
    let refused = strongbox.restore(&backup, false).await.unwrap_err();
    let Error::Standing(keyrings) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((keyrings.standing.0, keyrings.backup.0), (3, 2));
    assert_eq!(model.all(), before);
    let forced = strongbox.restore(&backup, true).await.unwrap();
    assert_eq!(
        forced.current.generation,
        third.generation + 1,
        "members that run take it"
    );
    assert_eq!(forced.current.document.expose(), document(&["b"]));
    assert_eq!(
        names(&model).await,
        [document(&["a"]), document(&["b"]), document(&["c"])]
    );

    // A keyring that began anew may have sealed values already, whatever its generation.
    let other = Model::default();
    let elsewhere = super::world::strongbox(&other, &roots);
    elsewhere.create(&document(&["z"])).await.unwrap();
    assert!(matches!(
        elsewhere.restore(&backup, false).await,
        Err(Error::Standing(_))
    ));
    assert_eq!(elsewhere.restore(&backup, true).await.unwrap().current.generation, 3);
    assert_eq!(names(&other).await, [document(&["a"]), document(&["z"])]);
}

/// etcd was restored from a snapshot of an earlier time, and the backup is later.
#[tokio::test]
async fn an_earlier_keyring_of_the_same_cluster_is_replaced() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    let snapshot = model.value(KEYRING);
    strongbox.replace(&first, &document(&["b"]), false).await.unwrap();
    let backup = strongbox.backup().await.unwrap();
    model.put(KEYRING.as_bytes(), &snapshot);
    let restored = strongbox.restore(&backup, false).await.unwrap();
    assert_eq!((restored.current.generation, restored.archived), (2, 1));
    assert_eq!(names(&model).await, [document(&["a"])]);
}

#[tokio::test]
async fn what_does_not_open_is_never_written() {
    let (_, backup) = cluster().await;
    let (empty, other) = (Model::default(), roots(2));
    for force in [false, true] {
        let error = strongbox(&empty, &other).restore(&backup, force).await.unwrap_err();
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }
    assert!(empty.all().is_empty());

    // A record of the archive that does not open holds up the rest, unless forced.
    let (model, _) = cluster().await;
    let stray = format!("/etcd-encryption-proxy/archive/{}", Fingerprint::of(b"x"));
    model.put(stray.as_bytes(), b"{}");
    let roots = roots(1);
    let backup = strongbox(&model, &roots).backup().await.unwrap();
    let strongbox = strongbox(&empty, &roots);
    assert!(strongbox.restore(&backup, false).await.is_err());
    assert!(empty.all().is_empty());
    let forced = strongbox.restore(&backup, true).await.unwrap();
    assert_eq!((forced.archived, forced.left_out.len()), (1, 1));
}

#[tokio::test]
async fn a_keyring_that_does_not_open_is_put_aside_only_by_force() {
    let (model, backup) = cluster().await;
    let roots = roots(1);
    let strongbox = strongbox(&model, &roots);
    let broken = br#"{"schema":1}"#;
    model.put(KEYRING.as_bytes(), broken);
    assert!(strongbox.restore(&backup, false).await.is_err());
    assert_eq!(model.value(KEYRING), broken);
    let forced = strongbox.restore(&backup, true).await.unwrap();
    assert_eq!(forced.current.generation, 3);
    let aside = format!("/etcd-encryption-proxy/archive/{}", Fingerprint::of(broken));
    assert_eq!(model.value(&aside), broken);
}

#[tokio::test]
async fn what_is_no_backup_of_this_is_refused() {
    let (_, backup) = cluster().await;
    let (empty, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&empty, &roots);
    let text = String::from_utf8(backup).unwrap();
    for (bad, wanted) in [
        (String::new(), "EOF"),
        (text.replace("\"schema\": 1", "\"schema\": 9"), "schema is 9"),
        (text.replace("keyring backup", "diary"), "`kind`"),
        (
            text.replace("/etcd-encryption-proxy/", "/other/"),
            "--state-prefix=/other/",
        ),
        (text.replace("\"generation\": 2", "\"generation\": 7"), "`generation`"),
        (
            text.replace("\"name\": \"keyring\"", "\"name\": \"archive/x\""),
            "archive/x",
        ),
        (text.replace("\"revision\"", "\"revolution\""), "revolution"),
        (text.clone() + "{}", "trailing"),
    ] {
        assert_ne!(bad, text);
        let told = strongbox.restore(bad.as_bytes(), false).await.unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
    assert!(empty.all().is_empty());
}
