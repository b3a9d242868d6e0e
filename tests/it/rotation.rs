//! `secrets-encrypt` before real etcd, with real proxies that share one file: the runbooks of k3s and RKE2 as they are
//! written, with a writer beside them; commands that are killed; members that refuse.

mod algorithm;
mod clients;
mod day;
mod fire;
mod late;
mod managed;
mod migrate;
mod old_file;
mod plugins;
mod records;
mod recover;
mod states;
mod stores;
mod taken_back;
mod uncovered;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::proxy::Proxy;
use crate::common::rotation::Shared;
use crate::common::sweep::{IDENTITY, K1, document, fill, key, plaintext};
use crate::common::tools::Version;

const SIZE: usize = 200;

/// Between a writer's turns: requests at any time are wanted, not a machine that can do nothing else.
const PAUSE: Duration = Duration::from_millis(5);

/// Writes and reads through the proxies in turn until it is told to stop. No request may fail, and each read is what was
/// written last.
struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Writer {
    async fn start(proxies: &[&Proxy]) -> Self {
        let mut clients = Vec::new();
        for proxy in proxies {
            clients.push(proxy.client().await);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while !stops.load(Ordering::Relaxed) {
                let key = format!("/registry/secrets/default/w-{}", turn % 7);
                let value = format!("write {turn}").into_bytes();
                clients[turn % clients.len()].put(key.clone(), value.clone()).await;
                assert_eq!(clients[(turn + 1) % clients.len()].value(&key).await, value);
                turn += 1;
                tokio::time::sleep(PAUSE).await;
            }
            turn
        });
        Self { stop, task }
    }

    /// How often it wrote.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no write and no read has failed")
    }
}

async fn secrets(direct: &Client) -> Vec<Vec<u8>> {
    let all = direct.everything().await;
    let secrets = all.into_iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    secrets.map(|kv| kv.value).collect()
}

/// Every secret is sealed with `name`, or in the clear where that is empty; and each proxy reads what was filled in.
async fn expect_all_under(direct: &Client, proxies: &[&Proxy], count: usize, name: &str) {
    if name.is_empty() {
        expect_all_sealed(direct, proxies, count, "").await;
    } else {
        expect_all_sealed(direct, proxies, count, &format!("aescbc:v1:{name}")).await;
    }
}

/// The same for any provider: `aescbc:v1:NAME`.
async fn expect_all_sealed(direct: &Client, proxies: &[&Proxy], count: usize, under: &str) {
    let prefix = if under.is_empty() {
        String::new()
    } else {
        format!("k8s:enc:{under}:")
    };
    for value in secrets(direct).await {
        let text = value.escape_ascii().to_string();
        assert!(value.starts_with(prefix.as_bytes()), "not under {under}: {text}");
        assert!(!prefix.is_empty() || !value.starts_with(b"k8s:enc:"), "{text}");
    }
    for proxy in proxies {
        let client = proxy.client().await;
        for index in [0, count / 2, count - 1] {
            assert_eq!(client.value(&key(index)).await, plaintext(index, SIZE));
        }
    }
}

fn active(status: &Value) -> String {
    let text = status["activekey"].as_str().expect("a key");
    text.trim_start_matches("AES-CBC ").to_owned()
}

#[tokio::test]
async fn the_classic_runbook_on_three_servers() {
    const KEYS: usize = 600;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b"), shared.member("c")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let writer = Writer::start(&all).await;

    let status = shared.run(&["status"]).await;
    let lines: Vec<_> = status.stdout.lines().take(7).collect();
    assert_eq!(
        lines,
        [
            "Encryption Status: Enabled",
            "Current Rotation Stage: start",
            "Server Encryption Hashes: All hashes match",
            "",
            "Active  Key Type  Name",
            "------  --------  ----",
            " *      AES-CBC   k1"
        ]
    );

    let out_of_turn = shared.run(&["rotate"]).await;
    assert_eq!(out_of_turn.code, Some(3), "{out_of_turn:#?}");
    assert!(
        out_of_turn.stderr.contains("incorrect stage: start found on node"),
        "{out_of_turn:#?}"
    );

    shared.succeed(&["prepare"], "prepare completed successfully").await;
    assert_eq!(shared.stage().await, "prepare");
    assert_eq!(shared.keys()[0], "k1");
    let twice = shared.run(&["prepare"]).await;
    assert!(
        twice.stderr.contains("incorrect stage: prepare found on node"),
        "{twice:#?}"
    );

    shared.succeed(&["rotate"], "rotate completed successfully").await;
    let status = shared.status().await;
    assert_eq!(status["stage"], "rotate");
    assert_eq!(status["hashmatch"], true);
    assert_eq!(status["inactivekeys"], serde_json::json!(["AES-CBC k1"]));
    let new = active(&status);
    assert!(new.starts_with("aescbckey-2"), "{new}");

    let done = shared
        .succeed(&["reencrypt", "--compact"], "reencryption started")
        .await;
    assert!(done.stdout.contains("removed aescbc key \"k1\""), "{done:#?}");
    let count = writer.end().await;
    assert!(count > 50, "{count} writes");
    let status = shared.status().await;
    assert_eq!(
        (&status["stage"], active(&status)),
        (&Value::from("reencrypt_finished"), new.clone())
    );
    assert_eq!(status["inactivekeys"], Value::Null);
    assert_eq!(shared.keys(), std::slice::from_ref(&new));
    expect_all_under(&direct, &all, KEYS, &new).await;
    let count = shared.run(&["status", "--count"]).await;
    assert!(
        count.stdout.contains("(counted now)") && !count.stdout.contains("stale"),
        "{count:#?}"
    );
}

#[tokio::test]
async fn rotate_keys_twice_over_and_off_and_on_again() {
    const KEYS: usize = 300;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let writer = Writer::start(&all).await;
    let before = shared.text();
    let plan = shared.run(&["rotate-keys", "--dry-run"]).await;
    assert!(plan.stdout.contains("remove aescbc key \"k1\""), "{plan:#?}");
    assert_eq!(shared.text(), before, "nothing was done");
    let mut names = vec!["k1".to_owned()];
    for _ in 0..2 {
        shared
            .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
            .await;
        let keys = shared.keys();
        assert!(keys.len() == 1 && !names.contains(&keys[0]), "{keys:?}");
        names.extend(keys);
    }
    let last = names.last().expect("a name").clone();
    shared.succeed(&["disable"], "secrets-encryption disabled").await;
    let off = shared.run(&["status"]).await;
    assert!(off.stdout.starts_with("Encryption Status: Disabled\n"), "{off:#?}");
    let refused = shared.run(&["rotate-keys"]).await;
    assert_eq!(refused.code, Some(8), "{refused:#?}");
    shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    let count = writer.end().await;
    assert!(count > 50, "{count} writes");
    expect_all_under(&direct, &all, KEYS, "").await;
    shared.succeed(&["enable"], "secrets-encryption enabled").await;
    shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    expect_all_under(&direct, &all, KEYS, &last).await;
    assert_eq!(shared.stage().await, "reencrypt_finished");
}

#[tokio::test]
async fn without_any_member_it_works_straight_on_etcd() {
    let etcd = Etcd::start(Version::V3_4).await;
    let direct = etcd.client().await;
    fill(&direct, 300, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let outcome = shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    assert!(outcome.stdout.contains("300 rewritten by this command"), "{outcome:#?}");
    assert!(outcome.stdout.contains("no member is there"), "{outcome:#?}");
    let keys = shared.keys();
    expect_all_under(&direct, &[], 300, &keys[0]).await;
    // What the file was is kept where it holds a key that none of the later ones holds.
    let folder = shared.path().parent().expect("a folder").to_owned();
    let kept = std::fs::read_dir(folder).expect("the folder").count() - 1;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn history_that_is_not_compacted_keeps_the_old_key() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 50, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let outcome = shared.run(&["rotate-keys", "--timeout=1s"]).await;
    assert_eq!(outcome.code, Some(6), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("which stay until that is compacted away"),
        "{outcome:#?}"
    );
    assert_eq!(
        (shared.stage().await.as_str(), shared.keys().len()),
        ("reencrypt_active", 2)
    );
    let status = shared.status().await;
    assert!(
        status["blocked"][0]
            .as_str()
            .expect("a reason")
            .contains("etcd's history"),
        "{status}"
    );
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    assert_eq!(shared.keys().len(), 1);
}

#[tokio::test]
async fn a_member_that_has_not_loaded_is_named_and_nothing_is_dropped_and_abort_goes_back() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 100, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let good = shared.member("good");
    // Has a file of its own, which nobody brings up to date.
    let own = Shared::new(&etcd, &shared.text());
    let stuck = own.member("stuck");
    shared.succeed(&["status"], "Encryption Status: Enabled").await;

    let outcome = shared.run(&["rotate-keys", "--timeout=2s"]).await;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert!(outcome.stderr.contains("stuck (http://127.0.0.1:"), "{outcome:#?}");
    let status = shared.status().await;
    assert_eq!(status["hasherror"], "hash does not match between good and stuck");
    assert_eq!(status["stage"], "prepare");
    // By force it comes no further: what stuck cannot read is not written.
    let forced = shared.run(&["rotate", "--force", "--timeout=2s"]).await;
    assert_eq!(forced.code, Some(4), "{forced:#?}");
    assert!(
        forced.stderr.contains("stuck has not shown that it reads with"),
        "{forced:#?}"
    );
    assert_eq!(shared.keys()[0], "k1");
    expect_all_under(&direct, &[&good, &stuck], 100, "k1").await;

    // One that refuses what it finds says why.
    std::fs::write(own.path(), "rubbish").expect("the file");
    let mut why = String::new();
    for _ in 0..600 {
        let status = shared.status().await;
        let members = status["members"].as_array().expect("members").clone();
        let stuck = members.iter().find(|member| member["name"] == "stuck").cloned();
        why = stuck.expect("it is there")["refuses"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if !why.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(why.contains("shared.yaml"), "{why}");

    // The way back needs nobody but those who have loaded the old one.
    std::fs::write(own.path(), shared.text()).expect("the file");
    let file = own.path();
    let copies = tokio::spawn({
        let shared = shared.path();
        async move {
            loop {
                let text = std::fs::read(&shared).expect("the file");
                if std::fs::read(&file).is_ok_and(|own| own != text) {
                    crate::common::proxy::replace(&file, &text);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(
        (shared.stage().await.as_str(), shared.keys()),
        ("start", vec!["k1".to_owned()])
    );
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    copies.abort();
    expect_all_under(&direct, &[&good, &stuck], 100, &shared.keys()[0]).await;
}

#[tokio::test]
async fn a_rotation_is_taken_back_after_it_wrote() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 200, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    shared.succeed(&["rotate"], "rotate completed successfully").await;
    let new = shared.keys()[0].clone();
    all[0].client().await.put("/registry/secrets/default/x", "x").await;
    assert!(
        direct
            .value("/registry/secrets/default/x")
            .await
            .starts_with(format!("k8s:enc:aescbc:v1:{new}:").as_bytes())
    );
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(shared.keys(), ["k1"]);
    expect_all_under(&direct, &all, 200, "k1").await;
    let nothing = shared.run(&["abort"]).await;
    assert_eq!(nothing.code, Some(3), "{nothing:#?}");
}

#[tokio::test]
async fn killed_anywhere_it_goes_on() {
    const KEYS: usize = 2_000;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [
        shared.setup("a").flag("--sweep=off").start(),
        shared.setup("b").flag("--sweep=off").start(),
    ];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let writer = Writer::start(&all).await;
    let words = ["rotate-keys", "--compact", "--rate=3000"];
    let (mut kills, mut stages) = (0, std::collections::BTreeSet::new());
    // In the first steps and while it sweeps: each has a little longer than the one before, until one comes to its end. On a busy
    // machine that takes more of them.
    let mut lives = Duration::from_millis(20);
    loop {
        let mut process = shared.start(&words);
        tokio::time::sleep(lives).await;
        if !process.is_running() {
            break;
        }
        process.kill();
        kills += 1;
        stages.insert(shared.stage().await);
        lives += if kills < 20 {
            Duration::from_millis(15)
        } else {
            lives / 4
        };
    }
    if shared.stage().await != "reencrypt_finished" || !shared.status().await["underway"].is_null() {
        shared.succeed(&words, "keys rotated, reencryption finished").await;
    }
    assert!(kills > 3 && stages.len() > 1, "killed {kills} times, at {stages:?}");
    writer.end().await;
    assert_eq!(shared.keys().len(), 1, "{}", shared.text());
    expect_all_under(&direct, &all, KEYS, &shared.keys()[0]).await;
}

#[tokio::test]
async fn values_that_nobody_opens_keep_the_old_key_and_are_named() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 50, SIZE).await;
    direct
        .put("/registry/secrets/default/zz", "k8s:enc:secretbox:v1:lost:rubbish")
        .await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let outcome = shared.run(&["rotate-keys", "--compact"]).await;
    assert_eq!(outcome.code, Some(7), "{outcome:#?}");
    assert!(
        outcome
            .stderr
            .contains("/registry/secrets/default/zz needs secretbox key \"lost\""),
        "{outcome:#?}"
    );
    assert_eq!(shared.keys().len(), 2);
    direct.delete("/registry/secrets/default/zz").await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    assert_eq!(shared.keys().len(), 1);
}

#[tokio::test]
async fn no_file_is_told_as_k3s_tells_it_and_a_mounted_one_is_not_edited() {
    let etcd = Etcd::start(Version::share()).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let folder = shared.path().parent().expect("a folder").to_owned();
    std::fs::create_dir(folder.join("..one")).expect("a folder");
    std::fs::rename(shared.path(), folder.join("..one/shared.yaml")).expect("a move");
    let none = shared.run(&["status"]).await;
    assert_eq!(
        (none.code, none.stdout.as_str()),
        (Some(0), "Encryption Status: Disabled, no configuration file found\n")
    );
    std::os::unix::fs::symlink("..one", folder.join("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/shared.yaml", shared.path()).expect("a link");
    etcd.client().await.put(key(0), "plain").await;
    let mounted = shared.run(&["prepare"]).await;
    assert_eq!(mounted.code, Some(8), "{mounted:#?}");
    assert!(
        mounted.stderr.contains("change the Secret or ConfigMap"),
        "{mounted:#?}"
    );
    assert_eq!(shared.stage().await, "start");
    let text = direct_keys(&etcd).await;
    assert!(!text.contains("rotation"), "nothing was noted: {text}");
}

async fn direct_keys(etcd: &Etcd) -> String {
    let all = etcd.client().await.everything().await;
    all.iter()
        .map(|kv| kv.key.escape_ascii().to_string())
        .collect::<Vec<_>>()
        .join("\n")
}
