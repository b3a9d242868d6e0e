//! What a load is put through: etcd itself, or what stands before it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};

use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::kms::Plugin;
use crate::common::process::{PATIENCE, Process};
use crate::common::proxy::{Proxy, Setup};
use crate::common::tools::Version;
use crate::settings::Settings;

/// How clients connect, and what stands before etcd connects likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    Unix,
}

/// The targets, as the tables call them.
pub const DIRECT: &str = "direct";
/// etcd itself, with writes as the proxy sends them: what the fence costs etcd.
pub const FENCED: &str = "direct, under a fence";
pub const GRPC_PROXY: &str = "etcd grpc-proxy";
pub const NO_RULE: &str = "proxy, no rule";
pub const IDENTITY: &str = "proxy, identity";
pub const AESCBC: &str = "proxy, aescbc";
pub const AESGCM: &str = "proxy, aesgcm";
pub const SECRETBOX: &str = "proxy, secretbox";
pub const KMS_V2: &str = "proxy, kms v2";
/// As [`AESCBC`], but another build of the proxy: what a change is worth, in turns.
pub const OTHER: &str = "other build, aescbc";

/// HTTP/2 windows of the load's connections. Go's client begins with 64 KiB and measures its way up; this is about where it
/// ends on a loopback.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// One of the ways to etcd.
pub struct Target {
    pub name: &'static str,
    /// The process on the way; none where there is none.
    pub pid: Option<u32>,
    dial: Dial,
    held: Held,
}

enum Dial {
    Tcp(String),
    Tls(String, ClientTlsConfig),
    Unix(PathBuf),
}

/// What ends with the target.
#[expect(dead_code, reason = "most of it is held for the sake of its end")]
enum Held {
    Nothing,
    GrpcProxy(Process, TempDir),
    Proxy(Proxy, Option<Plugin>),
}

impl Target {
    pub async fn start(name: &'static str, etcd: &Etcd, settings: &Settings, transport: Transport) -> Self {
        match name {
            DIRECT => Self::direct(etcd, transport),
            FENCED => Self {
                name: FENCED,
                ..Self::direct(etcd, transport)
            },
            GRPC_PROXY => Self::grpc_proxy(etcd, settings.version).await,
            _ => Self::proxy(name, etcd, settings, transport),
        }
    }

    /// A proxy that has been started, over TCP.
    pub fn of(name: &'static str, mut proxy: Proxy) -> Self {
        let dial = Dial::Tcp(proxy.url().to_owned());
        let pid = Some(proxy.process().id());
        Self {
            name,
            pid,
            dial,
            held: Held::Proxy(proxy, None),
        }
    }

    /// What somebody else has started, at `url`.
    pub fn at(name: &'static str, url: &str) -> Self {
        Self {
            name,
            pid: None,
            dial: Dial::Tcp(url.to_owned()),
            held: Held::Nothing,
        }
    }

    /// Ends a proxy that runs under callgrind, and gives what that counted.
    pub fn collected(self) -> u64 {
        let Held::Proxy(mut proxy, _) = self.held else {
            panic!("{} is no proxy", self.name);
        };
        proxy.process().signal("TERM");
        proxy.process().wait();
        let output = proxy.output();
        let line = output.lines().find_map(|line| line.split_once("Collected : "));
        let (_, count) = line.unwrap_or_else(|| panic!("no count in {output}"));
        count.trim().parse().expect("a count")
    }

    /// The metrics of a proxy.
    pub async fn metrics(&self) -> String {
        match &self.held {
            Held::Proxy(proxy, _) => proxy.metrics().await,
            Held::Nothing | Held::GrpcProxy(..) => panic!("{} is no proxy", self.name),
        }
    }

    fn direct(etcd: &Etcd, transport: Transport) -> Self {
        let dial = match transport {
            Transport::Tcp => Dial::Tcp(etcd.endpoint()),
            Transport::Tls => Dial::Tls(etcd.endpoint(), etcd.pki().client_tls()),
            Transport::Unix => Dial::Unix(etcd.folder().join(crate::scene::SOCKET)),
        };
        Self {
            name: DIRECT,
            pid: None,
            dial,
            held: Held::Nothing,
        }
    }

    /// With TLS on both sides where etcd has it. It listens on no unix socket.
    async fn grpc_proxy(etcd: &Etcd, version: Version) -> Self {
        let folder = TempDir::with_prefix("grpc-proxy-").expect("a temporary folder");
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(version.etcd());
        command
            .args(["grpc-proxy", "start"])
            .arg(format!("--endpoints={}", etcd.endpoint()));
        command
            .arg(format!("--listen-addr={address}"))
            .arg(format!("--advertise-client-url={address}"));
        command.arg("--max-send-bytes=2147483647").current_dir(folder.path());
        let dial = if etcd.endpoint().starts_with("https") {
            let pki = etcd.pki();
            let shown = pki.sign_nameless("grpc-proxy", &["grpc-proxy.test"]);
            command
                .arg(format!("--cacert={}", pki.ca.display()))
                .arg(format!("--cert={}", shown.cert.display()))
                .arg(format!("--key={}", shown.key.display()))
                .arg(format!("--cert-file={}", pki.server_cert.display()))
                .arg(format!("--key-file={}", pki.server_key.display()))
                .arg(format!("--trusted-ca-file={}", pki.ca.display()));
            Dial::Tls(format!("https://{address}"), pki.client_tls())
        } else {
            Dial::Tcp(format!("http://{address}"))
        };
        let process = Process::spawn("grpc-proxy", command, &folder.path().join("log"));
        let begun = Instant::now();
        while dial.try_connect().await.is_none() {
            assert!(
                begun.elapsed() < PATIENCE,
                "grpc-proxy does not answer:\n{}",
                process.output()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            name: GRPC_PROXY,
            pid: Some(process.id()),
            dial,
            held: Held::GrpcProxy(process, folder),
        }
    }

    fn proxy(name: &'static str, etcd: &Etcd, settings: &Settings, transport: Transport) -> Self {
        let plugin = (name == KMS_V2).then(Plugin::start);
        let document = match (name, &plugin) {
            (_, Some(plugin)) => plugin.document("secrets", "v2"),
            (IDENTITY, _) => IDENTITY_ALONE.to_owned(),
            (AESGCM, _) => config::document("secrets", "aesgcm"),
            (SECRETBOX, _) => config::document("secrets", "secretbox"),
            _ => config::document("secrets", "aescbc"),
        };
        let upstream = match transport {
            Transport::Unix => format!("unix://{}", etcd.folder().join(crate::scene::SOCKET).display()),
            Transport::Tcp | Transport::Tls => etcd.endpoint(),
        };
        let other = run_by(settings, name, "");
        let other: Vec<_> = other.iter().map(String::as_str).collect();
        let setup = Setup::new(upstream, document).under(&other);
        let socket = setup.folder().join("proxy.sock");
        let setup = match transport {
            Transport::Tcp => setup,
            Transport::Unix => setup.listen(&[&format!("unix://{}", socket.display())]),
            Transport::Tls => {
                let pki = etcd.pki();
                setup
                    .listen(&["https://127.0.0.1:0"])
                    .flag(format!("--cert-file={}", pki.server_cert.display()))
                    .flag(format!("--key-file={}", pki.server_key.display()))
                    .flag(format!("--trusted-ca-file={}", pki.ca.display()))
                    .flag("--client-cert-auth")
                    .flag(format!("--etcd-cafile={}", pki.ca.display()))
                    .flag(format!("--etcd-certfile={}", pki.client_cert.display()))
                    .flag(format!("--etcd-keyfile={}", pki.client_key.display()))
            }
        };
        let mut proxy = setup.start();
        let dial = match transport {
            Transport::Tcp => Dial::Tcp(proxy.url().to_owned()),
            Transport::Tls => Dial::Tls(proxy.url().to_owned(), etcd.pki().client_tls()),
            Transport::Unix => Dial::Unix(socket),
        };
        Self {
            name,
            pid: Some(proxy.process().id()),
            dial,
            held: Held::Proxy(proxy, plugin),
        }
    }

    /// Where its keys lie: each target has its own, for what one has sealed another cannot open.
    pub fn prefix(&self) -> String {
        let resource = if self.name == NO_RULE { "pods" } else { "secrets" };
        format!("/registry/{resource}/{}/", self.name.replace([' ', ','], ""))
    }

    pub async fn connect(&self) -> Channel {
        let connected = self.dial.try_connect().await;
        connected.unwrap_or_else(|| panic!("no connection to {}", self.name))
    }
}

impl Dial {
    async fn try_connect(&self) -> Option<Channel> {
        match self {
            Self::Tcp(url) => endpoint(url).connect().await.ok(),
            Self::Tls(url, tls) => endpoint(url).tls_config(tls.clone()).ok()?.connect().await.ok(),
            Self::Unix(path) => {
                let path = path.clone();
                let connector = tower::service_fn(move |_: Uri| {
                    let dial = UnixStream::connect(path.clone());
                    async { dial.await.map(TokioIo::new) }
                });
                endpoint("http://localhost")
                    .connect_with_connector(connector)
                    .await
                    .ok()
            }
        }
    }
}

/// What runs the proxy: `by`, and another build of it where `name` is that.
pub fn run_by(settings: &Settings, name: &str, by: &str) -> Vec<String> {
    let Some(other) = settings.other.as_ref().filter(|_| name == OTHER) else {
        return by.split_whitespace().map(str::to_owned).collect();
    };
    // Behind it stand the binary of this build, which is left out, and its arguments.
    let script = format!(r#"shift; exec {by} "$0" "$@""#);
    vec!["sh".to_owned(), "-c".to_owned(), script, other.clone()]
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::from_shared(url.to_owned())
        .expect("a valid endpoint")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true)
        // A client that asks faster than its connection takes must not be slowed down by its own queue.
        .buffer_size(4096)
}

const IDENTITY_ALONE: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - identity: {}
";
