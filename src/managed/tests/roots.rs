//! Root files that change, and passphrases that are stretched once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::world::{File, line};
use crate::files::Permissions;
use crate::managed::stretch::Stretch;
use crate::managed::{RootError, Roots};

#[tokio::test]
async fn a_file_is_read_again_and_one_that_is_broken_changes_nothing() {
    let file = File::new(&line(1));
    let roots = file.roots();
    let stretch = Stretch::fresh().unwrap();
    let one = roots.of_file(&stretch).await.unwrap();
    assert!(!roots.reload().unwrap());
    file.write(&(line(2) + &line(1)));
    assert!(roots.reload().unwrap());
    let both = roots.of_file(&stretch).await.unwrap();
    assert_eq!(both[1..], one);
    for broken in ["", "hunter2"] {
        file.write(broken);
        let error = roots.reload().unwrap_err();
        assert!(
            matches!(error, RootError::File { .. }) && !error.to_string().contains("hunter2"),
            "{error}"
        );
        assert_eq!(roots.of_file(&stretch).await.unwrap(), both);
    }
    fs::remove_file(file.path()).unwrap();
    assert!(matches!(roots.reload(), Err(RootError::Read(_))));
    assert_eq!(roots.of_file(&stretch).await.unwrap(), both);
}

#[tokio::test]
async fn a_passphrase_is_stretched_once_whoever_asks_and_however_often_the_file_is_read() {
    let phrase = "passphrase: correct horse battery staple\n";
    let file = File::new(phrase);
    let roots = file.roots();
    let stretch = Stretch::fresh().unwrap();
    let (one, other) = tokio::join!(roots.first(&stretch), roots.first(&stretch));
    let key = |means| match means {
        crate::managed::roots::Means::Key(root) => root,
        crate::managed::roots::Means::Kms(_) => panic!("there is no plugin"),
    };
    let (one, other) = (key(one.unwrap()), key(other.unwrap()));
    assert!(Arc::ptr_eq(&one, &other));
    file.write(&(line(1) + phrase));
    assert!(roots.reload().unwrap());
    let again = roots.key(one.id(), &stretch).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&one, &again));
    assert!(roots.key(one.id(), &Stretch::fresh().unwrap()).await.unwrap().is_none());
}

#[test]
fn a_file_that_others_can_read_is_refused_where_that_is_asked_for() {
    let file = File::new(&line(1));
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let load = |is_strict| Roots::load(Some(file.path()), Arc::new(Permissions::new(is_strict)), None);
    assert!(matches!(load(true), Err(RootError::Exposed(_))));
    assert!(load(false).is_ok());
    let none = Roots::load(None, Arc::new(Permissions::new(true)), None);
    assert!(matches!(none, Err(RootError::None)));
}
