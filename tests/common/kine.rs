//! One real kine before an SQLite file of its own, with the flags that it has unless told otherwise.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;
use tokio::time::sleep;

use super::client::Client;
use super::etcd::free_ports;
use super::pb::etcdserverpb::RangeRequest;
use super::process::{PATIENCE, Process};
use super::tools;

/// A kine. Stopped when dropped.
#[derive(Debug)]
pub struct Kine {
    // Dropped before the folder with its log.
    process: Option<Process>,
    program: PathBuf,
    folder: TempDir,
    port: u16,
    /// How long a write waits for SQLite's lock, milliseconds.
    busy_timeout: u32,
}

impl Kine {
    /// Starts one and waits until it answers; `None` where this machine has none, which `tests/install-tools.sh` has said.
    pub async fn start() -> Option<Self> {
        // kine's own.
        Self::start_with(30_000).await
    }

    /// The same with another time that a write waits for SQLite's lock, milliseconds.
    pub async fn start_with(busy_timeout: u32) -> Option<Self> {
        let [port] = free_ports();
        let mut kine = Self {
            process: None,
            program: tools::kine()?,
            folder: TempDir::with_prefix("kine-").expect("a temporary folder"),
            port,
            busy_timeout,
        };
        kine.spawn().await;
        Some(kine)
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client that talks to it directly.
    pub async fn client(&self) -> Client {
        Client::connect(&self.endpoint()).await
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// Keeps its database from being written to for as long as what is returned lives. SQLite's writers lock this byte of that file
    /// (`WAL_WRITE_LOCK` in its file format).
    pub fn lock(&self) -> Process {
        const LOCK: &str = "import fcntl, sys, time\n\
                            file = open(sys.argv[1], 'r+b')\n\
                            fcntl.lockf(file, fcntl.LOCK_EX, 1, 120)\n\
                            print('locked', flush=True)\n\
                            time.sleep(600)\n";
        let mut command = Command::new("python3");
        command.arg("-c").arg(LOCK).arg(self.folder.path().join("state.db-shm"));
        let mut process = Process::spawn("the lock", command, &self.folder.path().join("lock"));
        process.wait_for("locked", |output| output.contains("locked").then_some(()));
        process
    }

    /// Ends it as a crash would; the data stay.
    pub fn kill(&mut self) {
        self.process.take().expect("kine runs").kill();
    }

    /// Starts it, on the same port and data as before.
    pub async fn spawn(&mut self) {
        assert!(self.process.is_none(), "kine runs already");
        let mut command = Command::new(&self.program);
        let database = self.database();
        command
            .current_dir(self.folder.path())
            .arg(format!("--listen-address=127.0.0.1:{}", self.port))
            .arg(format!(
                "--endpoint=sqlite://{}?_journal=WAL&cache=shared&_busy_timeout={}&_txlock=immediate",
                database.display(),
                self.busy_timeout
            ))
            .arg("--metrics-bind-address=0");
        let mut process = Process::spawn("kine", command, &self.folder.path().join("log"));
        let start = Instant::now();
        while !self.answers().await {
            assert!(process.is_running(), "kine ended:\n{}", process.output());
            assert!(
                start.elapsed() < PATIENCE,
                "kine does not answer:\n{}",
                process.output()
            );
            sleep(std::time::Duration::from_millis(20)).await;
        }
        self.process = Some(process);
    }

    async fn answers(&self) -> bool {
        let client = Client::lazy(&self.endpoint());
        let asked = RangeRequest {
            key: b"/registry/health".to_vec(),
            ..RangeRequest::default()
        };
        client.kv().range(asked).await.is_ok()
    }
}
