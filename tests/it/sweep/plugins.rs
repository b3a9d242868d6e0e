//! Sweeps to a KMS and from it, with plugins that go away, change their key, or lie.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::Code;

use super::{CBC_1, expect_end, wait_for};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::{Plugin, Socket};
use crate::common::process::{PATIENCE, Process};
use crate::common::sweep::{IDENTITY, K1, Sweep, expect_filled, fill, key};
use crate::common::tools::Version;

#[tokio::test]
async fn values_go_to_a_kms_follow_its_key_and_come_back() {
    const KEYS: usize = 200;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let plugin = Plugin::start();
    let kms = |version: &str| {
        let endpoint = plugin.endpoint();
        format!("{{kms: {{apiVersion: {version}, name: plugin-{version}, endpoint: '{endpoint}', timeout: 1s}}}}")
    };
    let (v1, v2) = (kms("v1"), kms("v2"));
    let outcome = Sweep::of(&etcd, &[&v2, K1]).run().await;
    outcome.expect_clean();
    assert_eq!(outcome.objects("current", "kms v2", "plugin-v2"), KEYS as u64);
    let again = Sweep::of(&etcd, &[&v2, K1]).run().await;
    again.expect_clean();
    assert_eq!(again.number("/counts/rewritten"), 0);

    // What the old key ID is on is stale now, by the configuration that it is read with as before.
    plugin.behaviour().key = 1;
    let look = Sweep::of(&etcd, &[&v2, K1]).flag("--dry-run").run().await;
    assert_eq!(
        (look.code, look.objects("stale", "kms v2", "plugin-v2")),
        (Some(3), KEYS as u64),
        "{look:#?}"
    );
    let rotated = Sweep::of(&etcd, &[&v2]).run().await;
    rotated.expect_clean();
    assert_eq!(rotated.number("/counts/rewritten"), KEYS as u64);

    let outcome = Sweep::of(&etcd, &[&v1, &v2]).run().await;
    outcome.expect_clean();
    assert_eq!(outcome.objects("current", "kms v1", "plugin-v1"), KEYS as u64);
    Sweep::of(&etcd, &[K1, &v1]).run().await.expect_clean();
    expect_filled(&client, KEYS, 100, CBC_1).await;
}

fn kms(plugin: &Plugin, version: &str) -> String {
    let endpoint = plugin.endpoint();
    format!("{{kms: {{apiVersion: {version}, name: plugin-{version}, endpoint: '{endpoint}', timeout: 1s}}}}")
}

/// Waits until the secret `index` begins so.
async fn wait_until(process: &mut Process, client: &Client, index: usize, prefix: &str) {
    let start = Instant::now();
    while !client.value(&key(index)).await.starts_with(prefix.as_bytes()) {
        assert!(process.is_running(), "{}", process.output());
        assert!(start.elapsed() < PATIENCE, "{}", process.output());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_plugin_that_goes_away_and_comes_back_is_waited_for() {
    const KEYS: usize = 600;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let mut plugin = Plugin::start();
    let v1 = kms(&plugin, "v1");
    // Each value has a key of its own, so there is no end to what the plugin is needed for: to it, and back from it.
    for (providers, prefix) in [
        ([v1.as_str(), K1], "k8s:enc:kms:v1:plugin-v1:"),
        ([K1, v1.as_str()], CBC_1),
    ] {
        let (mut process, _folder) = Sweep::of(&etcd, &providers).flag("--rate=200").start();
        wait_until(&mut process, &client, 50, prefix).await;
        plugin.stop();
        wait_for(&mut process, "reading waits: ");
        plugin.serve(Socket::Grpc);
        wait_for(&mut process, "reading goes on");
        plugin.behaviour().error = Some(Code::Internal);
        plugin.serve(Socket::Grpc);
        sleep(Duration::from_millis(300)).await;
        plugin.behave();
        expect_end(&mut process, 0);
    }
    expect_filled(&client, KEYS, 100, CBC_1).await;
}

#[tokio::test]
async fn a_key_that_changes_between_a_kill_and_the_next_start_leaves_nothing_under_the_old_one() {
    const KEYS: usize = 2_000;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let plugin = Plugin::start();
    let v2 = kms(&plugin, "v2");
    let (mut process, _folder) = Sweep::of(&etcd, &[&v2, K1]).flag("--rate=400").start();
    wait_until(&mut process, &client, KEYS / 2, "k8s:enc:kms:v2:plugin-v2:").await;
    process.kill();
    plugin.behaviour().key = 1;
    // What it did before is stale by now, so it does not go on behind that.
    let outcome = Sweep::of(&etcd, &[&v2, K1]).run().await;
    outcome.expect_clean();
    assert!(outcome.stderr.contains("beginning anew"), "{outcome:#?}");
    assert_eq!(outcome.number("/counts/rewritten"), KEYS as u64);
    Sweep::of(&etcd, &[K1, &v2]).run().await.expect_clean();
    expect_filled(&client, KEYS, 100, CBC_1).await;
}

/// A policy that lets encrypt and not decrypt is enough for that. Whatever was written so could never be read again.
#[tokio::test]
async fn a_plugin_that_cannot_unwrap_what_it_wraps_is_given_nothing() {
    const KEYS: usize = 300;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let plugin = Plugin::start();
    for version in ["v1", "v2"] {
        plugin.behaviour().ciphertext = Some(b"nothing of any use".to_vec());
        let outcome = Sweep::of(&etcd, &[&kms(&plugin, version), K1, IDENTITY])
            .flag("--max-wait=2s")
            .run()
            .await;
        assert_ne!(outcome.code, Some(0), "{outcome:#?}");
        expect_filled(&client, KEYS, 100, CBC_1).await;
    }
}
