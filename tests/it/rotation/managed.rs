//! The same fire with the keyring in etcd: nobody runs a command again, and no process is started anew but those that were
//! killed. Members bring to its end what was begun, and begin by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::clients::Clients;
use super::fire::{KEYS, ROTATE, STAGES, Scene, expect_end};
use super::{SIZE, Writer, secrets};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{CompactionRequest, PutRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::relay::Relay;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

const FAR: &str = "/registry/secrets/default/far";

/// Which process takes the steps of a rotation now.
async fn driver(direct: &Client) -> Option<u32> {
    let holder = direct.get("/etcd-encryption-proxy/driver").await?;
    let holder: Value = serde_json::from_slice(&holder.value).expect("JSON");
    Some(u32::try_from(holder["pid"].as_u64().expect("a process")).expect("its number"))
}

/// The names of the keys in the archive's documents.
fn archived(shared: &Shared) -> Vec<String> {
    shared.in_strongbox(async |strongbox| {
        let mut names = Vec::new();
        for entry in strongbox.archived().await.expect("an archive") {
            let document = entry.document.expect("it opens");
            let text = String::from_utf8(document.expose().to_vec()).expect("text");
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
            names.extend(lines.map(|name| name.trim_matches('"').to_owned()));
            // As it was first written.
            if text.contains("name: k1,") {
                names.push("k1".to_owned());
            }
        }
        names
    })
}

/// The record of the rotation.
async fn record(direct: &Client) -> Value {
    match direct.get("/etcd-encryption-proxy/rotation").await {
        Some(kv) => serde_json::from_slice(&kv.value).expect("JSON"),
        None => Value::Null,
    }
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    }
}

async fn until(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < patience, "{what} does not come");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_rotate_without_a_restart() {
    let etcd = Etcd::start(Version::share()).await;
    let scene = Scene::start(&etcd.endpoint(), Home::Etcd).await;
    let all: Vec<&Proxy> = scene.proxies.iter().collect();
    let writer = Writer::start(&all).await;
    let done = scene
        .shared
        .succeed(&ROTATE, "keys rotated, reencryption finished")
        .await;
    assert!(done.stdout.contains("removed aescbc key \"k1\""), "{done:#?}");
    assert!(writer.end().await > 50);
    let record = record(&scene.direct).await;
    assert_eq!(
        (&record["stage"], &record["underway"]),
        (&Value::from("reencrypt_finished"), &Value::Null)
    );
    assert!(archived(&scene.shared).contains(&"k1".to_owned()));
    scene.end_but_for("/registry/secrets/default/w-").await;
}

/// The command first, and then each member that goes on with what it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_carries_it_out_is_killed_at_each_stage_and_a_member_goes_on() {
    let etcd = Etcd::start(Version::share()).await;
    let mut scene = Scene::start(&etcd.endpoint(), Home::Etcd).await;
    let mut command = scene.shared.start(&ROTATE);
    scene.until("begun").await;
    command.kill();
    let mut killed = Vec::new();
    for stage in &STAGES[1..5] {
        scene.until(stage).await;
        let Some(pid) = driver(&scene.direct).await else {
            continue;
        };
        let is_it = |proxy: &mut Proxy| proxy.process().id() == pid;
        if let Some(index) = scene.proxies.iter_mut().position(is_it) {
            scene.kill(index);
            killed.push(*stage);
        }
    }
    let direct = scene.direct.clone();
    until("its end", 2 * PATIENCE, async || {
        record(&direct).await["underway"].is_null()
    })
    .await;
    assert!(!killed.is_empty(), "nobody was killed");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_writes_nothing_with_a_key_that_went_meanwhile() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let awake = shared.member("awake");
    let mut frozen = shared.member("frozen");
    // Many at once, so that it is stopped with writes at every place on their way.
    let stop = Arc::<AtomicBool>::default();
    let url = frozen.url().to_owned();
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let (client, stop) = (Client::lazy(&url), Arc::clone(&stop));
            tokio::spawn(async move {
                let key = format!("/registry/secrets/default/frozen-{writer}");
                while !stop.load(Ordering::Relaxed) {
                    if client.kv().put(put(&key)).await.is_err() {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    frozen.process().signal("STOP");
    shared.succeed(&ROTATE, "keys rotated, reencryption finished").await;
    let gone_at = direct
        .get("/etcd-encryption-proxy/keyring")
        .await
        .expect("it is there")
        .mod_revision;
    frozen.process().signal("CONT");
    // It goes on by itself.
    let client = frozen.client().await;
    until("a write", PATIENCE, async || {
        client.kv().put(put("/registry/secrets/default/after")).await.is_ok()
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("it ends");
    }
    let under = format!("k8s:enc:secretbox:v1:{}:", shared.keys()[0]);
    for kv in direct.everything().await {
        assert!(
            !kv.key.starts_with(b"/registry/secrets/") || kv.value.starts_with(under.as_bytes()),
            "{} at {} ({gone_at}): {}\n{}",
            kv.key.escape_ascii(),
            kv.mod_revision,
            kv.value.escape_ascii(),
            frozen.output()
        );
    }
    let reader = awake.client().await;
    assert_eq!(reader.value("/registry/secrets/default/after").await, b"value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_after_so_many_writes_by_one_member() {
    const AFTER: u64 = 100;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    // Fewer than are stored: re-encryption alone comes to more.
    let proxies = ["a", "b", "c"].map(|name| {
        shared
            .setup(name)
            .flag(format!("--rotate-after-writes={AFTER}"))
            .start()
    });
    let clients = Clients::start(&proxies.each_ref().map(|proxy| proxy.url().to_owned()), KEYS, SIZE);
    clients.progress(KEYS * 2).await;
    clients.end().await;
    let client = &direct;
    // Somebody compacts, as kube-apiserver does.
    until("a rotation", 2 * PATIENCE, async || {
        compact(client).await;
        let record = record(client).await;
        record["stage"] == "reencrypt_finished" && record["underway"].is_null()
    })
    .await;
    let key = shared.keys();
    // What the members wrote again would be reason enough.
    until("the count", PATIENCE, async || {
        sealed_with(client, &key[0]).await >= AFTER
    })
    .await;
    let record = record(client).await;
    assert_eq!(
        (shared.keys(), record["names"].as_array().map(Vec::len)),
        (key.clone(), Some(1))
    );
    for value in secrets(client).await {
        assert!(value.starts_with(format!("k8s:enc:aescbc:v1:{}:", key[0]).as_bytes()));
    }
}

/// How many values the members have sealed with `key`, as they have added it up.
async fn sealed_with(direct: &Client, key: &str) -> u64 {
    let usage = direct.get("/etcd-encryption-proxy/usage").await.expect("a count");
    let usage: Value = serde_json::from_slice(&usage.value).expect("JSON");
    let mut keys = usage["keys"].as_array().expect("keys").iter();
    keys.find(|count| count["name"] == key)
        .map_or(0, |count| count["writes"].as_u64().expect("a number"))
}

/// Lets go of history, as kube-apiserver does every five minutes.
async fn compact(direct: &Client) {
    let latest = direct.put("/compact", "now").await.header.expect("a header").revision;
    let request = CompactionRequest {
        revision: latest,
        ..CompactionRequest::default()
    };
    direct
        .kv()
        .compact(request)
        .await
        .expect("it is later than the last one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_when_they_are_old() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    sleep(Duration::from_secs(1)).await;
    let member = |name: &str| shared.setup(name).flag("--rotate-every=1h").start();
    let others = [member("a"), member("b")];
    let one = shared.setup("c").flag("--rotate-every=1s").start();
    until("a rotation", 2 * PATIENCE, async || {
        compact(&direct).await;
        record(&direct).await["stage"] == "reencrypt_finished"
    })
    .await;
    drop(one);
    until("its end", 2 * PATIENCE, async || {
        compact(&direct).await;
        record(&direct).await["underway"].is_null()
    })
    .await;
    assert!(!shared.keys().contains(&"k1".to_owned()));
    drop(others);
}

/// It stays on the network of its clients, and loses etcd: longer than its record lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_is_waited_for_and_abort_works_meanwhile() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let relay = Relay::start(&etcd.endpoint()).await;
    let near = shared.member("near");
    let far = shared.setup_by_way_of(relay.url(), "far").start();
    relay.hold(b"");
    let mut command = shared.start(&ROTATE);
    command.wait_for("its name", |output| {
        (output.contains("waiting for members to load") && output.contains("far (")).then_some(())
    });
    let mut abort = shared.start(&["abort", "--compact"]);
    expect_end(&mut command, 5).await;
    // The record of the one that is away has ended by then.
    expect_end(&mut abort, 0).await;
    assert_eq!(shared.keys(), ["k1"]);
    shared.succeed(&ROTATE, "keys rotated, reencryption finished").await;
    relay.release();
    // It takes up the new key before it writes.
    let client = far.client().await;
    until("a write", PATIENCE, async || client.kv().put(put(FAR)).await.is_ok()).await;
    super::expect_all_sealed(
        &direct,
        &[&near, &far],
        KEYS,
        &format!("secretbox:v1:{}", shared.keys()[0]),
    )
    .await;
}

#[tokio::test]
async fn off_and_on_again() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let writer = Writer::start(&all).await;
    shared.succeed(&["disable"], "secrets-encryption disabled").await;
    shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    assert!(writer.end().await > 10);
    super::expect_all_under(&direct, &all, KEYS, "").await;
    shared.succeed(&["enable"], "secrets-encryption enabled").await;
    shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    super::expect_all_under(&direct, &all, KEYS, "k1").await;
}

/// How long a rotation of a large store takes, with writers beside it: `ROTATE_KEYS` secrets of 1 KiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a demonstration: minutes"]
async fn a_large_store_is_rotated_in_so_many_seconds() {
    rotate_a_large_store(Home::Etcd).await;
}

/// The same with the configuration in a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a demonstration: minutes"]
async fn a_large_store_is_rotated_in_so_many_seconds_by_a_file() {
    rotate_a_large_store(Home::File).await;
}

async fn rotate_a_large_store(home: Home) {
    let count = std::env::var("ROTATE_KEYS").map_or(20_000, |count| count.parse().expect("a number"));
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, count, 1_024).await;
    let shared = Shared::at(home, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let proxies = ["a", "b", "c"].map(|name| shared.member(name));
    let clients = Clients::start(&proxies.each_ref().map(|proxy| proxy.url().to_owned()), count, 1_024);
    clients.progress(30).await;
    let start = Instant::now();
    shared.succeed(&ROTATE, "keys rotated, reencryption finished").await;
    let seconds = start.elapsed().as_secs_f64();
    clients.progress(10).await;
    let (_, turns) = clients.end().await;
    let under = format!("k8s:enc:secretbox:v1:{}:", shared.keys()[0]);
    let stored = secrets(&direct).await;
    assert!(stored.iter().all(|value| value.starts_with(under.as_bytes())));
    #[expect(clippy::cast_precision_loss, reason = "it is far below 2^52")]
    let rate = count as f64 / seconds;
    eprintln!(
        "{home:?}, {count} secrets of 1 KiB, three members: {seconds:.1} s from rotate-keys to reencrypt_finished, {rate:.0} secrets/s \
         ({turns} updates and reads of clients meanwhile, none failed); k3s publishes 5 secrets/s: {} s",
        count / 5
    );
}
