//! Sweeps beside those who read and write, compact, and let leases end.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::{Beside, CBC_1, CBC_2, expect_end, keys, revision, seed, wait_for};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseTimeToLiveRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::sweep::{K1, K2, Sweep, document, expect_filled, fill, fill_leased, key, opened, plaintext};
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

#[tokio::test]
async fn who_writes_and_watches_meanwhile_loses_nothing() {
    const KEYS: usize = 2_000;
    const WRITES: usize = 1_500;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, 200).await;
    let proxy = Proxy::before(&etcd, document(&[K2, K1]));
    let through = proxy.client().await;
    let mut watch = Watch::open(&through, all_under("/registry/secrets/", revision(&direct).await + 1)).await;
    assert!(watch.next().await.created);

    let sweep = tokio::spawn(Sweep::of(&etcd, &[K2, K1]).run());
    let mut expected: Vec<Vec<u8>> = (0..KEYS).map(|index| plaintext(index, 200)).collect();
    let mut written = Vec::new();
    for turn in 0..WRITES {
        // Up and down the whole range, so that it goes through where the sweep is.
        let index = (turn * 7) % KEYS;
        let value = format!("write {turn}").into_bytes();
        let answer = through.put(key(index), value.clone()).await;
        written.push((answer.header.unwrap().revision, key(index).into_bytes(), value.clone()));
        expected[index] = value;
    }
    let outcome = sweep.await.unwrap();
    outcome.expect_clean();

    let rewritten = usize::try_from(outcome.number("/counts/rewritten")).unwrap();
    let events = watch.events(WRITES + rewritten).await;
    let revisions: Vec<_> = events
        .iter()
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "two keys never share a revision");
    let mut seen = events.iter().map(|event| event.kv.as_ref().unwrap());
    for (revision, key, value) in written {
        let event = seen
            .find(|kv| kv.mod_revision == revision)
            .expect("every write is seen, in order");
        assert_eq!((&event.key, &event.value), (&key, &value));
    }
    let now = direct.everything().await;
    let secrets: Vec<_> = now
        .iter()
        .filter(|kv| kv.key.starts_with(b"/registry/secrets/"))
        .collect();
    assert_eq!(secrets.len(), KEYS);
    for (kv, expected) in secrets.iter().zip(expected) {
        assert!(kv.value.starts_with(CBC_2.as_bytes()));
        assert_eq!(opened(kv), expected);
    }
}

#[tokio::test]
async fn compaction_that_overtakes_the_scan_is_told_and_skips_nothing() {
    const KEYS: usize = 4_000;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=2000").start();
    process.wait_for("the rewrite", |output| output.contains("rewriting").then_some(()));
    // Something must have been written since the scan began, or there is nothing to compact.
    while client.value(&key(0)).await.starts_with(CBC_1.as_bytes()) {
        sleep(Duration::from_millis(5)).await;
    }
    let request = CompactionRequest {
        revision: revision(&client).await,
        physical: false,
    };
    client.kv().compact(request).await.unwrap();
    let status = process.wait();
    let output = process.output();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("has been compacted away under the scan"), "{output}");
    expect_filled(&client, KEYS, 100, CBC_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_at_any_moment_again_and_again_skips_nothing() {
    // Large enough that pages are small.
    const SIZE: usize = 8_000;
    let (keys, seed) = (keys(1_500), seed());
    let mut random = StdRng::seed_from_u64(seed);
    for version in Version::two() {
        let etcd = Etcd::start(version).await;
        let client = etcd.client().await;
        fill(&client, keys, SIZE).await;
        let beside = Beside::begin(&[etcd.endpoint()], keys, &[], seed).await;
        let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=1000").start();
        wait_for(&mut process, "rewriting");
        let mut last = 0;
        while process.is_running() {
            sleep(Duration::from_millis(random.random_range(5..100))).await;
            // Anything up to what the witness has seen, who would have to start over otherwise.
            let to = random.random_range(last..=beside.witness.seen_to());
            if to > last {
                let physical = random.random();
                let request = CompactionRequest { revision: to, physical };
                client.kv().compact(request).await.unwrap();
                last = to;
            }
        }
        let output = expect_end(&mut process, 0);
        assert!(output.contains("has been compacted away under the scan"), "{output}");
        beside.end(&client, &[]).await.expect_rotated_once();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_lease_ends_meanwhile_go_and_the_others_keep_theirs() {
    let (keys, seed) = (keys(2_400), seed());
    for version in Version::two() {
        let etcd = Etcd::start(version).await;
        let client = etcd.client().await;
        let lasting = grant(&client, 3_600).await;
        let mut ending = Vec::new();
        // From before the sweep has come to its last key until behind that.
        for ttl in [4, 5, 6, 7] {
            ending.push(grant(&client, ttl).await);
        }
        let lease = |index: usize| match index % 3 {
            0 => 0,
            1 => lasting,
            _ => ending[index % ending.len()],
        };
        fill_leased(&client, keys, 100, lease).await;
        let beside = Beside::begin(&[etcd.endpoint()], keys, &[lasting], seed).await;
        let outcome = Sweep::of(&etcd, &[K2, K1]).flag("--rate=600").run().await;
        outcome.expect_clean();
        for &lease in &ending {
            let start = Instant::now();
            while time_left(&client, lease).await > 0 {
                assert!(start.elapsed() < PATIENCE, "a lease does not end");
                sleep(Duration::from_millis(50)).await;
            }
        }
        let story = beside.end(&client, &ending).await;
        assert!(
            story.end.values().all(|kv| !ending.contains(&kv.lease)),
            "what ended with its lease came back"
        );
        assert!(story.end.values().any(|kv| kv.lease == lasting));
        story.expect_rotated_once();
    }
}

async fn grant(client: &Client, ttl: i64) -> i64 {
    let request = LeaseGrantRequest {
        ttl,
        ..LeaseGrantRequest::default()
    };
    client.lease().lease_grant(request).await.unwrap().into_inner().id
}

/// Seconds; not above zero where it has ended.
async fn time_left(client: &Client, id: i64) -> i64 {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    client
        .lease()
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner()
        .ttl
}
