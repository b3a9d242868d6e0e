//! One real etcd member on ports of its own, with its data in a folder that goes away with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use super::client::Client;
use super::http;
use super::pki::Pki;
use super::process::{PATIENCE, Process};
use super::tools::Version;

/// How a member is to be started.
#[derive(Debug)]
pub struct Setup {
    /// Which etcd.
    pub version: Version,
    /// With TLS and client certificates required.
    pub tls: bool,
    /// With a fsync before a write is answered, as an operator's etcd has it.
    pub fsync: bool,
    /// More of etcd's flags.
    pub flags: Vec<String>,
}

impl Setup {
    /// A plain member.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            tls: false,
            fsync: false,
            flags: Vec::new(),
        }
    }

    /// Serves its clients over TLS and asks them for a certificate.
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Has each write on the disk before it is answered.
    pub fn with_fsync(mut self) -> Self {
        self.fsync = true;
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Etcd {
        let mut etcd = Etcd::prepare(self);
        etcd.spawn();
        etcd.ready().await;
        etcd
    }
}

/// A member of etcd. Stopped when dropped.
#[derive(Debug)]
pub struct Etcd {
    // Dropped before the folder with its log.
    process: Option<Process>,
    setup: Setup,
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    pki: Option<Pki>,
}

impl Etcd {
    /// Starts a plain member and waits until it answers.
    pub async fn start(version: Version) -> Self {
        Setup::new(version).start().await
    }

    /// Chooses ports and a folder, and starts nothing.
    pub fn prepare(setup: Setup) -> Self {
        let folder = TempDir::with_prefix("etcd-").expect("a temporary folder");
        let pki = setup
            .tls
            .then(|| Pki::generate(folder.path(), &["127.0.0.1", "localhost"]));
        let [client_port, peer_port] = free_ports();
        Self {
            process: None,
            setup,
            folder,
            client_port,
            peer_port,
            pki,
        }
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    /// The URL for clients that reach it at another address, where it was told to listen there.
    pub fn endpoint_at(&self, address: Ipv4Addr) -> String {
        self.endpoint().replace("127.0.0.1", &address.to_string())
    }

    /// The process's number, for looking at it under `/proc`. It must run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("etcd runs").id()
    }

    /// Where its data, log and sockets lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL for other members.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// The certificates that it serves with and asks for, where it was set up with TLS.
    pub fn pki(&self) -> &Pki {
        self.pki.as_ref().expect("an etcd with TLS")
    }

    /// A client that talks to it directly.
    pub async fn client(&self) -> Client {
        match &self.pki {
            Some(pki) => Client::connect_tls(&self.endpoint(), pki.client_tls()).await,
            None => Client::connect(&self.endpoint()).await,
        }
    }

    /// Starts the process, on the same ports and data as before.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "etcd runs already");
        let log = self.folder.path().join("log");
        self.process = Some(Process::spawn("etcd", self.command(), &log));
    }

    /// Waits until it says that it is healthy (it has a leader then).
    pub async fn ready(&mut self) {
        let start = Instant::now();
        loop {
            let process = self.process.as_mut().expect("etcd was started");
            assert!(process.is_running(), "etcd ended:\n{}", process.output());
            if self.answers().await {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "etcd does not become healthy");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it as a crash would; the data stay.
    pub fn kill(&mut self) {
        self.process.take().expect("etcd runs").kill();
    }

    /// Ends it in good order; the data stay.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("etcd runs");
        process.signal("TERM");
        process.wait();
    }

    /// Ends it as abruptly as it can bear; the data stay.
    ///
    /// A single member of etcd 3.5.0 to 3.5.4 tells clients of writes before they are in its log, so that a crash loses
    /// acknowledged ones (mended in 3.5.5 and 3.4.21). Those are stopped in good order.
    pub fn kill_or_stop(&mut self) {
        if self.setup.version.survives_a_kill() {
            self.kill();
        } else {
            self.stop();
        }
    }

    /// Keeps a copy of its data. It must not run.
    pub fn back_up(&self) {
        self.copy("data", "backup");
    }

    /// Puts its data back to what they were then. It must not run.
    pub fn restore(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("its data");
        self.copy("backup", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        assert!(self.process.is_none(), "etcd runs");
        let path = |name: &str| self.folder.path().join(name);
        let status = Command::new("cp").arg("-a").arg(path(from)).arg(path(to)).status();
        assert!(status.expect("cp runs").success(), "its data cannot be copied");
    }

    /// Freezes or unfreezes the process, as an overloaded machine would.
    pub fn freeze(&self, frozen: bool) {
        self.process
            .as_ref()
            .expect("etcd runs")
            .signal(if frozen { "STOP" } else { "CONT" });
    }

    async fn answers(&self) -> bool {
        if self.pki.is_some() {
            // The plain-text probe cannot ask; a TLS client that gets an answer can.
            return Client::try_connect_tls(&self.endpoint(), self.pki().client_tls())
                .await
                .is_some();
        }
        http::get(&self.endpoint(), "/health")
            .await
            .is_ok_and(|answer| answer.status == 200)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.setup.version.etcd());
        let name = self.name();
        // Where the sockets of relative `unix://` URLs appear.
        command.current_dir(self.folder());
        command
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", self.folder.path().join("data").display()))
            .arg(format!("--listen-client-urls={}", self.endpoint()))
            .arg(format!("--advertise-client-urls={}", self.endpoint()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg("--logger=zap")
            .arg("--log-outputs=stderr");
        if !self.setup.fsync {
            // The tests lose nothing when the machine crashes, and a fsync a write would make them slow.
            command.arg("--unsafe-no-fsync");
        }
        if !self
            .setup
            .flags
            .iter()
            .any(|flag| flag.starts_with("--initial-cluster="))
        {
            command.arg(format!("--initial-cluster={name}={}", self.peer_url()));
        }
        if let Some(pki) = &self.pki {
            command
                .arg(format!("--cert-file={}", pki.server_cert.display()))
                .arg(format!("--key-file={}", pki.server_key.display()))
                .arg(format!("--trusted-ca-file={}", pki.ca.display()))
                .arg("--client-cert-auth");
        }
        command.args(&self.setup.flags);
        command
    }

    /// The member's name, which a cluster's other members must be told.
    pub fn name(&self) -> String {
        format!("m{}", self.peer_port)
    }

    /// More flags for the next start.
    pub fn add_flag(&mut self, flag: String) {
        self.setup.flags.push(flag);
    }
}

/// Where ports are taken from: below those that Linux gives to whoever asks for any, so that no connection of another test gets
/// one between this and the server's start.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Ports that were free a moment ago, all different, and given to nobody else by this process.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: OnceLock<AtomicUsize> = OnceLock::new();
    // Other processes of tests begin elsewhere.
    let next = NEXT.get_or_init(|| AtomicUsize::new(rand::random_range(0..PORTS.len())));
    [(); N].map(|()| {
        let mut tried = PORTS
            .map(|_| PORTS.start + u16::try_from(next.fetch_add(1, Ordering::Relaxed) % PORTS.len()).expect("below"));
        tried
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .expect("a free port")
    })
}
