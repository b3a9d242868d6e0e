//! From every kind of storage to every other, and what a sweep says of what it finds and leaves.

use std::fs;
use std::process::Command;
use std::time::Instant;

use super::{CBC_1, CBC_2, revision};
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, StatusRequest,
};
use crate::common::pb::mvccpb::KeyValue;
use crate::common::proxy::BINARY;
use crate::common::rotation::Shared;
use crate::common::sweep::{GCM, IDENTITY, K1, K2, Sweep, document, expect_filled, fill, key, opened, sealed_with_k1};
use crate::common::tools::Version;

/// What a sweep must leave as it was.
fn lasting(kvs: &[KeyValue]) -> Vec<(Vec<u8>, Vec<u8>, i64, i64)> {
    let secrets = kvs.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    secrets
        .map(|kv| (kv.key.clone(), opened(kv), kv.create_revision, kv.lease))
        .collect()
}

#[tokio::test]
async fn a_store_goes_through_every_change_and_back() {
    for version in Version::two() {
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
async fn a_value_that_nobody_can_open_is_named_and_the_others_are_done() {
    let etcd = Etcd::start(Version::share()).await;
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
async fn history_goes_where_that_is_asked_for() {
    let etcd = Etcd::start(Version::share()).await;
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
    let before = RangeRequest {
        key: key(0).into_bytes(),
        revision: needed - 1,
        ..RangeRequest::default()
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
    // To have every member let go of it, a little of what came later goes too.
    let now = RangeRequest { revision: 0, ..before };
    let kvs = client.range(now).await.kvs;
    assert!(kvs[0].value.starts_with(CBC_2.as_bytes()));
}

/// One member is named; the others say where they are.
#[tokio::test]
async fn every_member_of_the_cluster_is_defragmented_or_named() {
    const PLAIN: &str = "plaintext-that-was-here-before";
    let mut cluster = Cluster::start(Version::share()).await;
    let client = cluster.members[0].client().await;
    for index in 0..300 {
        client.put(key(index), PLAIN.repeat(100)).await;
    }
    let holds = |member: &Etcd| {
        let database = fs::read(member.folder().join("data/member/snap/db")).expect("a database");
        database.windows(PLAIN.len()).any(|bytes| bytes == PLAIN.as_bytes())
    };
    let sweep = |providers: &[&str]| {
        Sweep::on(&cluster.members[0].endpoint(), providers)
            .flag("--compact")
            .flag("--defrag")
    };
    let outcome = sweep(&[K1, IDENTITY]).run().await;
    outcome.expect_clean();
    let done = outcome.report["defragmented"].as_array().expect("members");
    assert_eq!(done.len(), 3, "{outcome:#?}");
    assert!(done.iter().all(|one| one["why"].is_null()), "{outcome:#?}");
    for member in &cluster.members {
        assert!(!holds(member), "{} still has it", member.name());
    }

    let (dead, endpoint) = (cluster.members[2].name(), cluster.members[0].endpoint());
    cluster.members[2].kill();
    let shared = Shared::on(&endpoint, &document(&[K2, K1]));
    let mut command = Command::new(BINARY);
    command
        .args(["sweep", "--compact", "--defrag"])
        .arg(format!("--etcd-servers={endpoint}"))
        .arg(format!("--encryption-provider-config={}", shared.path().display()));
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts"))
        .await
        .expect("its thread");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    let missing = format!("NOT defragmented: {dead} (");
    assert!(stdout.contains(&missing), "{stdout}");
    assert!(stderr.contains("not every member of etcd was defragmented"), "{stderr}");
    for place in ["free pages", "write-ahead log", "backups"] {
        assert!(stdout.contains(place), "no {place} in {stdout}");
    }
    assert!(!stdout.contains("in etcd's history, until"), "{stdout}");
}

#[tokio::test]
async fn many_secrets() {
    const KEYS: usize = 20_000;
    let etcd = Etcd::start(Version::share()).await;
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

/// What no key opens has a say in how its entry looks, and there may be very many of them.
#[tokio::test]
async fn however_much_does_not_open_the_record_of_it_fits_and_stays_small() {
    const KEYS: usize = 3_000;
    const BROKEN: usize = 1_500;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    let value = format!("k8s:enc:aescbc:v1:{}:rubbish", "l".repeat(250));
    for index in 0..BROKEN {
        client
            .put(
                format!("/registry/secrets/{}/{index:04}", "\u{fc}".repeat(240)),
                value.as_str(),
            )
            .await;
    }
    fill(&client, KEYS, 100).await;
    let before = size(&client).await;
    let outcome = Sweep::of(&etcd, &[K2, K1]).run().await;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert_eq!(outcome.number("/counts/rewritten"), KEYS as u64);
    assert_eq!(outcome.number("/counts/undecryptable"), BROKEN as u64);
    assert_eq!(outcome.report["left"].as_array().unwrap().len(), 1_000);
    let grown = size(&client).await - before;
    assert!(grown < 8 * 1024 * 1024, "the backend has grown by {} KiB", grown / 1024);
}

async fn size(client: &Client) -> i64 {
    let status = client.maintenance().status(StatusRequest {}).await.unwrap();
    status.into_inner().db_size
}

/// etcd takes it in the clear, and not sealed, which is a little longer.
#[tokio::test]
async fn a_value_at_etcds_limit_is_told_and_the_others_are_done() {
    // 1.5 MiB for the request, with its key and its fields.
    const LARGEST: usize = 1_572_864 - 60;
    const KEYS: usize = 200;
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let large: Vec<_> = (0..12).map(|index| format!("/registry/secrets/a/{index:02}")).collect();
    for key in &large {
        client.put(key.as_str(), vec![b'v'; LARGEST]).await;
    }
    let outcome = Sweep::of(&etcd, &[K2, K1, IDENTITY]).run().await;
    assert_eq!(outcome.code, Some(3), "{outcome:#?}");
    assert_eq!(outcome.number("/counts/rewritten"), KEYS as u64);
    assert_eq!(outcome.number("/counts/refused"), large.len() as u64);
    let left = outcome.report["left"].as_array().unwrap();
    let named: Vec<_> = left.iter().map(|left| left["etcdKey"].as_str().unwrap()).collect();
    assert_eq!(named, large);
    assert!(
        left[0]["why"].as_str().unwrap().contains("--max-request-bytes"),
        "{outcome:#?}"
    );
}

/// AES-CBC authenticates nothing: every 256th value opens with a wrong key, to rubbish.
#[tokio::test]
async fn what_a_wrong_key_opens_to_is_not_taken_for_a_value() {
    const KEYS: usize = 3_000;
    const WRONG: &str = "{aescbc: {keys: [{name: k1, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}}";
    let etcd = Etcd::start(Version::share()).await;
    let client = etcd.client().await;
    fill(&client, KEYS, 100).await;
    let outcome = Sweep::of(&etcd, &[K2, WRONG]).run().await;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert_eq!(outcome.number("/counts/rewritten"), 0);
    assert_eq!(outcome.number("/counts/undecryptable"), KEYS as u64);
    expect_filled(&client, KEYS, 100, CBC_1).await;
}
