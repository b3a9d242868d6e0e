//! What becomes of replaced files, with real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::tls::tests::pki::{Authority, Folder, Issued, expire};
use crate::tls::{ClientAuth, ClientFiles, ServerFiles};

struct World {
    folder: Folder,
    ca: Authority,
    reloader: Reloader<ServerFiles>,
}

impl World {
    /// A server's certificate in use, of which faults are told at once.
    async fn new(is_strict: bool) -> Self {
        let (folder, ca) = (Folder::new(), Authority::new("ca"));
        let (cert_file, key_file) = folder.write_pair("server", &ca.issue("server", &["localhost"]));
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let client_auth = ClientAuth {
            trusted_ca_file: Some(folder.write("ca.crt", ca.pem())),
            ..ClientAuth::default()
        };
        let files = ServerFiles {
            cert_file,
            key_file,
            client_auth,
        };
        let seen = fingerprint(&files);
        let tls = files.load().unwrap();
        let status = Arc::new(ReloadStatus::new(ServerFiles::about(&tls).0));
        let permissions = Arc::new(Permissions::new(is_strict));
        let mut reloader = Reloader::new(files, Handle::new(tls), seen, status, permissions);
        reloader.grace = Duration::ZERO;
        assert!(reloader.look().await);
        Self { folder, ca, reloader }
    }

    fn in_use(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.reloader.handle.load().config)
    }

    fn failure(&self) -> Option<String> {
        let state = self.reloader.status.snapshot();
        state.failure.as_ref().map(|failure| failure.text.clone())
    }

    /// Looks, and says whether something else is in use since.
    async fn takes(&mut self) -> bool {
        let before = self.in_use();
        let is_content = self.reloader.look().await;
        assert_eq!(is_content, self.failure().is_none());
        !Arc::ptr_eq(&before, &self.in_use())
    }

    fn other(&self) -> Issued {
        self.ca.issue("server", &["localhost"])
    }
}

#[tokio::test]
async fn what_can_be_used_is_taken_once() {
    let mut world = World::new(false).await;
    assert!(!world.takes().await, "nothing has changed");
    world.folder.write_pair("server", &world.other());
    assert!(world.takes().await);
    assert!(!world.takes().await);
    world
        .folder
        .write("ca.crt", Authority::new("other").pem() + &world.ca.pem());
    assert!(world.takes().await, "the CAs belong to it");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_the_old_one_stays() {
    let mut world = World::new(false).await;
    let [cert, key, ca] =
        ["server.crt", "server.key", "ca.crt"].map(|name| (name, fs::read(world.folder.path(name)).unwrap()));
    let expired = world.ca.issue_with("server", &["localhost"], expire);
    let expired_key = expired.key.serialize_pem();
    let other = world.other();
    for (files, expected) in [
        (vec![("server.crt", other.cert.as_str())], "does not belong"),
        (vec![("server.crt", "nothing")], "holds no certificate"),
        (vec![("ca.crt", "")], "holds no certificate"),
        (vec![("server.key", "-----BEGIN PRIVATE KEY-----\n?")], "not intact PEM"),
        (
            vec![("server.crt", expired.cert.as_str()), ("server.key", &expired_key)],
            "expired at",
        ),
    ] {
        for (name, text) in &files {
            world.folder.write(name, text);
        }
        assert!(!world.takes().await, "{expected}");
        let failure = world.failure().unwrap();
        assert!(failure.contains(expected) && failure.contains(files[0].0), "{failure}");
        for (name, bytes) in [&cert, &key, &ca] {
            world.folder.write(name, bytes);
        }
        assert!(!world.takes().await, "the old files are the ones in use");
    }
    fs::remove_file(world.folder.path("server.key")).unwrap();
    assert!(!world.takes().await);
    assert!(world.failure().unwrap().contains("cannot be read"));
}

/// Neither could ever be looked at again if the pipe were opened: nobody writes to it.
#[tokio::test]
async fn a_pipe_in_a_files_place_is_not_waited_for() {
    let mut world = World::new(false).await;
    for name in ["server.key", "ca.crt"] {
        let path = world.folder.path(name);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(!world.takes().await);
        let failure = world.failure().unwrap();
        assert!(
            failure.contains(name) && failure.contains("not a regular file"),
            "{failure}"
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
        assert!(!world.takes().await && world.failure().is_none());
    }
}

#[tokio::test]
async fn a_certificate_whose_key_is_still_to_come_is_no_fault_yet() {
    let mut world = World::new(false).await;
    world.reloader.grace = Duration::from_secs(3600);
    let other = world.other();
    let before = world.in_use();
    world.folder.write("server.crt", &other.cert);
    assert!(!world.reloader.look().await, "it is looked at again soon");
    assert_eq!(world.failure(), None);
    assert!(Arc::ptr_eq(&before, &world.in_use()));
    world.folder.write("server.key", other.key.serialize_pem());
    assert!(world.takes().await);
}

#[tokio::test]
async fn an_exposed_key_is_refused_where_that_is_wanted() {
    for is_strict in [false, true] {
        let mut world = World::new(is_strict).await;
        let key = world.folder.path("server.key");
        world.folder.write_pair("server", &world.other());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(world.takes().await, !is_strict);
        assert_eq!(world.failure().is_some(), is_strict);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(world.takes().await, is_strict);
        assert_eq!(world.failure(), None);
    }
}

#[test]
fn the_client_side_follows_every_file_it_was_given() {
    let files = ClientFiles {
        ca_file: Some("ca".into()),
        cert_file: Some("cert".into()),
        key_file: Some("key".into()),
    };
    assert_eq!(files.paths(), ["ca", "cert", "key"].map(PathBuf::from));
    assert_eq!(files.private_key(), Some((FileRole::EtcdKey, Path::new("key"))));
    assert_eq!(ClientFiles::default().paths(), Vec::<PathBuf>::new());
    assert_eq!(ClientFiles::default().private_key(), None);
}
