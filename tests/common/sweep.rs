//! `sweep`, run as an operator would, and what is needed to look at a store before and after it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use etcd_encryption_proxy::types::{KeyName, SecretBytes, StorageKey};
use etcd_encryption_proxy::value::{Chain, Deks, Provider};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::config::{KEY, KEY_2};
use super::etcd::Etcd;
use super::pb::etcdserverpb::request_op::Request as Op;
use super::pb::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use super::pb::mvccpb::KeyValue;
use super::process::Process;
use super::proxy::BINARY;

/// Providers for the rule for secrets.
pub const K1: &str = "{aescbc: {keys: [{name: k1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}";
pub const K2: &str = "{aescbc: {keys: [{name: k2, secret: emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=}]}}";
pub const GCM: &str = "{aesgcm: {keys: [{name: g1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}";
pub const IDENTITY: &str = "{identity: {}}";

/// The EncryptionConfiguration with one rule, for secrets.
pub fn document(providers: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{}]\n",
        providers.join(", ")
    )
}

/// A sweep to be run.
#[derive(Debug)]
pub struct Sweep {
    command: Command,
    folder: TempDir,
}

/// What one came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    /// Null where there is none.
    pub report: Value,
    pub stderr: String,
}

impl Sweep {
    /// Of `etcd`, with a rule for secrets.
    pub fn of(etcd: &Etcd, providers: &[&str]) -> Self {
        Self::on(&etcd.endpoint(), providers)
    }

    /// Of whatever is at `endpoints`, with a rule for secrets.
    pub fn on(endpoints: &str, providers: &[&str]) -> Self {
        let folder = TempDir::with_prefix("sweep-").expect("a temporary folder");
        let config = folder.path().join("encryption.yaml");
        fs::write(&config, document(providers)).expect("the configuration file");
        let mut command = Command::new(BINARY);
        command
            .arg("sweep")
            .arg("-ojson")
            .arg(format!("--etcd-servers={endpoints}"))
            .arg(format!("--encryption-provider-config={}", config.display()));
        Self { command, folder }
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: &str) -> Self {
        self.command.arg(flag);
        self
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Outcome {
        let task = tokio::task::spawn_blocking(move || {
            let output = self.command.output().expect("the sweep starts");
            // Its configuration is needed until here.
            drop(self.folder);
            Outcome::of(&output)
        });
        task.await.expect("the sweep's thread")
    }

    /// The command, for who runs it in a way of their own. The folder has to be kept for as long as it runs.
    pub fn into_parts(self) -> (Command, TempDir) {
        (self.command, self.folder)
    }

    /// Starts it, to be killed perhaps. The folder has to be kept for as long as it runs.
    pub fn start(self) -> (Process, TempDir) {
        let log: PathBuf = self.folder.path().join("log");
        (Process::spawn("the sweep", self.command, &log), self.folder)
    }
}

impl Outcome {
    /// What a sweep that has ended left behind.
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The number at `path` in the report.
    pub fn number(&self, path: &str) -> u64 {
        let found = self.report.pointer(path).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no number at {path}: {self:#?}"))
    }

    /// How many values are at the end in `state` under `provider` and `key`.
    pub fn objects(&self, state: &str, provider: &str, key: &str) -> u64 {
        let lines = self.report["inventory"].as_array().expect("an inventory");
        let wanted = lines
            .iter()
            .filter(|line| line["state"] == state && line["provider"] == provider && line["key"] == key);
        wanted.map(|line| line["objects"].as_u64().expect("a count")).sum()
    }

    /// Fails the test unless everything is as its rule writes it.
    pub fn expect_clean(&self) {
        assert_eq!(
            (self.code, &self.report["finding"]),
            (Some(0), &Value::from("clean")),
            "{self:#?}"
        );
    }
}

/// The plaintext of a stored value, whichever of this file's keys it is under.
pub fn opened(kv: &KeyValue) -> Vec<u8> {
    let mut plaintext = Vec::new();
    readers()
        .from_storage(StorageKey(&kv.key), &kv.value, &Deks::default(), &mut plaintext)
        .unwrap_or_else(|error| panic!("{}: {error}", kv.key.escape_ascii()));
    plaintext
}

/// What etcd holds for `plaintext` that was written under [`K1`].
pub fn sealed_with_k1(key: &str, plaintext: &[u8]) -> Vec<u8> {
    sealed(&readers(), key.as_bytes(), plaintext)
}

/// What etcd holds for `plaintext` that was written under [`K2`].
pub fn sealed_with_k2(key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let writer = Chain::new(vec![aescbc("k2", KEY_2)]).expect("a provider");
    sealed(&writer, key, plaintext)
}

fn sealed(writer: &Chain, key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    writer
        .to_storage(StorageKey(key), plaintext, &Deks::default(), &mut stored)
        .expect("it can be sealed");
    stored
}

fn readers() -> Chain {
    let g1 = (KeyName::new("g1"), secret(KEY));
    Chain::new(vec![
        aescbc("k1", KEY),
        aescbc("k2", KEY_2),
        Provider::aesgcm([(&g1.0, &g1.1)]).expect("a valid key"),
        Provider::identity(),
    ])
    .expect("providers")
}

fn aescbc(name: &str, key: &str) -> Provider {
    Provider::aescbc([(&KeyName::new(name), &secret(key))]).expect("a valid key")
}

fn secret(base64: &str) -> SecretBytes {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
    SecretBytes::new(bytes.expect("base64"))
}

/// Where the secret `index` lies.
pub fn key(index: usize) -> String {
    format!("/registry/secrets/default/s-{index:06}")
}

/// Stores `count` secrets under [`K1`], each `size` bytes and telling its index.
pub async fn fill(client: &Client, count: usize, size: usize) {
    fill_leased(client, count, size, |_| 0).await;
}

/// The same, each with a lease.
pub async fn fill_leased(client: &Client, count: usize, size: usize, lease: impl Fn(usize) -> i64) {
    const TOGETHER: usize = 100;
    for first in (0..count).step_by(TOGETHER) {
        let put = |index: usize| RequestOp {
            request: Some(Op::RequestPut(PutRequest {
                value: sealed_with_k1(&key(index), &plaintext(index, size)),
                key: key(index).into_bytes(),
                lease: lease(index),
                ..PutRequest::default()
            })),
        };
        let request = TxnRequest {
            success: (first..count.min(first + TOGETHER)).map(put).collect(),
            ..TxnRequest::default()
        };
        client.txn(request).await;
    }
}

/// What [`fill`] stores.
pub fn plaintext(index: usize, size: usize) -> Vec<u8> {
    let mut plaintext = format!("secret {index} ").into_bytes();
    plaintext.resize(size.max(plaintext.len()), b'.');
    plaintext
}

/// Fails the test unless the `count` secrets of [`fill`] are there, and each begins with `prefix`.
pub async fn expect_filled(client: &Client, count: usize, size: usize, prefix: &str) {
    let kvs = client.everything().await;
    let secrets: Vec<_> = kvs
        .iter()
        .filter(|kv| kv.key.starts_with(b"/registry/secrets/"))
        .collect();
    assert_eq!(secrets.len(), count);
    for (index, kv) in secrets.iter().enumerate() {
        assert_eq!(kv.key, key(index).as_bytes());
        assert!(kv.value.starts_with(prefix.as_bytes()), "{}", kv.value.escape_ascii());
        assert_eq!(opened(kv), plaintext(index, size));
    }
}
