//! `reencrypt` where a KMS writes: its key is rotated there, and afterwards nothing is under the old one.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::SIZE;
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::kms::Plugin;
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::rotation::Shared;
use crate::common::sweep::{K1, document, fill, key, plaintext};
use crate::common::tools::Version;

const KEYS: usize = 200;

/// Every secret is sealed by the plugin, under `key_id`, which stands in the clear beside it.
async fn expect_all_under(direct: &Client, key_id: &str) {
    let all = direct.everything().await;
    let secrets: Vec<_> = all
        .iter()
        .filter(|kv| kv.key.starts_with(b"/registry/secrets/"))
        .collect();
    assert_eq!(secrets.len(), KEYS);
    for kv in secrets {
        let name = kv.key.escape_ascii();
        assert!(kv.value.starts_with(b"k8s:enc:kms:v2:plugin:"), "{name}");
        let mut windows = kv.value.windows(key_id.len());
        assert!(
            windows.any(|window| window == key_id.as_bytes()),
            "{name} is not under {key_id}"
        );
    }
}

/// What the member says of the key ID that it writes under.
async fn key_id_of(direct: &Client) -> Value {
    let all = direct.everything().await;
    let record = all
        .iter()
        .find(|kv| kv.key.starts_with(b"/etcd-encryption-proxy/members/"));
    let record: Value = serde_json::from_slice(&record.expect("a record").value).expect("JSON");
    record["loaded"]["kms"]["plugin"].clone()
}

/// Waits until the member writes under another one than `old`. Whoever asks for its health has it look at the plugin.
async fn wait_for_another(direct: &Client, proxy: &Proxy, old: &Value) {
    let start = Instant::now();
    while key_id_of(direct).await == *old {
        assert!(start.elapsed() < 2 * PATIENCE, "{}", proxy.output());
        http::get(&proxy.metrics_url(), "/readyz").await.expect("an answer");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn after_the_kms_rotated_its_key_every_value_is_under_the_new_one() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let plugin = Plugin::start();
    let kms = format!(
        "{{kms: {{apiVersion: v2, name: plugin, endpoint: '{}', timeout: 1s}}}}",
        plugin.endpoint()
    );
    let shared = Shared::new(&etcd, &document(&[&kms, K1]));
    let proxy = shared.setup("a").flag("--sweep=off").start();
    let done = shared.succeed(&["reencrypt"], "reencryption started").await;
    let count = format!("{KEYS} values looked at, {KEYS} rewritten by this command");
    assert!(done.stdout.contains(&count), "{done:#?}");
    expect_all_under(&direct, "key-0").await;

    let old = key_id_of(&direct).await;
    plugin.behaviour().key = 1;
    wait_for_another(&direct, &proxy, &old).await;
    let done = shared.succeed(&["reencrypt"], "reencryption started").await;
    assert!(done.stdout.contains(&count), "{done:#?}");
    expect_all_under(&direct, "key-1").await;
    assert_eq!(shared.stage().await, "reencrypt_finished");
    let client = proxy.client().await;
    assert_eq!(client.value(&key(7)).await, plaintext(7, SIZE));

    let refused = shared.run(&["rotate-keys", "--key-type=secretbox"]).await;
    assert_eq!(refused.code, Some(8), "{refused:#?}");
    let what = "to have a secretbox key write in its place";
    assert!(refused.stderr.contains(what), "{refused:#?}");
}

/// KMS v2 with one key ID for ever, and a process that was started again and again: nothing looks stale, and each start has left a
/// seed of its own.
#[tokio::test]
async fn everything_is_written_again_where_nothing_looks_stale() {
    const STARTS: usize = 12;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let plugin = Plugin::start();
    let kms = format!(
        "{{kms: {{apiVersion: v2, name: plugin, endpoint: '{}', timeout: 1s}}}}",
        plugin.endpoint()
    );
    let shared = Shared::new(&etcd, &document(&[&kms]));
    for index in 0..STARTS {
        let proxy = shared.setup("a").flag("--sweep=off").start();
        proxy.client().await.put(key(index), plaintext(index, SIZE)).await;
    }
    let before = direct.everything().await;
    let counted = shared.run(&["status", "--count"]).await;
    assert!(
        counted
            .stdout
            .contains("12 data key seeds of KMS v2 provider \"plugin\"")
            && counted.stdout.contains("reencrypt --all"),
        "{counted:#?}"
    );
    let proxy = shared.setup("a").start();
    let done = shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    assert!(done.stdout.contains("0 rewritten by this command"), "{done:#?}");
    let done = shared.succeed(&["reencrypt", "--all"], "reencryption started").await;
    assert!(done.stdout.contains("12 rewritten by this command"), "{done:#?}");
    let until = before.iter().map(|kv| kv.mod_revision).max().expect("values");
    for kv in direct.everything().await {
        let is_secret = kv.key.starts_with(b"/registry/secrets/");
        assert!(!is_secret || kv.mod_revision > until, "{}", kv.key.escape_ascii());
    }
    let counted = shared.run(&["status", "--count"]).await;
    assert!(!counted.stdout.contains("data key seeds"), "{counted:#?}");
    for index in 0..STARTS {
        assert_eq!(proxy.client().await.value(&key(index)).await, plaintext(index, SIZE));
    }
}

/// Killed, it is gone on with by the members, up to the same revision.
#[tokio::test]
async fn writing_everything_again_survives_the_death_of_its_command() {
    let etcd = Etcd::start(Version::V3_4).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K1]));
    let proxy = shared.member("a");
    let client = proxy.client().await;
    for index in 0..KEYS {
        client.put(key(index), plaintext(index, SIZE)).await;
    }
    let until = etcd_revision(&direct).await;
    let mut command = shared.start(&["reencrypt", "--all", "--rate=100"]);
    let start = Instant::now();
    while rewritten_since(&direct, until).await < 20 {
        assert!(start.elapsed() < PATIENCE, "{}", command.output());
        sleep(Duration::from_millis(20)).await;
    }
    command.kill();
    assert!(rewritten_since(&direct, until).await < KEYS);
    let start = Instant::now();
    while rewritten_since(&direct, until).await < KEYS {
        assert!(start.elapsed() < 2 * PATIENCE, "{}", proxy.output());
        sleep(Duration::from_millis(100)).await;
    }
    shared.succeed(&["reencrypt", "--all"], "reencryption started").await;
    for index in 0..KEYS {
        assert_eq!(client.value(&key(index)).await, plaintext(index, SIZE));
    }
}

async fn etcd_revision(direct: &Client) -> i64 {
    let all = direct.everything().await;
    all.iter().map(|kv| kv.mod_revision).max().expect("values")
}

async fn rewritten_since(direct: &Client, revision: i64) -> usize {
    let all = direct.everything().await;
    let secrets = all.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    secrets.filter(|kv| kv.mod_revision > revision).count()
}

/// The KMS turns its key over beneath a key ID that stays, and forgets the old version: what was written before is written again, and
/// what the proxies write meanwhile and afterwards is under the new version, though none of them is started again.
#[tokio::test]
async fn a_key_that_rotates_under_one_key_id_is_followed_without_a_restart() {
    const VALUES: usize = 30;
    for version in ["v1", "v2"] {
        let etcd = Etcd::start(Version::share()).await;
        let plugin = Plugin::start();
        let one = || Some("projects/p/keys/k".to_owned());
        {
            let mut behaviour = plugin.behaviour();
            (behaviour.status_key_id, behaviour.encrypt_key_id) = (one(), one());
        }
        let kms = format!(
            "{{kms: {{apiVersion: {version}, name: plugin, endpoint: '{}', timeout: 1s}}}}",
            plugin.endpoint()
        );
        let shared = Shared::new(&etcd, &document(&[&kms]));
        let proxies = ["a", "b"].map(|name| shared.setup(name).flag("--sweep=off").start());
        let [first, second] = [proxies[0].client().await, proxies[1].client().await];
        for index in 0..VALUES {
            first.put(key(index), plaintext(index, SIZE)).await;
            second.put(key(VALUES + index), plaintext(VALUES + index, SIZE)).await;
        }
        plugin.behaviour().key = 1;
        let done = shared.succeed(&["reencrypt", "--all"], "reencryption started").await;
        assert!(done.stdout.contains("60 rewritten by this command"), "{done:#?}");
        // Written behind it, by processes that had a seed under the old version.
        for index in 0..10 {
            first.put(key(index), plaintext(index, SIZE)).await;
            second.put(key(VALUES + index), plaintext(VALUES + index, SIZE)).await;
        }
        plugin.behaviour().oldest = 1;
        let cold = shared.setup("c").flag("--sweep=off").start();
        for client in [cold.client().await, first, second] {
            for index in 0..2 * VALUES {
                assert_eq!(
                    client.value(&key(index)).await,
                    plaintext(index, SIZE),
                    "{version} {index}"
                );
            }
        }
    }
}
