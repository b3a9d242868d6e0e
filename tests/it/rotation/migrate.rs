//! `migrate`: one command from any provider to any other, beneath three members and clients at work, killed on its way each time; the
//! plugin that is left refuses everything afterwards. And what is refused before anything is begun.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::clients::Clients;
use super::{SIZE, expect_all_sealed};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill, key, plaintext};
use crate::common::tools::Version;

const KEYS: usize = 120;
const DONE: &str = "migrated, reencryption finished";

/// Secrets as they are stored without encryption.
async fn fill_clear(direct: &Client, count: usize) {
    for index in 0..count {
        direct.put(key(index), plaintext(index, SIZE)).await;
    }
}

/// Waits until what etcd keeps of the rotation satisfies `is_so`.
async fn until(direct: &Client, what: &str, is_so: impl Fn(&Value) -> bool) {
    let start = Instant::now();
    loop {
        if let Some(record) = direct.get("/etcd-encryption-proxy/rotation").await {
            let record: Value = serde_json::from_slice(&record.value).expect("JSON");
            if is_so(&record) {
                return;
            }
        }
        assert!(start.elapsed() < PATIENCE, "it does not come to {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a command other than the `finished`th is, or was, at `stage` or beyond.
fn is_at(record: &Value, finished: u64, stage: &str) -> bool {
    const STAGES: [&str; 5] = ["begun", "prepare", "rotate", "reencrypt_active", "dropping"];
    let is_over = record["finished"].as_u64() > Some(finished);
    let is_ours = record["underway"] == "migrate" && record["begun"].as_u64() > Some(finished);
    let place = match record["stage"].as_str().expect("a stage") {
        _ if record["dropping"] == true => 4,
        "prepare" => 1,
        "rotate" => 2,
        "reencrypt_request" | "reencrypt_active" => 3,
        _ => 0,
    };
    is_over || (is_ours && STAGES.iter().position(|name| *name == stage) <= Some(place))
}

async fn finished(direct: &Client) -> u64 {
    let record = direct.get("/etcd-encryption-proxy/rotation").await;
    let record = record.map(|kv| serde_json::from_slice::<Value>(&kv.value).expect("JSON"));
    record.map_or(0, |record| record["finished"].as_u64().expect("a number"))
}

async fn from_the_clear_to_plugins_and_back(home: Home) {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill_clear(&direct, KEYS).await;
    let shared = Shared::at(home, &etcd.endpoint(), &document(&[IDENTITY]));
    let proxies = ["a", "b", "c"].map(|name| shared.member(name));
    let proxies: Vec<&Proxy> = proxies.iter().collect();
    let urls: Vec<String> = proxies.iter().map(|proxy| proxy.url().to_owned()).collect();
    let clients = Clients::start(&urls, KEYS, SIZE);
    let mut plugins = [(); 3].map(|()| Plugin::start());
    let to = |version: &str, name: &str, plugin: &Plugin| format!("--to=kms:{version}:{name}={}", plugin.endpoint());
    let ways = [
        (to("v2", "one", &plugins[0]), "kms:v2:one", "rotate", None),
        (to("v2", "two", &plugins[1]), "kms:v2:two", "reencrypt_active", Some(0)),
        (to("v1", "three", &plugins[2]), "kms:v1:three", "prepare", Some(1)),
        ("--to=secretbox".to_owned(), "secretbox:v1", "dropping", Some(2)),
        ("--to=identity".to_owned(), "", "begun", None),
    ];
    for (to, under, killed_at, left) in ways {
        let words = ["migrate", &to, "--compact"];
        let before = finished(&direct).await;
        let mut command = shared.start(&words);
        until(&direct, killed_at, |record| is_at(record, before, killed_at)).await;
        command.kill();
        let done = shared.run(&words).await;
        assert_eq!(
            (done.code, done.stdout.lines().next()),
            (Some(0), Some(DONE)),
            "{to}: {done:#?}\n{}",
            proxies[0].output()
        );
        if let Some(left) = left {
            plugins[left].stop();
        }
        clients.progress(12).await;
        let names = shared.providers();
        assert_eq!(names.len(), 1, "{to}: {names:?}");
        expect_all_sealed(&direct, &proxies, KEYS, under).await;
        assert_eq!(shared.stage().await, "reencrypt_finished");
    }
    let (written, turns) = clients.end().await;
    assert!(turns > 60, "{turns} turns");
    for (key, value) in written {
        assert_eq!(
            direct.value(&key).await,
            value,
            "{key} lies in the clear, as it was written last"
        );
    }
}

#[tokio::test]
async fn from_the_clear_to_plugins_and_back_with_a_file() {
    from_the_clear_to_plugins_and_back(Home::File).await;
}

#[tokio::test]
async fn from_the_clear_to_plugins_and_back_with_the_keyring_in_etcd() {
    from_the_clear_to_plugins_and_back(Home::Etcd).await;
}

/// Taken back wherever it has come to, as long as the old key is there.
#[tokio::test]
async fn a_migration_to_a_plugin_is_taken_back_from_each_stage() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let text = document(&[K1, IDENTITY]);
    let shared = Shared::new(&etcd, &text);
    let proxies = ["a", "b"].map(|name| shared.setup(name).flag("--sweep=off").start());
    let proxies: Vec<&Proxy> = proxies.iter().collect();
    let plugin = Plugin::start();
    let to = format!("--to=kms:v2:new={}", plugin.endpoint());
    for stage in ["prepare", "rotate", "reencrypt_active", "dropping"] {
        let before = finished(&direct).await;
        // Without --compact the old key waits for etcd's history to go.
        let mut command = shared.start(&["migrate", &to]);
        until(&direct, stage, |record| is_at(record, before, stage)).await;
        command.kill();
        shared.succeed(&["abort", "--compact"], "rotation aborted").await;
        assert_eq!(
            (shared.providers(), shared.keys()),
            (vec!["aescbc".into(), "identity".into()], vec!["k1".into()])
        );
        expect_all_sealed(&direct, &proxies, KEYS, "aescbc:v1:k1").await;
        assert_eq!(shared.stage().await, "start");
    }
}

/// Nothing is begun, and what is said names what to do.
#[tokio::test]
async fn what_cannot_be_gone_over_to_is_refused_before_anything_is_begun() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill_clear(&direct, 4).await;
    let (plugin, down, mut odd) = (Plugin::start(), Plugin::down(), Plugin::start());
    let kms = format!(
        "{{kms: {{apiVersion: v2, name: here, endpoint: '{}', timeout: 1s}}}}",
        plugin.endpoint()
    );
    let shared = Shared::new(&etcd, &document(&[&kms, IDENTITY]));
    let proxy = shared.setup("a").flag("--sweep=off").start();
    let text = shared.text();
    odd.behaviour().plaintext = Some(b"something else".to_vec());
    let (own, away, other) = (plugin.endpoint(), down.endpoint(), odd.endpoint());
    for (to, code, said) in [
        (format!("kms:v2:here={other}"), 8, "give the new one another name"),
        (
            format!("kms:v1:there={own}"),
            8,
            "under the other version of the protocol",
        ),
        (
            format!("kms:v2:there={away}"),
            8,
            "does not work on this machine, so nothing was begun",
        ),
        (format!("kms:v1:there={other}"), 8, "is not what it was given to wrap"),
        (format!("kms:v2:a:b={own}"), 2, "must not contain ':'"),
        (format!("kms:v3:there={own}"), 2, "expected kms:v2:NAME=unix:///SOCKET"),
        (
            "kms:v2:there=/no/scheme".to_owned(),
            2,
            "expected kms:v2:NAME=unix:///SOCKET",
        ),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let to = format!("--to={to}");
            let words: Vec<&str> = ["migrate", &to].into_iter().chain(more.iter().copied()).collect();
            let refused = shared.run(&words).await;
            assert_eq!(refused.code, Some(code), "{to}: {refused:#?}");
            assert!(refused.stderr.contains(said), "{to}: {refused:#?}");
        }
    }
    assert_eq!(shared.text(), text);
    assert!(direct.get("/etcd-encryption-proxy/rotation").await.is_none());
    odd.stop();
    // What is so already is looked at, and done.
    let to = format!("--to=kms:v2:here={own}");
    let done = shared.succeed(&["migrate", &to, "--compact"], DONE).await;
    assert!(done.stdout.contains("4 values looked at, 4 rewritten"), "{done:#?}");
    expect_all_sealed(&direct, &[&proxy], 4, "kms:v2:here").await;
}

/// A plugin that gives back something else is written with by nobody: kube-apiserver's health check of v1 does not look at that.
#[tokio::test]
async fn a_plugin_that_gives_nothing_back_to_a_member_holds_it() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill(&direct, 4, SIZE).await;
    let plugin = Plugin::start();
    plugin.behaviour().plaintext = Some(b"something else".to_vec());
    let kms = format!(
        "{{kms: {{apiVersion: v1, name: new, endpoint: '{}'}}}}",
        plugin.endpoint()
    );
    let text = document(&[K1, &kms]);
    let shared = Shared::new(&etcd, &text);
    let proxies = ["a", "b"].map(|name| shared.setup(name).flag("--sweep=off").start());
    let to = format!("--to=kms:v1:new={}", plugin.endpoint());
    let plan = shared.succeed(&["migrate", &to, "--dry-run"], "`migrate` would").await;
    let what = "wait until each of them has had a key wrapped by the plugin and given back";
    assert!(plan.stdout.contains(what), "{plan:#?}");
    let held = shared.run(&["migrate", &to, "--timeout=2s"]).await;
    assert_eq!(held.code, Some(4), "{held:#?}");
    for name in ["a (", "b ("] {
        let line = held
            .stderr
            .lines()
            .find(|line| line.contains("does not say that kms v1 new has wrapped"));
        assert!(line.is_some_and(|line| line.contains(name)), "{held:#?}");
    }
    assert_eq!(
        (shared.stage().await.as_str(), shared.text()),
        ("prepare", text.clone())
    );
    let other = shared.run(&["migrate", "--to=identity"]).await;
    assert_eq!(other.code, Some(3), "{other:#?}");
    assert!(other.stderr.contains("a migration to kms:v1:new=unix:"), "{other:#?}");
    // What was listed before stays listed.
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(shared.text(), text);
    let all: Vec<&Proxy> = proxies.iter().collect();
    expect_all_sealed(&direct, &all, 4, "aescbc:v1:k1").await;
}
