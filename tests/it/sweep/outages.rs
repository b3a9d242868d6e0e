//! Sweeps whose etcd goes away, loses its leader, or has no space.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::{Beside, CBC_1, CBC_2, expect_end, keys, revision, seed, wait_for};
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::{Etcd, Setup};
use crate::common::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::common::pb::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, StatusRequest,
};
use crate::common::process::{PATIENCE, Process};
use crate::common::sweep::{K1, K2, Sweep, expect_filled, fill, key};
use crate::common::tools::Version;

#[tokio::test]
async fn an_etcd_that_dies_is_waited_for_and_one_without_space_only_so_long() {
    const KEYS: usize = 3_000;
    // Soon filled, and room enough for the first rewrite.
    let mut etcd = Setup::new(Version::share())
        .flag("--quota-backend-bytes=16777216")
        .start()
        .await;
    fill(&etcd.client().await, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=2000").start();
    process.wait_for("the rewrite", |output| output.contains("rewriting").then_some(()));
    etcd.kill();
    etcd.spawn();
    etcd.ready().await;
    let status = process.wait();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    let client = etcd.client().await;
    expect_filled(&client, KEYS, 100, CBC_2).await;

    let mut filler = 0;
    let put = |index: usize| PutRequest {
        key: format!("/filler/{index}").into_bytes(),
        value: vec![0; 1_000_000],
        ..PutRequest::default()
    };
    while client.kv().put(put(filler)).await.is_ok() {
        filler += 1;
    }
    let full = Sweep::of(&etcd, &[K1, K2]).flag("--max-wait=1s").run().await;
    assert_eq!(full.code, Some(6), "{full:#?}");
    assert!(full.stderr.contains("database space exceeded"), "{full:#?}");
    expect_filled(&client, KEYS, 100, CBC_2).await;
}

/// Waits until it has written something.
async fn at_work(process: &mut Process, client: &Client) {
    wait_for(process, "rewriting");
    let start = Instant::now();
    while client.value(&key(0)).await.starts_with(CBC_1.as_bytes()) {
        assert!(
            start.elapsed() < PATIENCE,
            "nothing is rewritten:\n{}",
            process.output()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_stops_again_and_again_beside_writers_is_waited_for() {
    let (keys, seed) = (keys(2_500), seed());
    let mut random = StdRng::seed_from_u64(seed);
    for version in Version::two() {
        let mut etcd = Etcd::start(version).await;
        fill(&etcd.client().await, keys, 100).await;
        let beside = Beside::begin(&[etcd.endpoint()], keys, &[], seed).await;
        let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=1000").start();
        wait_for(&mut process, "rewriting");
        for _ in 0..3 {
            sleep(Duration::from_millis(random.random_range(0..800))).await;
            etcd.kill_or_stop();
            sleep(Duration::from_millis(random.random_range(0..1_500))).await;
            etcd.spawn();
            etcd.ready().await;
            beside.writers.progress(50).await;
        }
        expect_end(&mut process, 0);
        beside.end(&etcd.client().await, &[]).await.expect_rotated_once();
    }
}

#[tokio::test]
async fn an_outage_that_is_longer_than_the_sweeps_lease_is_waited_for() {
    const KEYS: usize = 2_000;
    let mut etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=500").start();
    at_work(&mut process, &client).await;
    etcd.kill_or_stop();
    // A lease is 15 s, and lives anew when etcd starts.
    sleep(Duration::from_secs(20)).await;
    assert!(process.is_running(), "{}", process.output());
    etcd.spawn();
    etcd.ready().await;
    expect_end(&mut process, 0);
    expect_filled(&etcd.client().await, KEYS, 100, CBC_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_its_leader_is_swept_all_the_same() {
    let (keys, seed) = (keys(2_500), seed());
    let mut random = StdRng::seed_from_u64(seed);
    for version in Version::two() {
        let mut cluster = Cluster::start(version).await;
        let urls: Vec<_> = cluster.members.iter().map(Etcd::endpoint).collect();
        fill(&cluster.members[0].client().await, keys, 100).await;
        let beside = Beside::begin(&urls, keys, &[], seed).await;
        let (mut process, _folder) = Sweep::on(&cluster.endpoints(), &[K2, K1]).flag("--rate=800").start();
        wait_for(&mut process, "rewriting");
        for _ in 0..2 {
            sleep(Duration::from_millis(random.random_range(0..800))).await;
            let leader = cluster.leader().await;
            cluster.members[leader].kill();
            beside.writers.progress(100).await;
            cluster.members[leader].spawn();
            cluster.members[leader].ready().await;
        }
        expect_end(&mut process, 0);
        let client = cluster.members[0].client().await;
        beside.end(&client, &[]).await.expect_rotated_once();
    }
}

#[tokio::test]
async fn a_store_that_fills_up_meanwhile_is_waited_for_until_there_is_room() {
    const KEYS: usize = 2_000;
    let etcd = Setup::new(Version::share())
        .flag("--quota-backend-bytes=16777216")
        .start()
        .await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=500").start();
    at_work(&mut process, &client).await;
    let mut filler = 0;
    let put = |index: usize| PutRequest {
        key: format!("/filler/{index}").into_bytes(),
        value: vec![0; 1_000_000],
        ..PutRequest::default()
    };
    while client.kv().put(put(filler)).await.is_ok() {
        filler += 1;
    }
    wait_for(&mut process, "writing waits: etcdserver: mvcc: database space exceeded");
    // What an operator does.
    let all = DeleteRangeRequest {
        key: b"/filler/".to_vec(),
        range_end: b"/filler0".to_vec(),
        ..DeleteRangeRequest::default()
    };
    client.kv().delete_range(all).await.unwrap();
    let request = CompactionRequest {
        revision: revision(&client).await,
        physical: true,
    };
    client.kv().compact(request).await.unwrap();
    client.maintenance().defragment(DefragmentRequest {}).await.unwrap();
    let status = client
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: status.header.unwrap().member_id,
        alarm: AlarmType::Nospace.into(),
    };
    client.maintenance().alarm(disarm).await.unwrap();
    let output = expect_end(&mut process, 0);
    assert!(output.contains("writing goes on"), "{output}");
    expect_filled(&client, KEYS, 100, CBC_2).await;
}

/// Longer than a sweep waits for an answer, so that writes happen which it was not told of.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_stands_still_is_waited_for_and_writes_without_an_answer_are_known_again() {
    let (keys, seed) = (keys(2_000), seed());
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, keys, 100).await;
    let beside = Beside::begin(&[etcd.endpoint()], keys, &[], seed).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=500").start();
    at_work(&mut process, &client).await;
    etcd.freeze(true);
    sleep(Duration::from_secs(17)).await;
    etcd.freeze(false);
    // Whether its lease is ended before its signs of life are heard is etcd's to decide.
    let status = process.wait();
    assert!(matches!(status.code(), Some(0 | 6)), "{}", process.output());
    Sweep::of(&etcd, &[K2, K1]).run().await.expect_clean();
    beside.end(&client, &[]).await.expect_rotated_once();
}

/// What an operator does who restores a backup while a sweep waits for etcd: revisions are given out a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_back_in_time_keeps_what_is_written_then() {
    let (keys, seed) = (keys(1_500), seed());
    let mut etcd = Etcd::start(Version::share()).await;
    fill(&etcd.client().await, keys, 100).await;
    etcd.kill_or_stop();
    etcd.back_up();
    etcd.spawn();
    etcd.ready().await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=500").start();
    at_work(&mut process, &etcd.client().await).await;
    etcd.kill_or_stop();
    etcd.restore();
    etcd.spawn();
    etcd.ready().await;
    let beside = Beside::begin(&[etcd.endpoint()], keys, &[], seed).await;
    let status = process.wait();
    assert!(status.code().is_some(), "{}", process.output());
    Sweep::of(&etcd, &[K2, K1]).run().await;
    Sweep::of(&etcd, &[K2, K1]).run().await.expect_clean();
    beside.end(&etcd.client().await, &[]).await.expect_rotated_once();
}

#[tokio::test]
async fn a_sweep_that_is_to_stop_does_not_wait_for_an_etcd_that_is_away() {
    const KEYS: usize = 2_000;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=1000").start();
    at_work(&mut process, &client).await;
    etcd.freeze(true);
    process.signal("TERM");
    expect_end(&mut process, 6);
    etcd.freeze(false);
    Sweep::of(&etcd, &[K2, K1]).run().await.expect_clean();
    expect_filled(&client, KEYS, 100, CBC_2).await;
}
