//! gRPC's C core, as Python has it, and gRPC's own implementation for Node: the usual calls, odd but legal headers, compression
//! named and used. The scripts check what they get.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::common::etcd::Etcd;
use crate::common::pb::DESCRIPTOR;
use crate::common::proxy::Proxy;
use crate::common::tools::{Version, cache};
use crate::common::{config, pb::etcdserverpb::RangeRequest};

/// For one script: some forty calls.
const PATIENCE: Duration = Duration::from_secs(120);

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Where tests/clients/install.sh put it.
fn installed(name: &str) -> PathBuf {
    let path = cache().join(name);
    assert!(path.is_dir(), "nothing at {}: run `make clients`", path.display());
    path
}

async fn succeeds(mut command: Command, what: &str) {
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.expect("it ends").expect("it starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && stdout.ends_with("all calls are right\n"),
        "{what}: {stdout}{stderr}"
    );
}

async fn on_each_etcd(command: impl Fn(&Proxy) -> Command, secret: &str) {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let address = proxy.url().to_owned();
        succeeds(command(&proxy), &format!("{version:?} by way of {address}")).await;
        // Of what the script deleted, history still holds what lay in etcd.
        assert_was_sealed(&etcd, secret).await;
    }
}

/// The first value of `key` was sealed.
async fn assert_was_sealed(etcd: &Etcd, key: &str) {
    let client = etcd.client().await;
    let revision = 2;
    let range = RangeRequest {
        key: key.into(),
        revision,
        ..RangeRequest::default()
    };
    let answer = client.kv().range(range).await.expect("history").into_inner();
    assert!(config::is_sealed(&answer.kvs[0].value), "{key} at revision {revision}");
}

fn address(proxy: &Proxy) -> &str {
    proxy.url().trim_start_matches("http://")
}

#[tokio::test]
#[ignore = "needs gRPC for Python: make clients"]
async fn python_makes_the_usual_calls() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let descriptors = folder.path().join("etcd.binpb");
    std::fs::write(&descriptors, DESCRIPTOR).expect("a file");
    let command = |proxy: &Proxy| {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", installed("grpc-python"));
        command.arg(beside("calls.py")).arg(address(proxy)).arg(&descriptors);
        command
    };
    on_each_etcd(command, "/registry/secrets/python/a").await;
}

#[tokio::test]
#[ignore = "needs gRPC for Node: make clients"]
async fn node_makes_the_usual_calls() {
    let command = |proxy: &Proxy| {
        let mut command = Command::new("node");
        command.env("NODE_PATH", installed("grpc-node").join("node_modules"));
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        command.arg(beside("calls.js")).arg(address(proxy)).arg(proto);
        command
    };
    on_each_etcd(command, "/registry/secrets/node/a").await;
}
