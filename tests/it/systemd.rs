//! What systemd is told, at a socket such as it gives its services; and what an error says where a unit's sandbox is its cause.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::process::PATIENCE;
use crate::common::proxy::Setup;
use crate::common::tools::Version;

/// The end that systemd has.
struct Manager(UnixDatagram);

impl Manager {
    fn listening(folder: &Path) -> (Self, String) {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        (Self(socket), format!("NOTIFY_SOCKET={}", path.display()))
    }

    /// The next datagram that begins so; those before it are forgotten.
    fn told(&self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        while Instant::now() < until {
            let mut bytes = [0; 4096];
            match self.0.recv(&mut bytes) {
                Ok(count) => {
                    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
                    if text.starts_with(what) {
                        return text;
                    }
                    before.push(text);
                }
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
        }
        panic!("{what} was never told; before it came {before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_start_reload_health_and_end() {
    let etcd = Etcd::start(Version::V3_5).await;
    let setup = Setup::new(etcd.endpoint(), config::secrets());
    let (manager, variable) = Manager::listening(setup.folder());
    let [port] = free_ports();
    let setup = setup
        .listen(&[&format!("http://127.0.0.1:{port}")])
        .under(&["env", &variable, "WATCHDOG_USEC=400000"]);
    let starting = setup.spawn();
    manager.told("READY=1");
    // It is ready when it is told to be, not soon after.
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut proxy = starting.ready();
    for _ in 0..3 {
        manager.told("WATCHDOG=1");
    }
    proxy.process().signal("HUP");
    let reloading = manager.told("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.told("READY=1");
    proxy.process().signal("TERM");
    manager.told("STOPPING=1");
    assert_eq!(manager.told("STATUS="), "STATUS=draining");
    assert!(proxy.process().wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_nothing_but_etcd_is_ready_so_that_etcd_can_be_started_after_it() {
    let [port] = free_ports();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let bytes: Vec<u8> = (1..=32).collect();
    fs::write(&root, bytes).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).unwrap();
    let (manager, variable) = Manager::listening(folder.path());
    let setup = Setup::managed(format!("http://127.0.0.1:{port}"), &root).member("first");
    let mut starting = setup.under(&["env", &variable]).spawn();
    assert!(manager.told("STATUS=").contains("waiting for the keyring in etcd"));
    manager.told("READY=1");
    let output = starting.process().output();
    assert!(!output.contains("serving client traffic"), "{output}");
}

#[test]
fn a_socket_that_cannot_be_told_stops_the_start() {
    let (status, output) = Setup::new("http://127.0.0.1:1", config::secrets())
        .under(&["env", "NOTIFY_SOCKET=vsock:2:9"])
        .refused();
    assert!(!status.success());
    assert!(output.contains("NOTIFY_SOCKET=\"vsock:2:9\""), "{output}");
}

#[test]
fn a_file_that_root_without_capabilities_may_not_read_is_named_with_its_owner() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return eprintln!("skipped: takes root");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.yaml");
    fs::write(&path, config::secrets()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&path, Some(12_345), Some(54_321)).unwrap();
    let (status, output) = Setup::sharing("http://127.0.0.1:1", &path)
        .under(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
        .refused();
    assert!(!status.success());
    let owner = format!(
        "{} belongs to user 12345, group 54321 and has mode 0600",
        path.display()
    );
    for text in [owner.as_str(), "this process is user 0", "DAC_OVERRIDE"] {
        assert!(output.contains(text), "{text}: {output}");
    }
}
