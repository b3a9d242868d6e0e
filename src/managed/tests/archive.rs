//! The archive, another root, and processes that die on the way.

use std::collections::BTreeSet;

use super::store::{Model, Trouble};
use super::world::{File, document, line, roots, strongbox};
use crate::managed::{Error, RootId};
use crate::types::Fingerprint;

fn key(fingerprint: Fingerprint) -> Vec<u8> {
    format!("/etcd-encryption-proxy/archive/{fingerprint}").into_bytes()
}

#[tokio::test]
async fn what_is_replaced_is_archived_listed_and_purged() {
    let (model, roots) = (Model::default(), roots(1));
    model.page.set(2);
    let strongbox = strongbox(&model, &roots);
    let mut current = strongbox.create(&document(&["k0"])).await.unwrap();
    let mut before = Vec::new();
    for index in 1..=5 {
        before.push((current.fingerprint, current.generation));
        let next = document(&[&format!("k{index}")]);
        current = strongbox.replace(&current, &next, true).await.unwrap();
    }
    // What nobody of us put there is listed, and in nobody's way.
    model.put(b"/etcd-encryption-proxy/archive/mine", b"x");
    let archived = strongbox.archived().await.unwrap();
    assert_eq!(archived.len(), 6);
    for (fingerprint, generation) in &before {
        let entry = archived
            .iter()
            .find(|entry| entry.fingerprint == Some(*fingerprint))
            .unwrap();
        assert_eq!(Fingerprint::of(entry.document.as_ref().unwrap().expose()), *fingerprint);
        let about = entry.about.as_ref().unwrap();
        assert_eq!(
            (about.generation, about.by.as_str(), about.root),
            (*generation, "host-1", current.root)
        );
    }
    let stranger = archived.iter().find(|entry| entry.fingerprint.is_none()).unwrap();
    assert!(
        stranger
            .document
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("archive/mine")
    );

    let gone = [before[0].0, Fingerprint::of(b"never there"), before[2].0];
    assert_eq!(strongbox.purge(&gone).await.unwrap(), [before[0].0, before[2].0]);
    assert_eq!(strongbox.purge(&gone).await.unwrap(), []);
    assert_eq!(strongbox.archived().await.unwrap().len(), 4);
}

/// A process dies behind any of its calls. What is in use is archived at most, which does no harm, and another one goes on.
#[tokio::test]
async fn between_the_archive_and_the_keyring_a_process_may_die() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    // The write of the keyring, which is the third call, does not happen.
    model.fails(2, Trouble::Unheard);
    strongbox.replace(&first, &document(&["b"]), true).await.unwrap_err();
    let now = strongbox.read().await.unwrap().unwrap();
    assert_eq!(now.generation, 1);
    let archived = model.all()[&key(first.fingerprint)].clone();
    let next = strongbox.replace(&now, &document(&["c"]), true).await.unwrap();
    assert_eq!(next.generation, 2);
    assert_eq!(model.all()[&key(first.fingerprint)], archived, "it is there once");
    assert_eq!(strongbox.archived().await.unwrap().len(), 1);
}

/// An entry that nobody opens does not stand for the document that its name says.
#[tokio::test]
async fn an_entry_that_does_not_open_is_put_right() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    model.put(&key(first.fingerprint), b"{}");
    strongbox.replace(&first, &document(&["b"]), true).await.unwrap();
    let archived = strongbox.archived().await.unwrap();
    assert_eq!(archived[0].document.as_ref().unwrap().expose(), document(&["a"]));
}

#[tokio::test]
async fn everything_comes_under_another_root_whoever_dies_meanwhile() {
    for after in 0..24 {
        for trouble in [Trouble::Unheard, Trouble::Unanswered] {
            let model = Model::default();
            let old = roots(1);
            let before = strongbox(&model, &old);
            let a = before.create(&document(&["a"])).await.unwrap();
            let b = before.replace(&a, &document(&["b"]), true).await.unwrap();
            let c = before.replace(&b, &document(&["c"]), true).await.unwrap();

            let both = File::new(&(line(1) + &line(2))).roots();
            let strongbox = strongbox(&model, &both);
            let known = strongbox.known_roots(&c).await.unwrap();
            assert_eq!(known[0].id, c.root);
            assert!(known[1].from.starts_with("line 2 of "), "{:?}", known[1]);
            model.fails(after, trouble);
            let mut resealed = strongbox.reseal(known[1].id).await;
            if let Err(error) = &resealed {
                assert!(error.is_passing(), "{error}");
                assert!(strongbox.read().await.is_ok());
                resealed = strongbox.reseal(known[1].id).await;
            }
            model.fails(0, Trouble::None);
            let resealed = resealed.unwrap();
            assert_eq!((resealed.current.root, resealed.current.generation), (known[1].id, 4));
            assert_eq!(strongbox.reseal(known[1].id).await.unwrap().records, 0, "it is done");

            let new = roots(2);
            let after = super::world::strongbox(&model, &new);
            assert_eq!(after.read().await.unwrap().unwrap().document.expose(), document(&["c"]));
            let opened: BTreeSet<Vec<u8>> = after
                .archived()
                .await
                .unwrap()
                .iter()
                .map(|entry| entry.document.as_ref().unwrap().expose().to_vec())
                .collect();
            assert_eq!(opened, BTreeSet::from([document(&["a"]), document(&["b"])]));
            assert!(before.read().await.is_err());
        }
    }
}

#[tokio::test]
async fn nothing_is_sealed_anew_under_a_root_that_is_not_there_or_past_what_does_not_open() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    assert!(matches!(
        strongbox.reseal(RootId::parse("0123456789abcdef").unwrap()).await,
        Err(Error::Absent)
    ));
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    let unknown = strongbox
        .reseal(RootId::parse("0123456789abcdef").unwrap())
        .await
        .unwrap_err();
    assert!(unknown.to_string().contains(&first.root.to_string()), "{unknown}");

    let both = File::new(&(line(1) + &line(2))).roots();
    let strongbox = super::world::strongbox(&model, &both);
    let current = strongbox.replace(&first, &document(&["b"]), true).await.unwrap();
    let to = strongbox.known_roots(&current).await.unwrap()[1].id;
    model.put(&key(Fingerprint::of(b"x")), b"{}");
    let before = model.all();
    let error = strongbox.reseal(to).await.unwrap_err();
    assert!(matches!(error, Error::Record { .. }), "{error}");
    assert_eq!(model.all(), before, "nothing is written");
}
