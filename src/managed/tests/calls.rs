//! Reading, making and replacing the keyring: alone, at once with others, and with calls that go wrong.

use super::store::{Model, Trouble};
use super::world::{File, KEYRING, document, line, roots, strongbox};
use crate::managed::{Error, OpenError};
use crate::types::with_causes;

#[tokio::test]
async fn a_keyring_is_made_read_and_replaced() {
    let (model, roots) = (Model::default(), roots(1));
    let strongbox = strongbox(&model, &roots);
    assert!(strongbox.read().await.unwrap().is_none());
    let first = strongbox.create(&document(&["a"])).await.unwrap();
    assert_eq!((first.generation, first.by.as_str()), (1, "host-1"));
    assert_eq!(first.document.expose(), document(&["a"]));
    let read = strongbox.read().await.unwrap().unwrap();
    assert_eq!(
        (read.fingerprint, read.revision, read.root),
        (first.fingerprint, first.revision, first.root)
    );
    let again = strongbox.create(&document(&["b"])).await.unwrap();
    assert_eq!(again.fingerprint, first.fingerprint, "what stands there stays");

    let second = strongbox.replace(&first, &document(&["b", "a"]), true).await.unwrap();
    assert_eq!((second.generation, second.created), (2, first.created));
    let names: Vec<_> = second.keys.iter().map(|age| age.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(second.keys[1].since, first.keys[0].since, "a key keeps its age");
    assert!(
        model
            .all()
            .contains_key(format!("/etcd-encryption-proxy/archive/{}", first.fingerprint).as_bytes())
    );
    let late = strongbox.replace(&first, &document(&["c"]), true).await;
    assert!(matches!(late, Err(Error::Changed)), "{late:?}");
    let invalid = strongbox.replace(&second, b"kind: Nothing", true).await;
    assert!(matches!(invalid, Err(Error::Invalid(_))), "{invalid:?}");
}

#[tokio::test]
async fn whoever_comes_at_once_goes_on_with_the_same() {
    let (model, roots) = (Model::default(), roots(1));
    let documents = ["a", "b", "c"].map(|name| document(&[name]));
    let boxes = [(); 3].map(|()| strongbox(&model, &roots));
    let (a, b, c) = tokio::join!(
        boxes[0].create(&documents[0]),
        boxes[1].create(&documents[1]),
        boxes[2].create(&documents[2])
    );
    let fingerprints = [a, b, c].map(|made| made.unwrap().fingerprint);
    assert!(fingerprints.iter().all(|other| *other == fingerprints[0]));
    assert_eq!(model.writes.get(), 1);
}

/// Whichever call goes wrong, before or after it happened: made again, the same call gives the keyring once.
#[tokio::test]
async fn a_call_that_goes_wrong_is_made_again_and_does_no_harm() {
    for trouble in [Trouble::Unheard, Trouble::Unanswered] {
        for after in 0..8 {
            let (model, roots) = (Model::default(), roots(1));
            let strongbox = strongbox(&model, &roots);
            model.fails(after, trouble);
            let mut made = strongbox.create(&document(&["a"])).await;
            if let Err(error) = &made {
                assert!(error.is_passing(), "{error}");
                made = strongbox.create(&document(&["a"])).await;
            }
            let first = made.unwrap();
            model.fails(after, trouble);
            let mut replaced = strongbox.replace(&first, &document(&["b"]), true).await;
            if let Err(error) = &replaced {
                assert!(error.is_passing(), "{error}");
                replaced = strongbox.replace(&first, &document(&["b"]), true).await;
            }
            assert_eq!(replaced.unwrap().generation, 2, "{trouble:?} {after}");
            model.fails(0, Trouble::None);
            let now = strongbox.read().await.unwrap().unwrap();
            assert_eq!(now.document.expose(), document(&["b"]));
            assert_eq!(model.all().len(), 3, "one record, one archived, one epoch");
            assert_eq!(model.writes.get(), 3);
        }
    }
}

#[tokio::test]
async fn a_keyring_under_another_root_says_which_it_wants() {
    let model = Model::default();
    let (one, other) = (roots(1), roots(2));
    let made = strongbox(&model, &one).create(&document(&["a"])).await.unwrap();
    let error = strongbox(&model, &other).read().await.unwrap_err();
    let Error::Open {
        source: OpenError::NoRoot { wants, has },
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*wants, made.root);
    assert_ne!(has[..], [made.root]);
    let told = with_causes(&error);
    assert!(
        told.contains(&wants.to_string()) && told.contains(&has[0].to_string()),
        "{told}"
    );
    assert!(
        strongbox(&model, &other).create(&document(&["b"])).await.is_err(),
        "it is not made anew"
    );
    assert!(model.all().contains_key(KEYRING.as_bytes()));

    let both = File::new(&(line(2) + &line(1)));
    let replaced = strongbox(&model, &both.roots())
        .replace(&made, &document(&["b"]), false)
        .await;
    assert_eq!(
        replaced.unwrap().root,
        made.root,
        "the order of the file changes nothing"
    );
}

#[tokio::test]
async fn a_passphrase_opens_what_it_has_sealed_and_is_stretched_with_the_records_salt() {
    let model = Model::default();
    let file = File::new("passphrase: correct horse battery staple\n");
    let made = strongbox(&model, &file.roots())
        .create(&document(&["a"]))
        .await
        .unwrap();
    let read = strongbox(&model, &file.roots()).read().await.unwrap().unwrap();
    assert_eq!(read.root, made.root);
    let elsewhere = Model::default();
    let other = strongbox(&elsewhere, &file.roots())
        .create(&document(&["a"]))
        .await
        .unwrap();
    assert_ne!(other.root, made.root, "each cluster has a salt of its own");
    let record = String::from_utf8(model.value(KEYRING)).unwrap();
    assert!(record.contains(r#""memoryKib":65536,"passes":3,"lanes":4"#), "{record}");
    assert!(!record.contains("horse"));
}
