//! `secrets-encrypt`, run as an operator would, over a file that several proxies share.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::etcd::Etcd;
use super::process::Process;
use super::proxy::{BINARY, Proxy, Setup};

/// A file with an EncryptionConfiguration, and the etcd that it is for.
#[derive(Debug)]
pub struct Shared {
    folder: TempDir,
    etcd: String,
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
        let shared = Self {
            folder: TempDir::with_prefix("rotation-").expect("a temporary folder"),
            etcd: endpoints.to_owned(),
        };
        fs::write(shared.path(), document).expect("the file");
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o600)).expect("its permissions");
        shared
    }

    /// Where the file is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("shared.yaml")
    }

    /// What it holds.
    pub fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the file")
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
        Setup::sharing(self.etcd.clone(), &self.path()).member(name)
    }

    /// `secrets-encrypt` with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        command(&self.etcd, &self.path(), words)
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

fn command(etcd: &str, file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg("secrets-encrypt")
        .args(words)
        .arg(format!("--etcd-servers={etcd}"))
        .arg(format!("--encryption-provider-config={}", file.display()));
    command
}
