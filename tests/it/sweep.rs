//! `sweep` on real etcds: from every kind of storage to every other, beside those who read and write, killed, in pairs,
//! overtaken by compaction, and with values that nobody can open.

use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::etcd::{Etcd, Setup};
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest};
use crate::common::pb::mvccpb::KeyValue;
use crate::common::proxy::Proxy;
use crate::common::sweep::{
    GCM, IDENTITY, K1, K2, Sweep, document, expect_filled, fill, key, opened, plaintext, sealed_with_k1,
};
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const CBC_1: &str = "k8s:enc:aescbc:v1:k1:";
const CBC_2: &str = "k8s:enc:aescbc:v1:k2:";

async fn revision(client: &Client) -> i64 {
    let answer = client.range(crate::common::pb::etcdserverpb::RangeRequest {
        key: b"nothing".to_vec(),
        ..Default::default()
    });
    answer.await.header.expect("a header").revision
}

/// What a sweep must leave as it was.
fn lasting(kvs: &[KeyValue]) -> Vec<(Vec<u8>, Vec<u8>, i64, i64)> {
    let secrets = kvs.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    secrets
        .map(|kv| (kv.key.clone(), opened(kv), kv.create_revision, kv.lease))
        .collect()
}

#[tokio::test]
async fn a_store_goes_through_every_change_and_back() {
    for version in Version::ALL {
        let etcd = Etcd::start(version).await;
        let client = etcd.client().await;
        let grant = LeaseGrantRequest {
            ttl: 3_600,
            ..LeaseGrantRequest::default()
        };
        let lease = client.lease().lease_grant(grant).await.unwrap().into_inner().id;
        for index in 0..120 {
            // One has no bytes, and some pages of few keys are larger than others of many.
            let size = if index % 40 == 7 { 700_000 } else { index * 10 };
            client
                .kv()
                .put(PutRequest {
                    key: key(index).into_bytes(),
                    value: vec![b'v'; size],
                    lease: if index % 3 == 0 { lease } else { 0 },
                    ..PutRequest::default()
                })
                .await
                .unwrap();
        }
        client.put("/registry/configmaps/default/a", "plain").await;
        client.put("/registry/secretsandmore/default/a", "plain").await;
        let others = |kvs: &[KeyValue]| -> Vec<KeyValue> {
            let is_other =
                |kv: &&KeyValue| !kv.key.starts_with(b"/registry/secrets/") && !kv.key.starts_with(b"/etcd-enc");
            kvs.iter().filter(is_other).cloned().collect()
        };
        let start = client.everything().await;

        let before = revision(&client).await;
        let look = Sweep::of(&etcd, &[K1, IDENTITY]).flag("--dry-run").run().await;
        assert_eq!(
            (look.code, look.objects("plaintext", "identity", "")),
            (Some(3), 120),
            "{look:#?}"
        );
        assert_eq!(revision(&client).await, before, "a dry run writes nothing");

        for (providers, prefix, row) in [
            (&[K1, IDENTITY][..], CBC_1, ("aescbc", "k1")),
            (&[K2, K1][..], CBC_2, ("aescbc", "k2")),
            (&[GCM, K2][..], "k8s:enc:aesgcm:v1:g1:", ("aesgcm", "g1")),
            (&[IDENTITY, GCM][..], "", ("identity", "")),
        ] {
            let outcome = Sweep::of(&etcd, providers).run().await;
            outcome.expect_clean();
            assert_eq!(outcome.number("/counts/rewritten"), 120);
            assert_eq!(outcome.objects("current", row.0, row.1), 120);
            let now = client.everything().await;
            assert_eq!(lasting(&now), lasting(&start));
            assert_eq!(others(&now), others(&start));
            let is_sealed = |kv: &&KeyValue| kv.value.starts_with(b"k8s:enc:");
            let sealed = now.iter().filter(is_sealed).count();
            assert_eq!(sealed, if prefix.is_empty() { 0 } else { 120 });
            assert!(
                now.iter()
                    .filter(is_sealed)
                    .all(|kv| kv.value.starts_with(prefix.as_bytes()))
            );
            // Once more: there is nothing to do.
            let again = Sweep::of(&etcd, providers).run().await;
            again.expect_clean();
            assert_eq!(again.number("/counts/rewritten"), 0);
        }
        let left = LeaseTimeToLiveRequest { id: lease, keys: true };
        let left = client.lease().lease_time_to_live(left).await.unwrap().into_inner();
        assert_eq!(left.keys.len(), 40);
    }
}

#[tokio::test]
async fn values_go_to_a_kms_follow_its_key_and_come_back() {
    const KEYS: usize = 200;
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let plugin = Plugin::start();
    let kms = |version: &str| {
        let endpoint = plugin.endpoint();
        format!("{{kms: {{apiVersion: {version}, name: plugin-{version}, endpoint: '{endpoint}', timeout: 1s}}}}")
    };
    let (v1, v2) = (kms("v1"), kms("v2"));
    let outcome = Sweep::of(&etcd, &[&v2, K1]).run().await;
    outcome.expect_clean();
    assert_eq!(outcome.objects("current", "kms v2", "plugin-v2"), KEYS as u64);
    let again = Sweep::of(&etcd, &[&v2, K1]).run().await;
    again.expect_clean();
    assert_eq!(again.number("/counts/rewritten"), 0);

    // What the old key ID is on is stale now, by the configuration that it is read with as before.
    plugin.behaviour().key = 1;
    let look = Sweep::of(&etcd, &[&v2, K1]).flag("--dry-run").run().await;
    assert_eq!(
        (look.code, look.objects("stale", "kms v2", "plugin-v2")),
        (Some(3), KEYS as u64),
        "{look:#?}"
    );
    let rotated = Sweep::of(&etcd, &[&v2]).run().await;
    rotated.expect_clean();
    assert_eq!(rotated.number("/counts/rewritten"), KEYS as u64);

    let outcome = Sweep::of(&etcd, &[&v1, &v2]).run().await;
    outcome.expect_clean();
    assert_eq!(outcome.objects("current", "kms v1", "plugin-v1"), KEYS as u64);
    Sweep::of(&etcd, &[K1, &v1]).run().await.expect_clean();
    expect_filled(&client, KEYS, 100, CBC_1).await;
}

#[tokio::test]
async fn who_writes_and_watches_meanwhile_loses_nothing() {
    const KEYS: usize = 2_000;
    const WRITES: usize = 1_500;
    let etcd = Etcd::start(Version::V3_5).await;
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
async fn killed_again_and_again_it_finishes_and_nothing_is_lost() {
    const KEYS: usize = 6_000;
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let mut kills = 0;
    let sweep = || Sweep::of(&etcd, &[K2, K1]).flag("--rate=6000");
    while kills < 12 {
        let (mut process, _folder) = sweep().start();
        // Anywhere between its first breath and its proof.
        tokio::time::sleep(Duration::from_millis(rand::random_range(30..400))).await;
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

#[tokio::test]
async fn a_value_that_nobody_can_open_is_named_and_the_others_are_done() {
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, 500, 100).await;
    client
        .put(
            "/registry/secrets/default/s-000100x",
            "k8s:enc:secretbox:v1:lost:rubbish",
        )
        .await;
    let mut broken = sealed_with_k1("/registry/secrets/default/s-000200x", b"secret");
    let last = broken.len() - 1;
    broken[last] ^= 1;
    client.put("/registry/secrets/default/s-000200x", broken.clone()).await;

    let outcome = Sweep::of(&etcd, &[K2, K1]).run().await;
    assert_eq!(
        (outcome.code, outcome.number("/counts/rewritten")),
        (Some(4), 500),
        "{outcome:#?}"
    );
    assert_eq!(outcome.number("/counts/undecryptable"), 2);
    let left = outcome.report["left"].as_array().unwrap();
    let named: Vec<_> = left
        .iter()
        .map(|left| ["etcdKey", "provider", "key"].map(|field| left[field].as_str().unwrap()))
        .collect();
    assert_eq!(
        named,
        [
            ["/registry/secrets/default/s-000100x", "secretbox", "lost"],
            ["/registry/secrets/default/s-000200x", "aescbc", "k1"],
        ]
    );
    assert_eq!(client.value("/registry/secrets/default/s-000200x").await, broken);
    assert!(outcome.report["revisions"]["oldKeysNeededBefore"].is_null());
}

#[tokio::test]
async fn compaction_that_overtakes_the_scan_is_told_and_skips_nothing() {
    const KEYS: usize = 4_000;
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let (mut process, _folder) = Sweep::of(&etcd, &[K2, K1]).flag("--rate=2000").start();
    process.wait_for("the rewrite", |output| output.contains("rewriting").then_some(()));
    // Something must have been written since the scan began, or there is nothing to compact.
    while client.value(&key(0)).await.starts_with(CBC_1.as_bytes()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
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

#[tokio::test]
async fn one_sweep_at_a_time_and_one_that_is_stopped_is_taken_up() {
    const KEYS: usize = 3_000;
    let etcd = Etcd::start(Version::V3_5).await;
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

#[tokio::test]
async fn an_etcd_that_dies_is_waited_for_and_one_without_space_only_so_long() {
    const KEYS: usize = 3_000;
    // Soon filled, and room enough for the first rewrite.
    let mut etcd = Setup::new(Version::V3_5)
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

#[tokio::test]
async fn history_goes_where_that_is_asked_for() {
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, 300, 100).await;
    let kept = Sweep::of(&etcd, &[K2, K1]).run().await;
    kept.expect_clean();
    assert_eq!(kept.report["revisions"]["isCompacted"], false);
    let gone = Sweep::of(&etcd, &[K2, K1])
        .flag("--compact")
        .flag("--defrag")
        .run()
        .await;
    gone.expect_clean();
    assert_eq!(gone.report["revisions"]["isCompacted"], true);
    let needed = gone.report["revisions"]["oldKeysNeededBefore"].as_i64().unwrap();
    let before = crate::common::pb::etcdserverpb::RangeRequest {
        key: key(0).into_bytes(),
        revision: needed - 1,
        ..Default::default()
    };
    assert!(
        client
            .kv()
            .range(before.clone())
            .await
            .unwrap_err()
            .message()
            .contains("compacted")
    );
    let from = crate::common::pb::etcdserverpb::RangeRequest {
        revision: needed,
        ..before
    };
    let kvs = client.range(from).await.kvs;
    assert!(kvs[0].value.starts_with(CBC_2.as_bytes()));
}

#[tokio::test]
async fn many_secrets() {
    const KEYS: usize = 20_000;
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 1_024).await;
    let begun = Instant::now();
    let outcome = Sweep::of(&etcd, &[K2, K1]).run().await;
    outcome.expect_clean();
    eprintln!(
        "{KEYS} secrets of 1 KiB, old key to new, proof included: {:.1} s; {} rewritten a second",
        begun.elapsed().as_secs_f64(),
        outcome.report["rewrittenPerSecond"]
    );
    assert_eq!(outcome.number("/counts/rewritten"), KEYS as u64);
}
