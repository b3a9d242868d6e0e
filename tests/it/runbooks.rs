//! docs/runbooks.md, run as it is written: each `sh` block of it, in order, on a cluster of three proxies before a real etcd.
//! What an operator does elsewhere in between (starting a proxy, losing one) is done here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcd_encryption_proxy::types::StatePrefix;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::{CompactionRequest, RangeRequest};
use crate::common::process::Process;
use crate::common::proxy::{BINARY, Proxy, Setup};
use crate::common::snapshot;
use crate::common::tools::Version;

const BOOK: &str = include_str!("../../docs/runbooks.md");

/// Secrets in the cluster.
const SECRETS: u32 = 20;

/// The `sh` blocks of the section called `title`, in order.
fn blocks(title: &str) -> Vec<String> {
    let heading = format!("\n## {title}\n");
    let (_, section) = BOOK
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no section {title:?}"));
    let section = section.split("\n## ").next().expect("a part");
    let mut blocks = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == "```sh" {
            let body = lines.by_ref().take_while(|line| line.trim() != "```");
            let mut block = String::new();
            for line in body {
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
            }
            blocks.push(block);
        }
    }
    assert!(!blocks.is_empty(), "no commands in {title:?}");
    blocks
}

/// A cluster, and an operator's shell.
struct Site {
    folder: TempDir,
    etcd: Etcd,
    client: Client,
    proxies: Vec<Process>,
    plugin: Plugin,
    /// As kube-apiserver does every five minutes.
    compacting: JoinHandle<()>,
}

impl Site {
    async fn new() -> Self {
        let etcd = Etcd::start(Version::V3_5).await;
        let client = etcd.client().await;
        for index in 0..SECRETS {
            client.put(key(index), value(index)).await;
        }
        let (compactor, folder) = (
            etcd.client().await,
            TempDir::with_prefix("runbooks-").expect("a folder"),
        );
        let compacting = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                compact(&compactor).await;
            }
        });
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        std::os::unix::fs::symlink(BINARY, bin.join("etcd-encryption-proxy")).expect("a link");
        Self {
            folder,
            etcd,
            client,
            proxies: Vec::new(),
            plugin: Plugin::start(),
            compacting,
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("ETCD_ENCRYPTION_PROXY_ETCD_SERVERS", self.etcd.endpoint())
            .env("ETCD_ENCRYPTION_PROXY_KEYRING_ROOT_FILE", self.root())
            .env("KMS_SOCKET", self.plugin.endpoint().trim_start_matches("unix://"))
    }

    fn start(&mut self, name: &str) {
        let mut command = Command::new(BINARY);
        self.environment(&mut command).args([
            "serve",
            "--listen-client-urls=http://127.0.0.1:0",
            "--listen-metrics-urls=http://127.0.0.1:0",
            &format!("--name={name}"),
        ]);
        self.proxies.push(Process::spawn(name, command, &self.path(name)));
    }

    /// Where a proxy serves.
    fn url(&mut self, index: usize) -> String {
        self.proxies[index].wait_for("serving client traffic", |output| {
            let line = output.lines().find(|line| line.contains("serving client traffic"))?;
            let (_, url) = line.split_once("url=")?;
            Some(url.trim_matches('"').to_owned())
        })
    }

    /// Runs a block of the book as it stands. What it printed.
    async fn run(&self, block: &str) -> String {
        let mut command = Command::new("bash");
        self.environment(&mut command).args(["-euo", "pipefail", "-c", block]);
        let ran = tokio::task::spawn_blocking(move || command.output().expect("bash"));
        let output = ran.await.expect("its thread");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{block}\n{text}\n{errors}");
        text
    }

    /// Runs all blocks of a section.
    async fn section(&self, title: &str) -> String {
        let mut text = String::new();
        for block in blocks(title) {
            text.push_str(&self.run(&block).await);
        }
        text
    }

    /// Every Secret is stored with this at its beginning, and each proxy reads what it is.
    async fn check(&mut self, beginning: &str) {
        for index in 0..SECRETS {
            let stored = self.client.value(&key(index)).await;
            let shown = String::from_utf8_lossy(&stored);
            assert!(shown.starts_with(beginning), "{shown}");
        }
        for proxy in 0..self.proxies.len() {
            let url = self.url(proxy);
            reads_all(&Client::connect(&url).await).await;
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.compacting.abort();
    }
}

async fn reads_all(client: &Client) {
    for index in 0..SECRETS {
        assert_eq!(client.value(&key(index)).await, value(index).into_bytes());
    }
}

fn key(index: u32) -> String {
    format!("/registry/secrets/default/s{index}")
}

fn value(index: u32) -> String {
    format!("value {index}")
}

/// etcd's history up to now goes, as kube-apiserver has it.
async fn compact(client: &Client) {
    let now = client
        .range(RangeRequest {
            key: b"/".to_vec(),
            ..RangeRequest::default()
        })
        .await;
    let revision = now.header.expect("a header").revision;
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    // Refused where nothing has been written since.
    let _ = client.kv().compact(request).await;
}

/// A proxy with nothing but the file that was exported.
fn with_file(etcd: &Etcd, file: &Path) -> Proxy {
    Setup::sharing(etcd.endpoint(), file).start()
}

#[tokio::test]
async fn the_book_is_run_from_its_first_page_to_its_last() {
    let mut site = Site::new().await;

    let mut enabling = blocks("Enable").into_iter();
    site.run(&enabling.next().expect("the root")).await;
    for name in ["a", "b", "c"] {
        site.start(name);
    }
    for index in 0..3 {
        site.url(index);
    }
    for block in enabling {
        site.run(&block).await;
    }
    site.check("k8s:enc:aescbc:v1:aescbckey:").await;

    let text = site.section("Rotate").await;
    assert!(text.contains("Current Rotation Stage: reencrypt_finished"), "{text}");
    site.check("k8s:enc:aescbc:v1:aescbckey-2").await;

    site.section("Change the algorithm").await;
    site.check("k8s:enc:secretbox:v1:secretboxkey-2").await;

    let mut with_kms = blocks("Encrypt values with a KMS, or no longer").into_iter();
    site.run(&with_kms.next().expect("to the plugin")).await;
    site.check("k8s:enc:kms:v2:vault:").await;
    site.run(&with_kms.next().expect("and back")).await;
    site.plugin.stop();
    site.check("k8s:enc:secretbox:v1:secretboxkey-2").await;

    site.section("Move the root: another file, or to and from a KMS").await;
    site.section("A member is lost").await;

    // The keyring is removed by somebody who can write to etcd.
    let keyring = format!("{}keyring", StatePrefix::DEFAULT);
    assert_eq!(site.client.delete(keyring.clone()).await.deleted, 1);
    site.section("The keyring is lost").await;
    assert!(site.client.get(keyring).await.is_some());
    site.check("k8s:enc:secretbox:v1:secretboxkey-2").await;

    snapshot::save(Version::V3_5, &site.etcd.endpoint(), site.folder.path(), "snapshot.db");
    let text = site.section("Restore a snapshot of etcd").await;
    assert!(text.contains("secretbox"), "{text}");

    let mut leaving = blocks("Disable, and remove the proxy").into_iter();
    site.run(&leaving.next().expect("in the clear")).await;
    site.check("value ").await;
    site.run("etcd-encryption-proxy secrets-encrypt enable; etcd-encryption-proxy secrets-encrypt reencrypt -f --skip")
        .await;
    site.check("k8s:enc:secretbox:").await;
    site.run(&leaving.next().expect("the export")).await;
    let proxy = with_file(&site.etcd, &site.path("encryption.yaml"));
    reads_all(&proxy.client().await).await;
}
