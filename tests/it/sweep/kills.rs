//! Sweeps that are killed anywhere.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::time::sleep;

use super::{Beside, CBC_2, CHECKPOINT, keys, revision, seed};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::LeaseGrantRequest;
use crate::common::sweep::{K1, K2, Sweep, expect_filled, fill};
use crate::common::tools::Version;

/// What may be done twice after a kill.
const PAGE: usize = 1_000;

#[tokio::test]
async fn killed_again_and_again_it_finishes_and_nothing_is_lost() {
    const KEYS: usize = 6_000;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let mut kills = 0;
    let sweep = || Sweep::of(&etcd, &[K2, K1]).flag("--rate=6000");
    while kills < 12 {
        let (mut process, _folder) = sweep().start();
        // Anywhere between its first breath and its proof.
        sleep(Duration::from_millis(rand::random_range(30..400))).await;
        if !process.is_running() {
            break;
        }
        process.kill();
        kills += 1;
    }
    let outcome = sweep().run().await;
    outcome.expect_clean();
    assert!(kills > 2, "it was killed {kills} times");
    expect_filled(&client, KEYS, 100, CBC_2).await;
    let versions = client.everything().await;
    let secrets = versions.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    assert!(
        secrets.clone().all(|kv| kv.version == 2),
        "each was written exactly once"
    );
    // Counts go with the checkpoint's position, so what was looked at again is counted once.
    assert_eq!(outcome.number("/counts/scanned"), KEYS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_beside_writers_it_loses_nothing() {
    const KILLS: usize = 20;
    let (keys, seed) = (keys(3_000), seed());
    let mut random = StdRng::seed_from_u64(seed);
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, keys, 100).await;
    let grant = LeaseGrantRequest {
        ttl: 3_600,
        ..LeaseGrantRequest::default()
    };
    let lease = client.lease().lease_grant(grant).await.unwrap().into_inner().id;
    let beside = Beside::begin(&[etcd.endpoint()], keys, &[lease], seed).await;
    // Kills while values were rewritten: when, and where the next one begins.
    let mut begins = Vec::new();
    let (mut kills, mut is_done) = (0, false);
    while kills < KILLS {
        let before = position(&client).await;
        let sweep = Sweep::of(&etcd, &[K2, K1]).flag("--rate=1500");
        let (mut process, _folder) = sweep.start();
        if kills % 2 == 1 {
            // Every other one not before it has noted how far it came, however long that takes on a busy machine.
            while process.is_running() && position(&client).await == before {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_millis(random.random_range(0..100))).await;
        } else {
            sleep(Duration::from_millis(random.random_range(5..500))).await;
        }
        if !process.is_running() {
            // There is another to kill, which has nothing left to rewrite.
            assert_eq!(process.wait().code(), Some(0), "{}", process.output());
            is_done = true;
            continue;
        }
        process.kill();
        kills += 1;
        let now = revision(&client).await;
        if let Some(position) = position(&client).await.filter(|_| !is_done) {
            begins.push((now, position));
        }
    }
    let outcome = Sweep::of(&etcd, &[K2, K1]).run().await;
    outcome.expect_clean();
    let story = beside.end(&client, &[]).await;
    story.expect_rotated_once();
    assert!(begins.len() > 3, "only {} kills hit the rewrite", begins.len());
    for (at, position) in begins {
        let again = story
            .rewrites
            .iter()
            .filter(|(revision, key)| *revision <= at && *key >= position);
        assert!(again.count() <= PAGE);
    }
}

/// Where a sweep that rewrites would be taken up; nothing where it is past that.
async fn position(client: &Client) -> Option<Vec<u8>> {
    let record: Value = serde_json::from_slice(&client.get(CHECKPOINT).await?.value).expect("JSON");
    let position = record["position"].as_str().expect("a position");
    (record["stage"] == "rewrite").then(|| hex::decode(position).expect("hexadecimal"))
}
