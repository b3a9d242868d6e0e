//! The proxy under test: the built binary, started as an operator would start it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::client::Client;
use super::etcd::Etcd;
use super::http;
use super::process::Process;

/// The binary that cargo built for this test run.
pub const BINARY: &str = env!("CARGO_BIN_EXE_etcd-encryption-proxy");

/// How a proxy is to be started.
#[derive(Debug)]
pub struct Setup {
    upstream: String,
    config: String,
    listen: Vec<String>,
    flags: Vec<String>,
    under: Vec<String>,
    program: PathBuf,
    name: Option<String>,
    /// The configuration's file, if it is not this proxy's own.
    shared: Option<PathBuf>,
    /// The root file, if the configuration lives in etcd.
    root: Option<PathBuf>,
    folder: TempDir,
}

impl Setup {
    /// A proxy before `upstream` (URLs separated by commas) with the given EncryptionConfiguration, on a free port. It writes
    /// nothing of its own to etcd, so that revisions are what the test makes them.
    pub fn new(upstream: impl Into<String>, config: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            config: config.into(),
            listen: vec!["http://127.0.0.1:0".to_owned()],
            flags: Vec::new(),
            under: Vec::new(),
            program: BINARY.into(),
            name: None,
            shared: None,
            root: None,
            folder: TempDir::with_prefix("proxy-").expect("a temporary folder"),
        }
    }

    /// A proxy before `upstream` whose configuration is the file at `path`, as it is.
    pub fn sharing(upstream: impl Into<String>, path: &Path) -> Self {
        Self {
            shared: Some(path.to_owned()),
            ..Self::new(upstream, "")
        }
    }

    /// A proxy before `upstream` whose configuration lies there, under the root in the file at `path`.
    pub fn managed(upstream: impl Into<String>, path: &Path) -> Self {
        Self {
            root: Some(path.to_owned()),
            ..Self::new(upstream, "")
        }
    }

    /// Listens on these URLs instead.
    pub fn listen(mut self, urls: &[&str]) -> Self {
        self.listen = urls.iter().map(|&url| url.to_owned()).collect();
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// It is a member, called `name`, and sweeps when that is its turn.
    pub fn member(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Starts it by way of a program that becomes it, such as `prlimit`, with that program's arguments.
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under.extend(program.iter().map(|&word| word.to_owned()));
        self
    }

    /// Another build of the proxy.
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// A folder that lives as long as the proxy, for sockets and certificates.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits until it says that it serves.
    pub fn start(self) -> Proxy {
        self.spawn().ready()
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(self) -> Starting {
        Starting {
            process: Process::spawn("the proxy", self.command(), &self.log()),
            listeners: self.listen.len(),
            folder: self.folder,
        }
    }

    /// Starts it and waits until it ends: a setup that it must refuse. Gives how it ended and what it said.
    pub fn refused(self) -> (ExitStatus, String) {
        let mut process = Process::spawn("the proxy", self.command(), &self.log());
        let status = process.wait();
        (status, process.output())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self) -> Command {
        let own = || {
            let config = self.folder.path().join("encryption.yaml");
            fs::write(&config, &self.config).expect("the configuration file");
            // Others than its owner have no business with keys, and the proxy would say so.
            fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("its permissions");
            config
        };
        let config = match (&self.root, &self.shared) {
            (Some(root), _) => format!("--keyring-root-file={}", root.display()),
            (None, Some(shared)) => format!("--encryption-provider-config={}", shared.display()),
            (None, None) => format!("--encryption-provider-config={}", own().display()),
        };
        let program = self.program.as_os_str();
        let mut words = self.under.iter().map(OsStr::new).chain([program, OsStr::new("serve")]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command
            .args(words)
            .arg(format!("--etcd-servers={}", self.upstream))
            .arg(format!("--listen-client-urls={}", self.listen.join(",")))
            .arg(config)
            .arg("--listen-metrics-urls=http://127.0.0.1:0")
            .args(match &self.name {
                Some(name) => vec![format!("--name={name}")],
                None => ["--member-record=false", "--sweep=off"].map(str::to_owned).to_vec(),
            })
            .args(&self.flags);
        command
    }
}

/// A proxy that may not serve yet. Stopped when dropped.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    listeners: usize,
    folder: TempDir,
}

impl Starting {
    /// Waits until it says that it serves.
    pub fn ready(mut self) -> Proxy {
        let urls = self.process.wait_for("serving client traffic", |output| {
            let urls = serving(output);
            (urls.len() >= self.listeners).then_some(urls)
        });
        Proxy {
            process: self.process,
            urls,
            folder: self.folder,
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A running proxy. Stopped when dropped.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    urls: Vec<String>,
    folder: TempDir,
}

impl Proxy {
    /// Starts one before `etcd` on a free port.
    pub fn before(etcd: &Etcd, config: impl Into<String>) -> Self {
        Setup::new(etcd.endpoint(), config).start()
    }

    /// Its (first) URL for clients.
    pub fn url(&self) -> &str {
        self.urls.first().expect("at least one listener")
    }

    /// All its URLs for clients, in the order of its log.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The folder with its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("encryption.yaml")
    }

    /// Puts `text` in place of its configuration, as careful people do: a new file, renamed over the old one.
    pub fn replace_config(&self, text: &str) {
        replace(&self.config(), text);
    }

    /// Where it serves metrics and health.
    pub fn metrics_url(&self) -> String {
        let output = self.output();
        let line = output.lines().find(|line| line.contains("serving metrics and health"));
        url_of(line.expect("a listener for metrics")).expect("its URL")
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> String {
        http::get(&self.metrics_url(), "/metrics").await.expect("metrics").body
    }

    /// A client of its first listener.
    pub async fn client(&self) -> Client {
        Client::connect(self.url()).await
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it said so far. Its lines are queued: waits until no more come, or for a second.
    pub fn output(&self) -> String {
        let mut before = self.process.output();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(50));
            let now = self.process.output();
            if now == before {
                break;
            }
            before = now;
        }
        before
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that its resident memory has been, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("a running process");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("a line of this name");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("a number");
        kib * 1024
    }
}

/// The URLs that the log says are served.
fn serving(output: &str) -> Vec<String> {
    output
        .lines()
        .filter(|line| line.contains("serving client traffic"))
        .filter_map(url_of)
        .collect()
}

fn url_of(line: &str) -> Option<String> {
    let url = line.split("url=").nth(1)?.split_whitespace().next()?;
    Some(url.trim_matches('"').to_owned())
}

/// Renames a new file with `text`, for its owner alone, over the one at `path`.
pub fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a new file");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its permissions");
    fs::rename(&new, path).expect("a file renamed");
}
