//! A KMS plugin of the tests' own, for both protocols, on a real unix socket and a thread of its own. Its key rotates, it
//! counts what it is asked for, and it misbehaves when it is told to.

mod service;
mod socket;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::Code;

/// The plugins' messages and servers, generated from `proto/kms`.
#[allow(clippy::all, clippy::pedantic, unused_qualifications, missing_docs)]
pub mod pb {
    pub mod v1beta1 {
        include!(concat!(env!("OUT_DIR"), "/kms_server/v1beta1.rs"));
    }
    pub mod v2 {
        include!(concat!(env!("OUT_DIR"), "/kms_server/v2.rs"));
    }
}

/// What whoever listens at the socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Speaks gRPC.
    Grpc,
    /// Takes connections and never says a word.
    Silent,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Answers in HTTP/1.1.
    Http1,
    /// Closes every connection at once.
    Closing,
}

/// What the plugin answers. All as it should be by default.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Which version of its key wraps.
    pub key: u8,
    /// What v2 says instead of `key-<version>`: in Status, and in Encrypt.
    pub status_key_id: Option<String>,
    pub encrypt_key_id: Option<String>,
    /// What v2's Status says instead of `ok` and of `v2`, and v1's Version instead of `v1beta1`.
    pub healthz: Option<String>,
    pub version: Option<String>,
    /// What v2's Encrypt adds.
    pub annotations: Vec<(String, Vec<u8>)>,
    /// Every call fails so, and quotes what it was given.
    pub error: Option<Code>,
    /// Decrypt alone fails so.
    pub decrypt_error: Option<Code>,
    /// So many calls of Decrypt in a second are answered, and the others refused as too many.
    pub decrypts_a_second: Option<u32>,
    /// Decrypt refuses what was wrapped by versions of its key below this one, and says that they are not found.
    pub oldest: u8,
    /// Every call takes so long.
    pub delay: Duration,
    /// What Decrypt answers instead of the key.
    pub plaintext: Option<Vec<u8>>,
    /// What Encrypt answers instead of the wrapped key.
    pub ciphertext: Option<Vec<u8>>,
    /// Encrypt answers what it was given.
    pub in_clear: bool,
}

/// How often the plugin was asked.
#[derive(Debug, Default)]
pub struct Counts {
    pub status: AtomicUsize,
    pub encrypt: AtomicUsize,
    pub decrypt: AtomicUsize,
    pub version: AtomicUsize,
    /// Calls under way, and the most there ever were.
    pub under_way: AtomicUsize,
    pub most: AtomicUsize,
}

impl Counts {
    pub fn encrypts(&self) -> usize {
        self.encrypt.load(Ordering::SeqCst)
    }

    pub fn decrypts(&self) -> usize {
        self.decrypt.load(Ordering::SeqCst)
    }
}

/// What the plugin's service and the test share.
#[derive(Debug, Default)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    counts: Counts,
    /// The second that Decrypts were last asked for in, and how many were answered in it.
    second: Mutex<Option<(Instant, u32)>>,
    /// All that Encrypt was given.
    given: Mutex<Vec<Vec<u8>>>,
}

/// A plugin. Stopped when dropped.
#[derive(Debug)]
pub struct Plugin {
    shared: Arc<Shared>,
    path: PathBuf,
    running: Option<Running>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Plugin {
    /// One that serves.
    pub fn start() -> Self {
        let mut plugin = Self::down();
        plugin.serve(Socket::Grpc);
        plugin
    }

    /// One that nobody listens for yet.
    pub fn down() -> Self {
        let folder = TempDir::with_prefix("kms-").expect("a temporary folder");
        Self {
            shared: Arc::default(),
            path: folder.path().join("kms.sock"),
            running: None,
            _folder: folder,
        }
    }

    /// One whose socket has no file.
    pub fn start_abstract() -> Self {
        let mut plugin = Self::down();
        let name = plugin.path.display().to_string().replace('/', "-");
        plugin.path = format!("/@{name}").into();
        plugin.serve(Socket::Grpc);
        plugin
    }

    /// What a configuration calls it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Serves, in place of what it did before: with a new socket and no memory of earlier connections, as after a restart.
    pub fn serve(&mut self, socket: Socket) {
        self.stop();
        let listener = self.bind();
        listener.set_nonblocking(true).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = socket::serve(socket, listener, shared) => {}
                    _ = stopped => {}
                }
            });
            // Calls under way end with their connections.
            runtime.shutdown_background();
        });
        self.running = Some(Running { stop, thread });
    }

    fn bind(&self) -> UnixListener {
        if let Some(name) = self.path.as_os_str().as_encoded_bytes().strip_prefix(b"/@") {
            let address = SocketAddr::from_abstract_name(name).expect("a name");
            return UnixListener::bind_addr(&address).expect("a socket");
        }
        let _ = std::fs::remove_file(&self.path);
        UnixListener::bind(&self.path).expect("a socket")
    }

    /// Ends it as `kill -9` would: its connections are cut, its socket's file stays.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the plugin's thread");
        }
    }

    /// Deletes the socket's file under a plugin that goes on.
    pub fn delete_socket(&self) {
        std::fs::remove_file(&self.path).expect("a socket's file");
    }

    /// What it does from now on.
    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.shared.behaviour.lock().expect("a lock")
    }

    /// As it should be again, under the key that it has.
    pub fn behave(&self) {
        let mut behaviour = self.behaviour();
        *behaviour = Behaviour {
            key: behaviour.key,
            ..Behaviour::default()
        };
    }

    /// What it was given to wrap, in order.
    pub fn given(&self) -> Vec<Vec<u8>> {
        self.shared.given.lock().expect("a lock").clone()
    }

    /// How often it was asked.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// A configuration that writes `resources` with it and reads them with it or as plain text.
    pub fn document(&self, resources: &str, version: &str) -> String {
        self.document_with(resources, version, "timeout: 1s")
    }

    /// The same with more to say of the plugin.
    pub fn document_with(&self, resources: &str, version: &str, more: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\n\
             kind: EncryptionConfiguration\n\
             resources:\n\
             - resources: ['{resources}']\n  \
               providers:\n  \
               - kms: {{apiVersion: {version}, name: plugin, endpoint: '{}', {more}}}\n  \
               - identity: {{}}\n",
            self.endpoint()
        )
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.stop();
    }
}
