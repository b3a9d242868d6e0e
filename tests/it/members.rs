//! Several proxies before one etcd: their records, and the sweep in the background that waits for all of them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::kms::Plugin;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::sweep::{IDENTITY, K1, K2, Sweep, document, expect_filled, fill, key, plaintext};
use crate::common::tools::Version;

const CBC_1: &str = "k8s:enc:aescbc:v1:k1:";
const CBC_2: &str = "k8s:enc:aescbc:v1:k2:";
const SIZE: usize = 500;

fn member(etcd: &Etcd, name: &str, providers: &[&str]) -> Setup {
    Setup::new(etcd.endpoint(), document(providers)).member(name)
}

/// What a process says of its sweep.
async fn says(proxy: &Proxy) -> String {
    let answer = http::get(&proxy.metrics_url(), "/readyz/sweep").await;
    answer.expect("an answer").body
}

/// Waits until it says something like `wanted`.
async fn until(proxy: &Proxy, wanted: &str) -> String {
    let mut said = String::new();
    let wait = async {
        loop {
            said = says(proxy).await;
            if said.contains(wanted) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let found = timeout(PATIENCE, wait).await.is_ok();
    assert!(found, "never {wanted:?}, but {said:?}\n{}", proxy.output());
    said
}

/// The records of the members, by name.
async fn records(direct: &Client) -> Vec<Value> {
    let all = direct.everything().await;
    let members = all
        .iter()
        .filter(|kv| kv.key.starts_with(b"/etcd-encryption-proxy/members/"));
    let mut records: Vec<Value> = members
        .map(|kv| serde_json::from_slice(&kv.value).expect("JSON"))
        .collect();
    records.sort_by_key(|record| record["name"].to_string());
    records
}

/// How many secrets begin with `prefix` in etcd.
async fn stored_under(direct: &Client, prefix: &str) -> usize {
    let all = direct.everything().await;
    all.iter().filter(|kv| kv.value.starts_with(prefix.as_bytes())).count()
}

#[tokio::test]
async fn a_key_that_all_have_loaded_is_swept_by_one_of_them() {
    const COUNT: usize = 2_000;
    for version in Version::two() {
        let etcd = Etcd::start(version).await;
        let direct = etcd.client().await;
        fill(&direct, COUNT, SIZE).await;
        let proxies = ["a", "b", "c"].map(|name| member(&etcd, name, &[K1]).start());
        let names: Vec<_> = records(&direct)
            .await
            .iter()
            .map(|record| record["name"].clone())
            .collect();
        assert_eq!(names, ["a", "b", "c"], "they are there before they serve");
        for proxy in &proxies {
            until(proxy, "done").await;
        }
        // Everybody reads with both keys before anybody writes with the new one.
        for proxy in &proxies {
            proxy.replace_config(&document(&[K1, K2]));
        }
        for proxy in &proxies[..2] {
            proxy.replace_config(&document(&[K2, K1]));
            until(proxy, "waiting: ").await;
        }
        let said = until(&proxies[0], "c (http://").await;
        assert!(said.contains("has loaded sha256:"), "{said}");
        assert_eq!(
            stored_under(&direct, CBC_2).await,
            0,
            "c might not have been able to read it"
        );
        let reading = proxies[2].client().await;
        proxies[2].replace_config(&document(&[K2, K1]));
        while stored_under(&direct, CBC_1).await > 0 {
            let index = COUNT / 2;
            assert_eq!(reading.value(&key(index)).await, plaintext(index, SIZE));
        }
        for proxy in &proxies {
            until(proxy, "done: every value").await;
            let wanted = "etcd_encryption_proxy_stored_values{resource=\"secrets\",state=\"current\",provider=\"aescbc\",key=\"k2\"} 2000";
            let metrics = proxy.metrics().await;
            assert!(metrics.contains(wanted), "{metrics}");
        }
        expect_filled(&direct, COUNT, SIZE, CBC_2).await;
        let mut wrote = 0;
        for proxy in &proxies {
            wrote += usize::from(
                proxy.output().contains(" swept finding=Clean") && proxy.output().contains("rewritten=2000"),
            );
        }
        assert_eq!(wrote, 1, "one has done it for all");
    }
}

#[tokio::test]
async fn who_is_killed_while_sweeping_is_succeeded() {
    const COUNT: usize = 3_000;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, COUNT, SIZE).await;
    let slowly = |name: &str| member(&etcd, name, &[K2, K1]).flag("--sweep-rate=1000").start();
    let mut first = slowly("first");
    until(&first, "sweeping").await;
    while stored_under(&direct, CBC_2).await < COUNT / 5 {
        sleep(Duration::from_millis(20)).await;
    }
    let second = slowly("second");
    until(&second, "another process sweeps: process").await;
    first.process().kill();
    until(&second, "done: every value").await;
    expect_filled(&direct, COUNT, SIZE, CBC_2).await;
    assert!(
        second.output().contains("going on with the sweep of"),
        "{}",
        second.output()
    );
}

#[tokio::test]
async fn a_member_that_never_sweeps_is_waited_for_all_the_same() {
    let etcd = Etcd::start(Version::V3_4).await;
    let direct = etcd.client().await;
    fill(&direct, 100, SIZE).await;
    let mut silent = member(&etcd, "silent", &[K1]).flag("--sweep=off").start();
    let sweeping = member(&etcd, "sweeping", &[K2, K1]).start();
    until(&sweeping, "waiting: silent (").await;
    // Why it does not come along is told where somebody waits for it.
    silent.replace_config("apiVersion: apiserver.config.k8s.io/v1\nkind: Nonsense\n");
    until(&sweeping, "and refuses a newer one: ").await;
    assert_eq!(stored_under(&direct, CBC_1).await, 100);
    // Who ends in good order takes its record along, and nobody waits for it any longer.
    silent.process().signal("TERM");
    assert!(silent.process().wait().success());
    until(&sweeping, "done: every value").await;
    expect_filled(&direct, 100, SIZE, CBC_2).await;
    assert_eq!(records(&direct).await.len(), 1);
}

#[tokio::test]
async fn a_store_in_the_clear_is_encrypted_and_never_laid_bare() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    for index in 0..200 {
        direct.put(key(index), plaintext(index, SIZE)).await;
    }
    let proxy = member(&etcd, "a", &[K1, IDENTITY]).start();
    until(&proxy, "done: every value").await;
    expect_filled(&direct, 200, SIZE, CBC_1).await;
    proxy.replace_config(&document(&[IDENTITY, K1]));
    until(&proxy, "no rule encrypts anything").await;
    expect_filled(&direct, 200, SIZE, CBC_1).await;
}

#[tokio::test]
async fn a_new_key_id_of_a_kms_makes_what_is_stored_stale() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let plugin = Plugin::start();
    let proxy = Setup::new(etcd.endpoint(), plugin.document("secrets", "v2"))
        .member("a")
        .start();
    let client = proxy.client().await;
    for index in 0..50 {
        client.put(key(index), plaintext(index, SIZE)).await;
    }
    until(&proxy, "done: every value").await;
    let before = direct.everything().await;
    {
        let mut behaviour = plugin.behaviour();
        behaviour.status_key_id = Some("2".to_owned());
        behaviour.encrypt_key_id = Some("2".to_owned());
    }
    let rewritten = async {
        loop {
            let now = direct.everything().await;
            let is_new = |kv: &&crate::common::pb::mvccpb::KeyValue| {
                kv.key.starts_with(b"/registry/") && !before.iter().any(|old| old.value == kv.value)
            };
            if now.iter().filter(is_new).count() == 50 {
                return;
            }
            // The key ID is asked for once a minute, or along with the plugin's health if that is more than 20 s old.
            http::get(&proxy.metrics_url(), "/readyz/kms-providers")
                .await
                .expect("an answer");
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(100), rewritten)
        .await
        .expect("all is rewritten");
    until(&proxy, "done: every value").await;
    for index in 0..50 {
        assert_eq!(client.value(&key(index)).await, plaintext(index, SIZE));
    }
}

#[test]
fn a_sweep_needs_the_records() {
    let (status, said) = Setup::new("http://127.0.0.1:1", document(&[K1]))
        .member("a")
        .flag("--member-record=false")
        .refused();
    assert!(!status.success());
    assert!(said.contains("--member-record=false needs --sweep=off"), "{said}");
}

#[tokio::test]
async fn the_verb_writes_nothing_that_a_proxy_could_not_read() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 10, SIZE).await;
    let proxy = member(&etcd, "node-1", &[K1]).flag("--sweep=off").start();
    let refused = Sweep::of(&etcd, &[K2, K1]).run().await;
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(refused.stderr.contains("node-1 (http://127.0.0.1:"), "{refused:#?}");
    assert_eq!(stored_under(&direct, CBC_1).await, 10);
    // Looking is allowed at any time.
    assert_eq!(Sweep::of(&etcd, &[K2, K1]).flag("--dry-run").run().await.code, Some(3));
    let forced = Sweep::of(&etcd, &[K2, K1]).flag("--force").run().await;
    forced.expect_clean();
    assert!(forced.stderr.contains("warning, going on: node-1"), "{forced:#?}");
    proxy.replace_config(&document(&[K1, K2]));
    let back = async {
        while Sweep::of(&etcd, &[K1, K2]).run().await.code == Some(7) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("the proxy loads it");
    expect_filled(&direct, 10, SIZE, CBC_1).await;
}
