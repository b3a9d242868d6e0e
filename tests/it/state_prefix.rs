//! Keys under `--state-prefix`, the proxy's own: no client sees or changes one, and ranges that span them answer as if they
//! were not there.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::v3lockpb;
use crate::common::proxy;
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const SECRET: &str = "/registry/secrets/default/a";
const STATE: &str = "/etcd-encryption-proxy/";
/// One of the proxy's own, by its upper half.
const LEASE: i64 = 0x6565_7001_0000_004d;

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

/// What lies under the state prefix, as an etcd client that bypasses the proxy sees it.
async fn state(etcd: &Etcd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let stored = etcd.client().await.everything().await;
    let mine = stored.into_iter().filter(|kv| kv.key.starts_with(STATE.as_bytes()));
    mine.map(|kv| (kv.key, kv.value)).collect()
}

#[tokio::test]
async fn the_proxys_own_keys_are_out_of_reach() {
    for (config, flags) in [
        (config::secrets(), "--etcd-prefix=/registry"),
        (config::everything(), "--etcd-prefix=/"),
    ] {
        let etcd = Etcd::start(Version::V3_5).await;
        let direct = etcd.client().await;
        direct
            .lease()
            .lease_grant(LeaseGrantRequest { ttl: 3600, id: LEASE })
            .await
            .unwrap();
        let record = format!("{STATE}roster");
        direct
            .kv()
            .put(PutRequest {
                lease: LEASE,
                ..put(&record, "a record")
            })
            .await
            .unwrap();
        direct.put(format!("{STATE}sweep"), "another").await;
        let before = state(&etcd).await;
        let proxy = proxy::Setup::new(etcd.endpoint(), config).flag(flags).start();
        let client = proxy.client().await;
        for key in [
            "/a",
            "/etcd-encryption-prox",
            "/etcd-encryption-proxy",
            "/etcd-encryption-proxy0",
            SECRET,
            "~",
        ] {
            client.put(key, "of a client").await;
        }
        reads_show_none_of_it(&client, &direct).await;
        writes_leave_it_alone(&client, &record).await;
        assert_eq!(state(&etcd).await, before, "{flags}");
        let refused = client.lease().lease_revoke(LeaseRevokeRequest { id: LEASE }).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied, "{flags}");
        nothing_hangs_on_its_leases(&client, &direct).await;
        assert_eq!(state(&etcd).await, before, "{flags}");
        let lease = LeaseTimeToLiveRequest { id: LEASE, keys: true };
        let keys = client
            .lease()
            .lease_time_to_live(lease)
            .await
            .unwrap()
            .into_inner()
            .keys;
        assert_eq!(keys, Vec::<Vec<u8>>::new(), "{flags}");
    }
}

/// No client makes a lease of the proxy's own kind, which nobody could revoke, keeps one alive, or has a key end with one.
async fn nothing_hangs_on_its_leases(client: &Client, direct: &Client) {
    use crate::common::pb::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest};
    let refused = |outcome: Result<(), tonic::Status>, code: tonic::Code, text: &str| {
        let status = outcome.expect_err(text);
        assert_eq!((status.code(), status.message()), (code, text));
    };
    for id in [LEASE, LEASE + 1] {
        let grant = LeaseGrantRequest { ttl: 3600, id };
        refused(
            client.lease().lease_grant(grant).await.map(drop),
            tonic::Code::FailedPrecondition,
            "etcdserver: lease already exists",
        );
    }
    let gone = |outcome| refused(outcome, tonic::Code::NotFound, "etcdserver: requested lease not found");
    let hanging = PutRequest {
        lease: LEASE,
        ..put("/registry/configmaps/hanging", "x")
    };
    gone(client.kv().put(hanging.clone()).await.map(drop));
    let txn = TxnRequest {
        failure: vec![op(Op::RequestPut(hanging))],
        ..TxnRequest::default()
    };
    let nested = TxnRequest {
        success: vec![op(Op::RequestTxn(txn.clone()))],
        ..TxnRequest::default()
    };
    gone(client.kv().txn(txn).await.map(drop));
    gone(client.kv().txn(nested).await.map(drop));
    let lock = v3lockpb::LockRequest {
        name: b"locks".to_vec(),
        lease: LEASE,
    };
    gone(client.lock().lock(lock).await.map(drop));
    let campaign = CampaignRequest {
        name: b"elections".to_vec(),
        lease: LEASE,
        ..CampaignRequest::default()
    };
    gone(client.election().campaign(campaign).await.map(drop));
    let leader = LeaderKey {
        name: b"elections".to_vec(),
        key: b"elections/1".to_vec(),
        lease: LEASE,
        ..LeaderKey::default()
    };
    let proclaim = ProclaimRequest {
        leader: Some(leader),
        ..ProclaimRequest::default()
    };
    gone(client.election().proclaim(proclaim).await.map(drop));
    // One that a client may keep is kept; the proxy's own ends the stream, whenever it is named.
    let mine = LeaseGrantRequest { ttl: 3600, id: 77 };
    client.lease().lease_grant(mine).await.unwrap();
    let (ask, asked) = tokio::sync::mpsc::channel(4);
    ask.send(LeaseKeepAliveRequest { id: 77 }).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = client.lease().lease_keep_alive(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().id, 77);
    ask.send(LeaseKeepAliveRequest { id: LEASE }).await.unwrap();
    let status = answers.message().await.expect_err("the proxy's own lease");
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
    client
        .lease()
        .lease_revoke(LeaseRevokeRequest { id: 77 })
        .await
        .unwrap();
    let leases = direct
        .lease()
        .lease_leases(LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(leases.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [LEASE]);
}

/// Ranges that lie in the state prefix, span it, begin in it or end in it.
const RANGES: [(&str, &str); 8] = [
    ("\0", "\0"),
    ("/", "0"),
    ("/etcd-encryption-proxy/", "/etcd-encryption-proxy0"),
    ("/etcd-encryption-proxy/roster", ""),
    ("/etcd-encryption-proxy/roster", "/etcd-encryption-proxy/s"),
    ("/etcd-encryption-proxy/s", "\0"),
    ("/a", "/etcd-encryption-proxy/s"),
    ("/etcd-encryption-proxy", "/etcd-encryption-proxy/\0"),
];

/// What is left of a range of etcd's when the proxy's own keys are taken out.
fn without_state(mut whole: RangeResponse, limit: usize) -> RangeResponse {
    whole.kvs.retain(|kv| !kv.key.starts_with(STATE.as_bytes()));
    whole.count = i64::try_from(whole.kvs.len()).unwrap();
    if limit > 0 && whole.kvs.len() > limit {
        whole.kvs.truncate(limit);
        whole.more = true;
    }
    whole
}

/// Whether a range names nothing but the proxy's own keys.
fn is_inside(key: &str, end: &str) -> bool {
    key.starts_with(STATE) && (end.is_empty() || end <= "/etcd-encryption-proxy0" && end != "\0")
}

async fn reads_show_none_of_it(client: &Client, direct: &Client) {
    for (key, end) in RANGES {
        let range = RangeRequest {
            key: key.into(),
            range_end: end.into(),
            ..RangeRequest::default()
        };
        let variants = [
            range.clone(),
            RangeRequest {
                keys_only: true,
                ..range.clone()
            },
            RangeRequest {
                sort_order: SortOrder::Descend.into(),
                ..range.clone()
            },
            RangeRequest {
                sort_target: SortTarget::Mod.into(),
                sort_order: SortOrder::Descend.into(),
                ..range.clone()
            },
            RangeRequest {
                sort_target: SortTarget::Create.into(),
                ..range
            },
        ];
        for range in variants {
            for limit in [0, 1, 3, 100] {
                // An order but no such limit: what etcd makes of that is its own.
                if limit > 0 && range.sort_order() == SortOrder::None && range.sort_target() != SortTarget::Key {
                    continue;
                }
                let what = format!("{range:?} limited to {limit}");
                let limited = RangeRequest {
                    limit: i64::try_from(limit).unwrap(),
                    ..range.clone()
                };
                let txn = TxnRequest {
                    success: vec![op(Op::RequestRange(limited.clone()))],
                    ..TxnRequest::default()
                };
                let seen = client.kv().range(limited).await;
                let in_txn = client.kv().txn(txn).await;
                if is_inside(key, end) {
                    assert_eq!(seen.expect_err(&what).code(), tonic::Code::PermissionDenied, "{what}");
                    assert_eq!(in_txn.expect_err(&what).code(), tonic::Code::PermissionDenied, "{what}");
                    continue;
                }
                let mut expected = without_state(direct.range(range.clone()).await, limit);
                expected
                    .kvs
                    .iter_mut()
                    .filter(|kv| !kv.value.is_empty())
                    .for_each(|kv| kv.value = b"of a client".to_vec());
                assert_eq!(seen.unwrap().into_inner(), expected, "{what}");
                let in_txn = in_txn.unwrap().into_inner();
                let Some(response_op::Response::ResponseRange(seen)) = in_txn.responses[0].response.clone() else {
                    panic!("{what}: {in_txn:?}")
                };
                assert_eq!(seen.kvs, expected.kvs, "{what}");
            }
        }
        watches_show_none_of_it(client, key, end).await;
    }
}

async fn watches_show_none_of_it(client: &Client, key: &str, end: &str) {
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        ..all_under("/", 1)
    };
    if is_inside(key, end) {
        let status = match Watch::try_open(client, create).await {
            Ok(mut watch) => watch.try_next().await.expect_err("a watch of the proxy's own keys"),
            Err(status) => status,
        };
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{key} {end}: {status:?}");
        return;
    }
    let last = [SECRET, "/a", "~"]
        .into_iter()
        .rfind(|last| is_in(&create, last.as_bytes()));
    let mut watch = Watch::open(client, create).await;
    assert!(watch.next().await.created);
    let Some(last) = last else { return };
    loop {
        let keys: Vec<_> = watch
            .next()
            .await
            .events
            .into_iter()
            .map(|event| event.kv.unwrap().key)
            .collect();
        assert!(
            !keys.iter().any(|key| key.starts_with(STATE.as_bytes())),
            "{key} {end}: {keys:?}"
        );
        if keys.iter().any(|key| key == last.as_bytes()) {
            return;
        }
    }
}

fn is_in(create: &WatchCreateRequest, key: &[u8]) -> bool {
    create.key.as_slice() <= key && (create.range_end == b"\0" || key < create.range_end.as_slice())
}

async fn writes_leave_it_alone(client: &Client, record: &str) {
    let kv = || client.kv();
    let refused = |outcome: Result<(), tonic::Status>, what: &str| {
        let status = outcome.expect_err(what);
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{what}: {status:?}");
    };
    refused(kv().put(put(record, "x")).await.map(drop), "a put");
    refused(
        kv().put(put(&format!("{STATE}new"), "x")).await.map(drop),
        "a put of a new key",
    );
    let txn = TxnRequest {
        failure: vec![op(Op::RequestPut(put(record, "x")))],
        ..TxnRequest::default()
    };
    let nested = TxnRequest {
        success: vec![op(Op::RequestTxn(txn.clone()))],
        ..TxnRequest::default()
    };
    refused(kv().txn(txn).await.map(drop), "a put in the branch that would not run");
    refused(kv().txn(nested).await.map(drop), "a put in a nested transaction");
    let compare = Compare {
        target: CompareTarget::Version.into(),
        key: record.into(),
        target_union: Some(TargetUnion::Version(1)),
        ..Compare::default()
    };
    refused(
        kv().txn(TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        })
        .await
        .map(drop),
        "a compare",
    );
    for (key, end) in RANGES {
        let delete = DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            prev_kv: true,
        };
        let outcome = kv().delete_range(delete).await;
        if is_inside(key, end) {
            refused(outcome.map(drop), &format!("deletion of {key} {end}"));
        } else {
            let deleted = outcome.unwrap().into_inner();
            assert_eq!(
                deleted.deleted,
                i64::try_from(deleted.prev_kvs.len()).unwrap(),
                "{key} {end}"
            );
            assert!(
                !deleted.prev_kvs.iter().any(|kv| kv.key.starts_with(STATE.as_bytes())),
                "{key} {end}"
            );
            assert!(
                deleted.prev_kvs.iter().all(|kv| kv.value == b"of a client"),
                "{key} {end}"
            );
        }
    }
    assert_eq!(client.everything().await, [], "all that clients wrote was deleted");
    let name = STATE.trim_end_matches('/');
    let lock = v3lockpb::LockRequest {
        name: name.into(),
        lease: 0,
    };
    client
        .lock()
        .lock(lock)
        .await
        .expect_err("a lock among the proxy's own keys");
}
