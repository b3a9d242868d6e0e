//! `secrets-encrypt`, run as an operator would, over a configuration that several proxies share: a file, or the keyring in
//! etcd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcd_encryption_proxy::etcd;
use etcd_encryption_proxy::managed::Strongbox;
use serde_json::Value;
use tempfile::TempDir;

use super::etcd::Etcd;
use super::managed;
use super::process::Process;
use super::proxy::{BINARY, Proxy, Setup};

/// An EncryptionConfiguration that lies in a file, or in etcd, and the etcd that it is for.
#[derive(Debug)]
pub struct Shared {
    folder: TempDir,
    etcd: String,
    home: Home,
}

/// Where a configuration lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    File,
    Etcd,
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Shared {
    /// A file that holds `document`.
    pub fn new(etcd: &Etcd, document: &str) -> Self {
        Self::on(&etcd.endpoint(), document)
    }

    /// The same for whatever is at `endpoints`.
    pub fn on(endpoints: &str, document: &str) -> Self {
        Self::at(Home::File, endpoints, document)
    }

    /// The keyring in the etcd at `endpoints`, which nobody has made yet.
    pub fn managed(endpoints: &str) -> Self {
        let shared = Self::unwritten(Home::Etcd, endpoints);
        write_private(&shared.path(), ROOT);
        shared
    }

    /// A configuration that holds `document`.
    pub fn at(home: Home, endpoints: &str, document: &str) -> Self {
        match home {
            Home::File => {
                let shared = Self::unwritten(home, endpoints);
                write_private(&shared.path(), document);
                shared
            }
            Home::Etcd => {
                let (shared, document) = (Self::managed(endpoints), document.to_owned());
                shared.in_strongbox(async move |strongbox| {
                    strongbox.create(document.as_bytes()).await.expect("a keyring");
                });
                shared
            }
        }
    }

    fn unwritten(home: Home, endpoints: &str) -> Self {
        Self {
            folder: TempDir::with_prefix("rotation-").expect("a temporary folder"),
            etcd: endpoints.to_owned(),
            home,
        }
    }

    /// Where the file is: with the configuration, or with the root.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("shared.yaml")
    }

    /// What the configuration is.
    pub fn text(&self) -> String {
        if self.home == Home::File {
            return fs::read_to_string(self.path()).expect("the file");
        }
        self.in_strongbox(async |strongbox| {
            let current = strongbox.read().await.expect("it opens").expect("it is there");
            String::from_utf8(current.document.expose().to_vec()).expect("text")
        })
    }

    /// Does `work` with the keyring in etcd.
    pub fn in_strongbox<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Strongbox<etcd::Client>) -> T + Send + 'static,
    ) -> T {
        let (endpoints, root) = (self.etcd.clone(), self.path());
        let thread = std::thread::spawn(move || {
            managed::run(async || work(managed::strongbox(&endpoints, Some(root), None)).await)
        });
        thread.join().expect("it ends well")
    }

    /// The names of the keys in it, in order.
    pub fn keys(&self) -> Vec<String> {
        let text = self.text();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
        names.map(|name| name.trim_matches('"').to_owned()).collect()
    }

    /// The providers in it, in order, as the commands write them.
    pub fn providers(&self) -> Vec<String> {
        let text = self.text();
        let names = text.lines().filter_map(|line| line.strip_prefix("  - "));
        let names = names.filter_map(|name| name.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// A proxy that uses it, called `name`.
    pub fn member(&self, name: &str) -> Proxy {
        self.setup(name).start()
    }

    /// The same, to be changed.
    pub fn setup(&self, name: &str) -> Setup {
        self.setup_by_way_of(&self.etcd, name)
    }

    /// A proxy called `name` that reaches etcd by way of `endpoint`.
    pub fn setup_by_way_of(&self, endpoint: &str, name: &str) -> Setup {
        let setup = match self.home {
            Home::File => Setup::sharing(endpoint, &self.path()),
            Home::Etcd => Setup::managed(endpoint, &self.path()),
        };
        setup.member(name)
    }

    /// `secrets-encrypt` with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let flag = match self.home {
            Home::File => "--encryption-provider-config",
            Home::Etcd => "--keyring-root-file",
        };
        let mut command = Command::new(BINARY);
        command
            .arg("secrets-encrypt")
            .args(words)
            .arg(format!("--etcd-servers={}", self.etcd))
            .arg(format!("{flag}={}", self.path().display()));
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, words: &[&str]) -> Outcome {
        let mut command = self.command(words);
        let task = tokio::task::spawn_blocking(move || {
            let output = command.output().expect("it starts");
            Outcome {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        });
        task.await.expect("its thread")
    }

    /// Runs it, and fails the test unless it succeeds and its first line is `line`.
    pub async fn succeed(&self, words: &[&str], line: &str) -> Outcome {
        let outcome = self.run(words).await;
        assert_eq!(
            (outcome.code, outcome.stdout.lines().next()),
            (Some(0), Some(line)),
            "{words:?}: {outcome:#?}"
        );
        outcome
    }

    /// Starts it, to be killed perhaps.
    pub fn start(&self, words: &[&str]) -> Process {
        let log = self.folder.path().join("log");
        Process::spawn("secrets-encrypt", self.command(words), &log)
    }

    /// `status` as JSON.
    pub async fn status(&self) -> Value {
        let outcome = self.run(&["status", "-ojson"]).await;
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
    }

    /// The stage.
    pub async fn stage(&self) -> String {
        self.status().await["stage"].as_str().expect("a stage").to_owned()
    }
}

/// A root of 32 bytes.
pub const ROOT: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\n";

/// A file that its owner alone can read.
pub fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("the file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its permissions");
}
