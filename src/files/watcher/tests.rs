//! Every way in which people and tools replace files is noticed by its events alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// Longer than any test runs: what is noticed is noticed by events.
const NEVER: Duration = Duration::from_secs(3600);

fn watcher(path: &Path) -> Watcher {
    Watcher::new(vec![path.to_owned()], NEVER)
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"old").unwrap();
    (folder, path)
}

/// Waits until a change is told after which the file holds `expected`. Steps of one change may be told apart.
async fn sees(watcher: &mut Watcher, path: &Path, expected: &str) {
    loop {
        assert_eq!(watcher.changed().await, Change::Event);
        if fs::read(path).is_ok_and(|found| found == expected.as_bytes()) {
            return;
        }
    }
}

/// Whether a change is told of which nobody has made any: given long enough for events to settle.
async fn is_quiet(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(5 * QUIET, watcher.changed()).await.is_err()
}

#[tokio::test]
async fn a_file_is_written_in_place() {
    let (_folder, path) = folder();
    let mut watcher = watcher(&path);
    for text in ["once", "again"] {
        fs::write(&path, text).unwrap();
        sees(&mut watcher, &path, text).await;
    }
}

#[tokio::test]
async fn a_file_is_renamed_over_another() {
    let (folder, path) = folder();
    let mut watcher = watcher(&path);
    for text in ["once", "again"] {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        sees(&mut watcher, &path, text).await;
    }
}

#[tokio::test]
async fn a_file_goes_and_comes_back() {
    let (_folder, path) = folder();
    let mut watcher = watcher(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(watcher.changed().await, Change::Event);
    fs::write(&path, "back").unwrap();
    sees(&mut watcher, &path, "back").await;
}

#[tokio::test]
async fn the_data_link_of_a_kubernetes_volume_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let path = at("config");
    fs::create_dir(at("..0")).unwrap();
    fs::write(at("..0/config"), "0").unwrap();
    symlink("..0", at("..data")).unwrap();
    symlink("..data/config", &path).unwrap();
    let mut watcher = watcher(&path);
    // As the kubelet does it: a new folder, a new link renamed over the old one, the old folder gone.
    for round in 1..5 {
        let (old, new) = (format!("..{}", round - 1), format!("..{round}"));
        fs::create_dir(at(&new)).unwrap();
        fs::write(at(&new).join("config"), round.to_string()).unwrap();
        symlink(&new, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at(&old)).unwrap();
        sees(&mut watcher, &path, &round.to_string()).await;
    }
    // The folder that the link leads to by now is watched as well.
    fs::write(at("..data/config"), "in place").unwrap();
    sees(&mut watcher, &path, "in place").await;
}

#[tokio::test]
async fn the_folder_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let path = at("etc/deep/file");
    fs::create_dir_all(at("etc/deep")).unwrap();
    fs::write(&path, "old").unwrap();
    let mut watcher = watcher(&path);
    for round in ["one", "two"] {
        fs::create_dir_all(at("next")).unwrap();
        fs::write(at("next/file"), round).unwrap();
        fs::rename(at("etc/deep"), at(&format!("was-{round}"))).unwrap();
        fs::rename(at("next"), at("etc/deep")).unwrap();
        sees(&mut watcher, &path, round).await;
    }
    fs::remove_dir_all(at("etc")).unwrap();
    assert_eq!(watcher.changed().await, Change::Event);
    // Level by level, with a look in between, so that each level must have been waited for.
    for level in ["etc", "etc/deep"] {
        fs::create_dir(at(level)).unwrap();
        assert_eq!(watcher.changed().await, Change::Event);
    }
    fs::write(&path, "three").unwrap();
    sees(&mut watcher, &path, "three").await;
}

#[tokio::test]
async fn permissions_are_changed() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, path) = folder();
    let mut watcher = watcher(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(watcher.changed().await, Change::Event);
}

#[tokio::test]
async fn neighbours_and_readers_are_not_told_of() {
    let (folder, path) = folder();
    let mut watcher = watcher(&path);
    fs::write(folder.path().join("neighbour"), "new").unwrap();
    fs::read(&path).unwrap();
    assert!(is_quiet(&mut watcher).await);
}

#[tokio::test]
async fn an_event_survives_an_impatient_caller() {
    let (_folder, path) = folder();
    let mut watcher = watcher(&path);
    fs::write(&path, "new").unwrap();
    // Gives up once the event has been taken, and before it is told.
    while watcher.unrest.is_none() {
        tokio::select! {
            biased;
            // On a machine that is slow enough nobody is impatient.
            _ = watcher.changed() => return,
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(watcher.changed().await, Change::Event);
}

#[tokio::test]
async fn without_events_there_is_the_poll() {
    let (_folder, path) = folder();
    let mut watcher = Watcher::new(vec![path], Duration::from_millis(20));
    watcher.inotify = None;
    watcher.lost(&io::Error::other("no instances left"));
    assert_eq!(watcher.changed().await, Change::Poll);
    assert!(watcher.inotify.is_some(), "events are asked for again");
}
