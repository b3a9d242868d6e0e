//! What the rules do besides sealing: refusals over ciphertext, values that do not open, setups that are doubtful.

use std::collections::BTreeSet;

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::{v3electionpb, v3lockpb};
use crate::common::proxy::{self, Proxy};
use crate::common::raw::{Ended, RawClient, frame};
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const SECRET: &str = "/registry/secrets/default/a";

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[tokio::test]
async fn nothing_is_compared_or_sorted_by_ciphertext() {
    let etcd = Etcd::start(Version::share()).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    client.put(SECRET, "value").await;
    let revision = client.get(SECRET).await.unwrap().mod_revision;
    let compare = |key: &str, range_end: &str| Compare {
        target: CompareTarget::Value.into(),
        key: key.into(),
        target_union: Some(TargetUnion::Value(b"value".to_vec())),
        range_end: range_end.into(),
        ..Compare::default()
    };
    for (key, end) in [(SECRET, ""), ("/registry/", "/registry0"), ("/r", "0")] {
        let txn = TxnRequest {
            compare: vec![compare(key, end)],
            success: vec![op(Op::RequestPut(put(SECRET, "written")))],
            failure: vec![op(Op::RequestPut(put(SECRET, "written")))],
        };
        let nested = TxnRequest {
            success: vec![op(Op::RequestTxn(txn.clone()))],
            ..TxnRequest::default()
        };
        for txn in [txn, nested] {
            let status = client.kv().txn(txn).await.expect_err("a comparison with ciphertext");
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{key}: {status:?}");
        }
        let sort = RangeRequest {
            key: key.into(),
            range_end: end.into(),
            sort_target: SortTarget::Value.into(),
            sort_order: SortOrder::Ascend.into(),
            ..RangeRequest::default()
        };
        if !end.is_empty() {
            let status = client.kv().range(sort).await.expect_err("an order of ciphertext");
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{key}: {status:?}");
        }
    }
    assert_eq!(
        client.get(SECRET).await.unwrap().mod_revision,
        revision,
        "something was written all the same"
    );
}

#[tokio::test]
async fn locks_and_elections_stay_out_of_encrypted_prefixes() {
    let etcd = Etcd::start(Version::share()).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    client
        .lease()
        .lease_grant(LeaseGrantRequest { ttl: 3600, id: 77 })
        .await
        .unwrap();
    let before = etcd.client().await.everything().await;
    for name in ["/registry/secrets/default/lock", "/registry/secrets"] {
        let lock = v3lockpb::LockRequest {
            name: name.into(),
            lease: 77,
        };
        client.lock().lock(lock).await.expect_err("a lock under a rule");
        let campaign = v3electionpb::CampaignRequest {
            name: name.into(),
            lease: 77,
            value: b"clear".to_vec(),
        };
        client
            .election()
            .campaign(campaign)
            .await
            .expect_err("an election under a rule");
        let leader = v3electionpb::LeaderRequest { name: name.into() };
        client
            .election()
            .leader(leader.clone())
            .await
            .expect_err("an election under a rule");
        client
            .election()
            .observe(leader)
            .await
            .expect_err("an election under a rule");
        let key = v3electionpb::LeaderKey {
            name: name.into(),
            key: format!("{name}/77").into_bytes(),
            rev: 2,
            lease: 77,
        };
        let proclaim = v3electionpb::ProclaimRequest {
            leader: Some(key),
            value: b"clear".to_vec(),
        };
        client
            .election()
            .proclaim(proclaim)
            .await
            .expect_err("an election under a rule");
    }
    assert_eq!(etcd.client().await.everything().await, before);
}

#[tokio::test]
async fn unknown_rpcs_are_refused_in_etcds_words() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let direct = RawClient::connect(&etcd.endpoint()).await;
        let proxied = RawClient::connect(proxy.url()).await;
        for path in [
            "/etcdserverpb.KV/Frobnicate",
            "/etcdserverpb.Watch/WatchAll",
            "/no.such.Service/Method",
        ] {
            let expected = direct.call(path, frame(b"")).await;
            let seen = proxied.call(path, frame(b"")).await;
            assert_eq!(seen, expected, "{version:?} {path}");
        }
    }
}

#[tokio::test]
async fn every_provider_seals_in_its_own_layout() {
    let etcd = Etcd::start(Version::share()).await;
    for (provider, overhead) in [
        ("aescbc", None),
        ("aesgcm", Some(12 + 16)),
        ("secretbox", Some(24 + 16)),
    ] {
        let proxy = Proxy::before(&etcd, config::document("secrets", provider));
        let client = proxy.client().await;
        client.put(SECRET, "some value").await;
        let stored = etcd.client().await.value(SECRET).await;
        assert!(config::is_sealed_with(&stored, provider), "{provider}");
        let prefix = format!("k8s:enc:{provider}:v1:k1:").len();
        // aescbc: an IV and the padded text, whole blocks both.
        let body = overhead.map_or(16 + 16, |overhead| overhead + "some value".len());
        assert_eq!(stored.len(), prefix + body, "{provider}");
        assert_eq!(client.value(SECRET).await, b"some value", "{provider}");
        client.put(SECRET, "some value").await;
        assert_ne!(
            etcd.client().await.value(SECRET).await,
            stored,
            "{provider}: a nonce was used twice"
        );
    }
}

#[tokio::test]
async fn what_lay_in_clear_is_read_and_sealed_when_written() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    direct.put(SECRET, "from before the proxy").await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    assert_eq!(client.value(SECRET).await, b"from before the proxy");
    client.put(SECRET, "with it").await;
    assert!(config::is_sealed(&direct.value(SECRET).await));
    // Identity first: the way out again.
    let out = config::document("secrets", "aescbc").replace("  providers:\n", "  providers:\n  - identity: {}\n");
    let out = out.strip_suffix("  - identity: {}\n").unwrap().to_owned();
    let leaving = Proxy::before(&etcd, out);
    let client = leaving.client().await;
    assert_eq!(client.value(SECRET).await, b"with it");
    client.put(SECRET, "without it").await;
    assert_eq!(direct.value(SECRET).await, b"without it");
}

#[tokio::test]
async fn values_that_no_key_opens() {
    let etcd = Etcd::start(Version::share()).await;
    let writer = Proxy::before(&etcd, config::secrets());
    writer.client().await.put(SECRET, "value").await;
    let stored = etcd.client().await.value(SECRET).await;
    let other = config::secrets().replace(config::KEY, config::KEY_2);
    let range = || RangeRequest {
        key: SECRET.into(),
        ..RangeRequest::default()
    };

    let passing = Proxy::before(&etcd, &*other);
    assert_eq!(
        passing.client().await.value(SECRET).await,
        stored,
        "the ciphertext as it is"
    );

    let failing = proxy::Setup::new(etcd.endpoint(), other)
        .flag("--on-undecryptable=fail")
        .start();
    let client = failing.client().await;
    let status = client
        .kv()
        .range(range())
        .await
        .expect_err("a value that does not open");
    acceptable_to_etcds_client(&status);
    let mut watch = Watch::open(&client, all_under("/registry/secrets/", 1)).await;
    assert!(watch.next().await.created);
    acceptable_to_etcds_client(&watch.try_next().await.expect_err("an event that does not open"));
    // A write that etcd has carried out is never reported as failed.
    client
        .kv()
        .put(PutRequest {
            prev_kv: true,
            ..put(SECRET, "rewritten")
        })
        .await
        .expect("a committed write");
    assert_eq!(client.value(SECRET).await, b"rewritten");

    // Without identity, plain text is not taken for authentic.
    etcd.client().await.put(SECRET, "planted").await;
    let strict = config::secrets().replace("  - identity: {}\n", "");
    let strict = Proxy::before(&etcd, strict);
    let status = strict
        .client()
        .await
        .kv()
        .range(range())
        .await
        .expect_err("a value that nobody sealed");
    acceptable_to_etcds_client(&status);
    assert!(!status.message().contains("planted"));
}

/// No code that makes etcd's client replay a write or reopen a watch without a pause.
fn acceptable_to_etcds_client(status: &tonic::Status) {
    use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable};
    assert!(
        ![Cancelled, DeadlineExceeded, Internal, Unavailable].contains(&status.code()),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_key_moved_elsewhere_does_not_open() {
    // aesgcm binds a value to its key; kube-apiserver's own code refuses this too.
    let etcd = Etcd::start(Version::share()).await;
    let proxy = proxy::Setup::new(etcd.endpoint(), config::document("secrets", "aesgcm")).start();
    let client = proxy.client().await;
    client.put(SECRET, "of a").await;
    let stored = etcd.client().await.value(SECRET).await;
    etcd.client()
        .await
        .put("/registry/secrets/default/b", stored.clone())
        .await;
    assert_eq!(
        client.value("/registry/secrets/default/b").await,
        stored,
        "passed on as ciphertext"
    );
}

#[tokio::test]
async fn doubtful_setups_are_refused() {
    let etcd = "http://127.0.0.1:1";
    let fine = config::secrets();
    let kms = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
               - resources: [secrets]\n  providers:\n  - kms: {apiVersion: v2, name: plugin, endpoint: tcp:///p.sock}\n";
    let setups = [
        ("no document", proxy::Setup::new(etcd, "")),
        (
            "an unknown field",
            proxy::Setup::new(etcd, fine.replace("resources: [", "resource: [")),
        ),
        (
            "a key of no AES size",
            proxy::Setup::new(etcd, fine.replace(config::KEY, "c2hvcnQ=")),
        ),
        ("KMS over TCP", proxy::Setup::new(etcd, kms)),
        (
            "plain text to the network",
            proxy::Setup::new(etcd, &*fine).listen(&["http://0.0.0.0:0"]),
        ),
        (
            "TLS without a certificate",
            proxy::Setup::new(etcd, &*fine).listen(&["https://127.0.0.1:0"]),
        ),
        ("no such etcd", proxy::Setup::new("ftp://127.0.0.1:1", &*fine)),
    ];
    let mut messages = BTreeSet::new();
    for (what, setup) in setups {
        let (status, output) = setup.refused();
        assert!(!status.success(), "{what}");
        assert!(!output.contains("panicked"), "{what}: {output}");
        assert!(
            !output.contains(config::KEY) && !output.contains("c2hvcnQ="),
            "{what} shows a key: {output}"
        );
        let pieces = || {
            output
                .split([':', '\n'])
                .map(str::trim)
                .filter(|piece| piece.len() > 20)
        };
        let distinct: BTreeSet<_> = pieces().collect();
        assert_eq!(distinct.len(), pieces().count(), "{what} is told twice: {output}");
        messages.insert(output);
    }
    assert_eq!(messages.len(), 7, "each has a message of its own");
}

#[tokio::test]
async fn the_log_says_what_is_served_and_no_secret() {
    let etcd = Etcd::start(Version::share()).await;
    let proxy = proxy::Setup::new(etcd.endpoint(), config::secrets())
        .flag("--log-level=trace")
        .start();
    let client = proxy.client().await;
    client.put(SECRET, "a-value-to-be-looked-for").await;
    assert_eq!(client.value(SECRET).await, b"a-value-to-be-looked-for");
    let raw = RawClient::connect(proxy.url()).await;
    assert!(matches!(
        raw.call("/etcdserverpb.KV/Put", frame(b"\xff\xff")).await,
        Ended::Status { .. }
    ));
    let output = proxy.output();
    for word in ["secrets", "aescbc", "k1"] {
        assert!(output.contains(word), "the log does not tell of {word}: {output}");
    }
    for secret in [
        "a-value-to-be-looked-for",
        config::KEY,
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
    ] {
        assert!(!output.contains(secret), "the log tells {secret}");
    }
}
