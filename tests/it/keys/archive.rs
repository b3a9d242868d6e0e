//! The archive is used: what only a retired key opens is opened, told of, and written again, whichever way it came there; and a
//! keyring that opens less than the one that stands is not put back.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::{BINARY, Proxy};
use crate::common::rotation::{Home, Outcome, Shared};
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;

const VALUES: usize = 100;

fn key(index: usize) -> String {
    format!("/registry/secrets/default/s-{index:03}")
}

fn value(index: usize) -> Vec<u8> {
    format!("value {index}").into_bytes()
}

async fn fill(client: &Client) {
    for index in 0..VALUES {
        client.put(key(index), value(index)).await;
    }
}

/// How many values `client` reads as they were written. What does not open comes as it is stored.
async fn readable(client: &Client) -> usize {
    let mut readable = 0;
    for index in 0..VALUES {
        readable += usize::from(client.value(&key(index)).await == value(index));
    }
    readable
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Until every value in etcd bears the header of the key that writes.
async fn until_all_are_under_the_present_key(shared: &Shared, direct: &Client) {
    let keys = shared.keys();
    let header = format!(":v1:{}:", keys[0]);
    until("the present key on every value", async || {
        let all = direct.everything().await;
        let mut secrets = all.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
        let bears = |value: &[u8]| value.windows(header.len()).any(|part| part == header.as_bytes());
        secrets.all(|kv| bears(&kv.value))
    })
    .await;
}

/// Runs `keyring` with these words.
async fn keyring(shared: &Shared, endpoint: &str, words: &[&str]) -> Outcome {
    let mut command = tokio::process::Command::new(BINARY);
    command
        .arg("keyring")
        .args(words)
        .arg(format!("--etcd-servers={endpoint}"))
        .arg(format!("--keyring-root-file={}", shared.path().display()));
    let output = command.output().await.expect("it starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn path_of(shared: &Shared, name: &str) -> String {
    let path = shared.path();
    path.parent()
        .map(Path::to_path_buf)
        .expect("its folder")
        .join(name)
        .display()
        .to_string()
}

async fn rotate(shared: &Shared) {
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
}

async fn retired_reads(proxy: &Proxy) -> u64 {
    let metrics = proxy.metrics().await;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("etcd_encryption_proxy_retired_key_reads_total{"));
    lines
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok())
                .expect("a number")
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_before_two_rotations_heals_once_the_keyring_is_back() {
    a_snapshot_heals(Version::share(), Case::Plain).await;
}

/// What was purged is in no backup of afterwards. The snapshot has a keyring of its own, which is archived and not overwritten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_before_a_purge_brings_the_keys_that_it_needs() {
    a_snapshot_heals(Version::V3_4, Case::Purged).await;
}

/// The key that was prepared is not in the latest keyring as a reader: it writes there, or has been replaced since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_rotation_under_way_heals_and_the_rotation_is_taken_back() {
    a_snapshot_heals(Version::share(), Case::Prepared).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Plain,
    Purged,
    Prepared,
}

/// As docs/keyring.md has it after etcd was restored from a snapshot, beneath proxies that run.
async fn a_snapshot_heals(version: Version, case: Case) {
    let mut etcd = Etcd::start(version).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let clients = [proxies[0].client().await, proxies[1].client().await];
    fill(&clients[0]).await;
    if case == Case::Prepared {
        let prepared = shared.run(&["prepare"]).await;
        assert_eq!(prepared.code, Some(0), "{prepared:#?}");
    }
    etcd.kill_or_stop();
    etcd.back_up();
    etcd.spawn();
    etcd.ready().await;
    if case == Case::Prepared {
        for words in [&["rotate"][..], &["reencrypt", "--compact"]] {
            let done = shared.run(words).await;
            assert_eq!(done.code, Some(0), "{done:#?}");
        }
    } else {
        rotate(&shared).await;
    }
    rotate(&shared).await;
    if case == Case::Purged {
        let purged = shared.run(&["purge", "--all", "--yes"]).await;
        assert_eq!(purged.code, Some(0), "{purged:#?}");
    }
    let (backup, endpoint) = (path_of(&shared, "backup.json"), etcd.endpoint());
    let made = keyring(&shared, &endpoint, &["backup", &backup]).await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    etcd.kill_or_stop();
    etcd.restore();
    etcd.spawn();
    etcd.ready().await;

    let restored = keyring(&shared, &endpoint, &["restore", &backup]).await;
    assert_eq!(restored.code, Some(0), "{restored:#?}");
    for client in &clients {
        until("a write", async || {
            client.kv().put(put(&key(0), value(0))).await.is_ok()
        })
        .await;
        assert_eq!(readable(client).await, VALUES);
    }
    // One that starts now has the archive from its first moment.
    let third = shared.member("c");
    assert_eq!(readable(&third.client().await).await, VALUES);
    until_all_are_under_the_present_key(&shared, &etcd.client().await).await;
    if case == Case::Prepared {
        assert_eq!(shared.stage().await, "prepare");
        let aborted = shared.run(&["abort", "--compact"]).await;
        assert_eq!(aborted.code, Some(0), "{aborted:#?}");
    }
    rotate(&shared).await;
    for client in &clients {
        assert_eq!(readable(client).await, VALUES);
    }
}

fn put(key: &str, value: Vec<u8>) -> crate::common::pb::etcdserverpb::PutRequest {
    crate::common::pb::etcdserverpb::PutRequest {
        key: key.into(),
        value,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_turns_up_under_a_retired_key_is_opened_counted_audited_and_written_again() {
    let etcd = Etcd::start(Version::V3_4).await;
    let direct = etcd.client().await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let log = path_of(&shared, "audit.log");
    let proxy = shared.setup("a").flag(format!("--audit-log-path={log}")).start();
    let other = shared.member("b");
    let client = proxy.client().await;
    client.put(key(0), value(0)).await;
    let late = direct.value(&key(0)).await;
    rotate(&shared).await;
    assert_eq!(retired_reads(&proxy).await, 0);

    // However it came there.
    direct.put(key(0), late.clone()).await;
    assert_eq!(client.value(&key(0)).await, value(0));
    assert_eq!(retired_reads(&proxy).await, 1);
    until_all_are_under_the_present_key(&shared, &direct).await;
    assert_eq!(other.client().await.value(&key(0)).await, value(0));
    until("the audit log", async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines()
            .any(|line| line.contains("\"key_first_used\"") && line.contains("\"k1\""))
    })
    .await;
    // Nothing of it writes.
    client.put(key(1), value(1)).await;
    until_all_are_under_the_present_key(&shared, &direct).await;
    // Purged, it opens nothing any more; and as long as something needs it, it is not purged.
    let elsewhere = "/registry/leases/default/where-no-rule-has-it-written-again";
    direct.put(elsewhere, late.clone()).await;
    let purged = shared.run(&["purge", "--all", "--yes"]).await;
    assert_eq!(purged.code, Some(7), "{purged:#?}");
    direct.delete(elsewhere).await;
    let purged = shared.run(&["purge", "--all", "--yes"]).await;
    assert_eq!(purged.code, Some(0), "{purged:#?}");
    direct.put(key(0), late.clone()).await;
    until("a process without the key", async || {
        client.value(&key(0)).await == late
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_opens_less_is_not_put_back() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let (early, late) = (path_of(&shared, "early.json"), path_of(&shared, "late.json"));
    let endpoint = etcd.endpoint();
    {
        let proxy = shared.member("a");
        fill(&proxy.client().await).await;
        let made = keyring(&shared, &endpoint, &["backup", &early]).await;
        assert_eq!(made.code, Some(0), "{made:#?}");
        rotate(&shared).await;
        let made = keyring(&shared, &endpoint, &["backup", &late]).await;
        assert_eq!(made.code, Some(0), "{made:#?}");
    }
    // Somebody deletes the proxy's records.
    for kv in direct.everything().await {
        if kv.key.starts_with(b"/etcd-encryption-proxy/keyring")
            || kv.key.starts_with(b"/etcd-encryption-proxy/archive/")
        {
            direct.delete(kv.key).await;
        }
    }
    let refused = keyring(&shared, &endpoint, &["restore", &early]).await;
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(
        refused.stderr.contains("100 stored values would not open")
            && refused.stderr.contains("restore a later backup"),
        "{refused:#?}"
    );
    assert!(
        direct
            .everything()
            .await
            .iter()
            .all(|kv| !kv.key.ends_with(b"/keyring"))
    );
    let restored = keyring(&shared, &endpoint, &["restore", &late]).await;
    assert_eq!(restored.code, Some(0), "{restored:#?}");
    let proxy = shared.member("a");
    assert_eq!(readable(&proxy.client().await).await, VALUES);
}
