//! `snapshot inspect`, run as an operator would, and the snapshots that it is run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tokio_stream::StreamExt as _;

use super::client::Client;
use super::pb::etcdserverpb::SnapshotRequest;
use super::proxy::BINARY;
use super::tools::Version;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The report, of a run with `-o json`.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {self:#?}"))
    }
}

/// Inspects `file` with each of `documents`, which are written beside it and called `0.yaml`, `1.yaml` and so on.
pub fn inspect(file: &Path, documents: &[String], flags: &[&str]) -> Outcome {
    let folder = file.parent().expect("a folder");
    let configs: Vec<String> = (0..documents.len()).map(|index| format!("{index}.yaml")).collect();
    for (name, document) in configs.iter().zip(documents) {
        fs::write(folder.join(name), document).expect("a configuration");
    }
    let output: Output = Command::new(BINARY)
        .current_dir(folder)
        .args(["snapshot", "inspect"])
        .arg(file.file_name().expect("a name"))
        .arg(format!("--encryption-provider-config={}", configs.join(",")))
        .args(flags)
        .output()
        .expect("the inspection runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What `etcdctl snapshot save` writes, as file `name` of `folder`.
pub fn save(version: Version, endpoint: &str, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let output = Command::new(version.etcd().with_file_name("etcdctl"))
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoint}"))
        .args(["snapshot", "save"])
        .arg(&path)
        .output()
        .expect("etcdctl runs");
    assert!(output.status.success(), "{output:?}");
    path
}

/// The same by the RPC that is behind it, as other programs write it.
pub async fn stream(client: &Client) -> Vec<u8> {
    let mut answer = client
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await
        .expect("a snapshot")
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = answer.next().await {
        bytes.extend(part.expect("a part of it").blob);
    }
    bytes
}
