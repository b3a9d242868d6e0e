//! One sweep at a time, and what becomes of one that is it no more.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{CBC_1, CBC_2, CHECKPOINT, OWNER, expect_end, wait_for};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::LeaseRevokeRequest;
use crate::common::process::{PATIENCE, Process};
use crate::common::sweep::{GCM, K1, K2, Outcome, Sweep, expect_filled, fill, key};
use crate::common::tools::Version;

#[tokio::test]
async fn one_sweep_at_a_time_and_one_that_is_stopped_is_taken_up() {
    const KEYS: usize = 3_000;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut first, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=500").start();
    first.wait_for("the rewrite", |output| output.contains("rewriting").then_some(()));

    let second = Sweep::of(&etcd, &[K2, K1]).run().await;
    assert_eq!(second.code, Some(5), "{second:#?}");
    assert!(
        second.stderr.contains(&format!("process {}", first.id())),
        "{second:#?}"
    );
    // Looking is free.
    assert_eq!(Sweep::of(&etcd, &[K2, K1]).flag("--dry-run").run().await.code, Some(3));

    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(6), "{}", first.output());
    let third = Sweep::of(&etcd, &[K2, K1]).run().await;
    third.expect_clean();
    assert!(third.stderr.contains("going on with the sweep of"), "{third:#?}");
    assert_eq!(third.number("/counts/rewritten"), KEYS as u64);
    expect_filled(&client, KEYS, 100, CBC_2).await;

    // Another configuration is another work.
    let (mut fourth, _folder) = Sweep::of(&etcd, &[K1, K2]).flag("--rate=500").start();
    fourth.wait_for("the rewrite", |output| output.contains("rewriting").then_some(()));
    fourth.signal("TERM");
    assert_eq!(fourth.wait().code(), Some(6), "{}", fourth.output());
    let fifth = Sweep::of(&etcd, &[GCM, K1, K2]).run().await;
    fifth.expect_clean();
    assert!(fifth.stderr.contains("beginning anew"), "{fifth:#?}");
}

const KEYS: usize = 2_000;
const GCM_1: &str = "k8s:enc:aesgcm:v1:g1:";

/// A slow sweep at work, which could also read what the other one writes.
async fn slow(etcd: &Etcd, client: &Client) -> (Process, tempfile::TempDir) {
    fill(client, KEYS, 100).await;
    let (mut process, folder) = Sweep::of(etcd, &[K2, GCM, K1]).flag("--rate=200").start();
    wait_for(&mut process, "rewriting");
    let start = Instant::now();
    while client.value(&key(0)).await.starts_with(CBC_1.as_bytes()) {
        assert!(start.elapsed() < PATIENCE, "nothing is rewritten");
        sleep(Duration::from_millis(5)).await;
    }
    (process, folder)
}

/// Another one, which has other work to do.
async fn other(etcd: &Etcd) -> Outcome {
    Sweep::of(etcd, &[GCM, K2, K1]).run().await
}

#[tokio::test]
async fn one_whose_lease_is_revoked_stops_and_leaves_the_work_to_the_next() {
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    let (mut process, _folder) = slow(&etcd, &client).await;
    let id = client.get(OWNER).await.expect("an owner").lease;
    client.lease().lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
    let output = expect_end(&mut process, 6);
    assert!(output.contains("lost its lease"), "{output}");
    other(&etcd).await.expect_clean();
    expect_filled(&client, KEYS, 100, GCM_1).await;
}

#[tokio::test]
async fn one_whose_record_is_deleted_stops_although_its_lease_lives() {
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    let (mut process, _folder) = slow(&etcd, &client).await;
    client.delete(OWNER).await;
    // Both at once for a moment: nothing is lost by that.
    let second = other(&etcd).await;
    assert!(second.code == Some(0) || second.code == Some(3), "{second:#?}");
    let output = expect_end(&mut process, 6);
    assert!(output.contains("somebody else became the owner"), "{output}");
    other(&etcd).await.expect_clean();
    expect_filled(&client, KEYS, 100, GCM_1).await;
}

#[tokio::test]
async fn one_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    let (mut process, _folder) = slow(&etcd, &client).await;
    process.signal("STOP");
    let start = Instant::now();
    while client.get(OWNER).await.is_some() {
        assert!(start.elapsed() < PATIENCE, "its lease does not end");
        sleep(Duration::from_millis(50)).await;
    }
    other(&etcd).await.expect_clean();
    let before = client.everything().await;
    process.signal("CONT");
    let output = expect_end(&mut process, 6);
    assert!(output.contains("lost its lease"), "{output}");
    assert!(client.everything().await == before, "it wrote something");
    expect_filled(&client, KEYS, 100, GCM_1).await;
}

#[tokio::test]
async fn of_many_at_once_one_does_the_work() {
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let sweeps: Vec<_> = (0..6)
        .map(|_| tokio::spawn(Sweep::of(&etcd, &[K2, K1]).run()))
        .collect();
    let mut rewritten = 0;
    for sweep in sweeps {
        let outcome = sweep.await.unwrap();
        // One that comes late finds the work done.
        assert!(matches!(outcome.code, Some(0 | 5)), "{outcome:#?}");
        if outcome.code == Some(0) {
            rewritten += outcome.number("/counts/rewritten");
        }
    }
    assert_eq!(rewritten, KEYS as u64);
    expect_filled(&client, KEYS, 100, CBC_2).await;
    let kvs = client.everything().await;
    assert!(
        kvs.iter()
            .all(|kv| kv.version == 2 || !kv.key.starts_with(b"/registry/"))
    );
}

#[tokio::test]
async fn a_checkpoint_that_is_none_is_told_and_begun_anew_where_that_is_asked_for() {
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, 300, 100).await;
    client.put(CHECKPOINT, "{}").await;
    let refused = Sweep::of(&etcd, &[K2, K1]).run().await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("`sweep --restart` begins anew"), "{refused:#?}");
    expect_filled(&client, 300, 100, CBC_1).await;
    Sweep::of(&etcd, &[K2, K1]).flag("--restart").run().await.expect_clean();
    expect_filled(&client, 300, 100, CBC_2).await;
}
