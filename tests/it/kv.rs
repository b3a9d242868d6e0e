//! The KV service: every request's shape, in both kinds of key, and every error that etcd answers with.

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::transcript::Transcript;
use crate::twins;

const SECRET: &str = "/registry/secrets/default/";
const PLAIN: &str = "/registry/configmaps/default/";

fn key(prefix: &str, name: &str) -> Vec<u8> {
    format!("{prefix}{name}").into_bytes()
}

/// The first key past everything that starts with `prefix`.
pub fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    end
}

fn all_of(prefix: &str) -> RangeRequest {
    RangeRequest {
        key: prefix.into(),
        range_end: end_of(prefix),
        ..RangeRequest::default()
    }
}

fn put(key: Vec<u8>, value: &[u8]) -> PutRequest {
    PutRequest {
        key,
        value: value.to_vec(),
        ..PutRequest::default()
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn mod_revision_is(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
        range_end: Vec::new(),
    }
}

#[tokio::test]
async fn ranges() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        for (index, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            for prefix in [SECRET, PLAIN] {
                seen.unary(
                    "put",
                    client.kv().put(put(key(prefix, name), &vec![b'x'; index * 7])).await,
                );
            }
        }
        client.put("outside of any prefix", "untouched").await;
        client.put(key(SECRET, "c"), "a second version").await;
        for prefix in [SECRET, PLAIN, "/registry/", "/", "\0"] {
            let all = if prefix == "\0" {
                RangeRequest {
                    key: vec![0],
                    range_end: vec![0],
                    ..RangeRequest::default()
                }
            } else {
                all_of(prefix)
            };
            let variants = [
                all.clone(),
                RangeRequest {
                    limit: 2,
                    ..all.clone()
                },
                RangeRequest {
                    keys_only: true,
                    ..all.clone()
                },
                RangeRequest {
                    count_only: true,
                    ..all.clone()
                },
                RangeRequest {
                    serializable: true,
                    ..all.clone()
                },
                RangeRequest {
                    revision: 6,
                    ..all.clone()
                },
                RangeRequest {
                    min_mod_revision: 5,
                    max_mod_revision: 9,
                    ..all.clone()
                },
                RangeRequest {
                    min_create_revision: 5,
                    max_create_revision: 9,
                    ..all.clone()
                },
                sorted(&all, SortTarget::Key, SortOrder::Descend),
                sorted(&all, SortTarget::Mod, SortOrder::Ascend),
                sorted(&all, SortTarget::Version, SortOrder::Descend),
                sorted(&all, SortTarget::Create, SortOrder::Descend),
            ];
            for (index, variant) in variants.into_iter().enumerate() {
                seen.unary(
                    &format!("range {index} of {prefix:?}"),
                    client.kv().range(variant).await,
                );
            }
        }
        let missing = RangeRequest {
            key: key(SECRET, "missing"),
            ..RangeRequest::default()
        };
        seen.unary("a missing key", client.kv().range(missing).await);
        pages(client, &mut seen).await;
        seen
    })
    .await;
}

fn sorted(all: &RangeRequest, target: SortTarget, order: SortOrder) -> RangeRequest {
    RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        ..all.clone()
    }
}

/// Reads page by page at one revision, as kube-apiserver does, while writes go on.
async fn pages(client: &Client, seen: &mut Transcript) {
    let mut request = RangeRequest {
        limit: 3,
        ..all_of("/registry/")
    };
    loop {
        let page = seen.unary("a page", client.kv().range(request.clone()).await).unwrap();
        client.put(key(SECRET, "e"), "written between two pages").await;
        if request.revision == 0 {
            request.revision = page.header.unwrap().revision;
        }
        if !page.more {
            return;
        }
        request.key = page.kvs.last().unwrap().key.clone();
        request.key.push(0);
    }
}

#[tokio::test]
async fn puts_and_deletes() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        client
            .lease()
            .lease_grant(LeaseGrantRequest { ttl: 3600, id: 77 })
            .await
            .unwrap();
        for prefix in [SECRET, PLAIN] {
            let a = || key(prefix, "a");
            let requests = [
                put(a(), b"first"),
                PutRequest {
                    prev_kv: true,
                    ..put(a(), b"second")
                },
                PutRequest {
                    lease: 77,
                    prev_kv: true,
                    ..put(a(), b"leased")
                },
                PutRequest {
                    ignore_value: true,
                    prev_kv: true,
                    ..put(a(), b"")
                },
                PutRequest {
                    ignore_lease: true,
                    prev_kv: true,
                    ..put(a(), b"lease kept")
                },
                PutRequest {
                    ignore_value: true,
                    ignore_lease: true,
                    ..put(a(), b"")
                },
                put(a(), b""),
                PutRequest {
                    prev_kv: true,
                    ..put(a(), b"after an empty value")
                },
                put(a(), b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12 binary \xff\xfe"),
                put(key(prefix, "large"), &vec![7; 1_000_000]),
                // Errors.
                put(Vec::new(), b"no key"),
                PutRequest {
                    ignore_value: true,
                    ..put(a(), b"must be empty")
                },
                PutRequest {
                    ignore_value: true,
                    ..put(key(prefix, "missing"), b"")
                },
                PutRequest {
                    ignore_lease: true,
                    lease: 77,
                    ..put(a(), b"must be 0")
                },
                PutRequest {
                    ignore_lease: true,
                    ..put(key(prefix, "missing"), b"v")
                },
                PutRequest {
                    lease: 4242,
                    ..put(a(), b"no such lease")
                },
                put(key(prefix, "too large"), &vec![7; 1_700_000]),
            ];
            for (index, request) in requests.into_iter().enumerate() {
                seen.unary(&format!("put {index}"), client.kv().put(request).await);
                let get = RangeRequest {
                    key: a(),
                    ..RangeRequest::default()
                };
                seen.unary("get", client.kv().range(get).await);
            }
        }
        let deletes = [
            DeleteRangeRequest {
                key: key(SECRET, "missing"),
                prev_kv: true,
                ..DeleteRangeRequest::default()
            },
            DeleteRangeRequest {
                key: key(SECRET, "a"),
                ..DeleteRangeRequest::default()
            },
            DeleteRangeRequest {
                key: "/registry/".into(),
                range_end: end_of("/registry/"),
                prev_kv: true,
            },
            DeleteRangeRequest::default(),
        ];
        for request in deletes {
            seen.unary("delete", client.kv().delete_range(request).await);
        }
        client.put(key(SECRET, "left"), "to be looked at in etcd").await;
        client.put(key(PLAIN, "left"), "to be looked at in etcd").await;
        seen
    })
    .await;
}

#[tokio::test]
async fn transactions() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        for prefix in [SECRET, PLAIN] {
            let a = || key(prefix, "a");
            let create = TxnRequest {
                compare: vec![mod_revision_is(a(), 0)],
                success: vec![op(Op::RequestPut(put(a(), b"created")))],
                failure: Vec::new(),
            };
            let created = seen.unary("create", client.kv().txn(create.clone()).await).unwrap();
            seen.unary("create again", client.kv().txn(create).await);
            let get = || {
                op(Op::RequestRange(RangeRequest {
                    key: a(),
                    ..RangeRequest::default()
                }))
            };
            let update = |revision| TxnRequest {
                compare: vec![mod_revision_is(a(), revision)],
                success: vec![op(Op::RequestPut(put(a(), b"updated")))],
                failure: vec![get()],
            };
            let revision = created.header.unwrap().revision;
            seen.unary("update", client.kv().txn(update(revision)).await);
            seen.unary("update that lost a race", client.kv().txn(update(revision)).await);
            seen.unary("nested", client.kv().txn(nested(prefix)).await);
            seen.unary("nested, the other branches", client.kv().txn(nested(prefix)).await);
            let delete = TxnRequest {
                compare: vec![mod_revision_is(a(), 1)],
                success: vec![op(Op::RequestDeleteRange(DeleteRangeRequest {
                    key: a(),
                    ..Default::default()
                }))],
                failure: vec![
                    get(),
                    op(Op::RequestDeleteRange(DeleteRangeRequest {
                        key: a(),
                        prev_kv: true,
                        ..Default::default()
                    })),
                ],
            };
            seen.unary("delete", client.kv().txn(delete).await);
            client.put(a(), "to be looked at in etcd").await;
        }
        seen.unary("an empty one", client.kv().txn(TxnRequest::default()).await);
        let twice = TxnRequest {
            success: vec![
                op(Op::RequestPut(put(key(SECRET, "a"), b"1"))),
                op(Op::RequestPut(put(key(SECRET, "a"), b"2"))),
            ],
            ..TxnRequest::default()
        };
        seen.unary("the same key twice", client.kv().txn(twice).await);
        let many = (0..129)
            .map(|i| op(Op::RequestPut(put(key(SECRET, &i.to_string()), b"v"))))
            .collect();
        seen.unary(
            "too many",
            client
                .kv()
                .txn(TxnRequest {
                    success: many,
                    ..TxnRequest::default()
                })
                .await,
        );
        let no_key = TxnRequest {
            success: vec![op(Op::RequestPut(put(Vec::new(), b"v")))],
            ..TxnRequest::default()
        };
        seen.unary("no key", client.kv().txn(no_key).await);
        let empty_op = TxnRequest {
            success: vec![RequestOp::default()],
            ..TxnRequest::default()
        };
        seen.unary("an operation of no kind", client.kv().txn(empty_op).await);
        compares(client, &mut seen).await;
        seen
    })
    .await;
}

/// A transaction in a transaction, in both branches, with every kind of operation.
fn nested(prefix: &str) -> TxnRequest {
    let inner = |name: &str| {
        op(Op::RequestTxn(TxnRequest {
            compare: vec![mod_revision_is(key(prefix, name), 0)],
            success: vec![
                op(Op::RequestPut(PutRequest {
                    prev_kv: true,
                    ..put(key(prefix, name), b"from inside")
                })),
                op(Op::RequestRange(all_of(prefix))),
            ],
            failure: vec![
                op(Op::RequestRange(all_of("/registry/"))),
                op(Op::RequestPut(PutRequest {
                    prev_kv: true,
                    ..put(key(prefix, name), b"again from inside")
                })),
            ],
        }))
    };
    TxnRequest {
        compare: vec![mod_revision_is(key(prefix, "outer"), 0)],
        success: vec![
            op(Op::RequestPut(put(key(prefix, "outer"), b"outer"))),
            inner("x"),
            inner("y"),
        ],
        failure: vec![
            inner("x"),
            op(Op::RequestDeleteRange(DeleteRangeRequest {
                key: key(prefix, "outer"),
                prev_kv: true,
                ..Default::default()
            })),
            inner("z"),
        ],
    }
}

/// Every target but VALUE on sealed keys, which is refused.
async fn compares(client: &Client, seen: &mut Transcript) {
    let targets = [
        (CompareTarget::Version, TargetUnion::Version(1)),
        (CompareTarget::Create, TargetUnion::CreateRevision(3)),
        (CompareTarget::Mod, TargetUnion::ModRevision(3)),
        (CompareTarget::Lease, TargetUnion::Lease(0)),
    ];
    for (target, union) in targets {
        for result in [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ] {
            for range_end in [Vec::new(), end_of(SECRET)] {
                let compare = Compare {
                    result: result.into(),
                    target: target.into(),
                    key: key(SECRET, "a"),
                    target_union: Some(union.clone()),
                    range_end,
                };
                let txn = TxnRequest {
                    compare: vec![compare],
                    ..TxnRequest::default()
                };
                seen.unary(&format!("compare {target:?} {result:?}"), client.kv().txn(txn).await);
            }
        }
    }
    // A key outside of every rule may be compared and sorted by value as ever.
    client.put("outside", "m").await;
    for result in [CompareResult::Equal, CompareResult::Greater, CompareResult::Less] {
        let compare = Compare {
            result: result.into(),
            target: CompareTarget::Value.into(),
            key: b"outside".to_vec(),
            target_union: Some(TargetUnion::Value(b"k".to_vec())),
            range_end: Vec::new(),
        };
        let txn = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        seen.unary("compare a plain value", client.kv().txn(txn).await);
    }
    let by_value = sorted(&all_of("out"), SortTarget::Value, SortOrder::Descend);
    seen.unary("sort plain values", client.kv().range(by_value).await);
}

#[tokio::test]
async fn compaction() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        for round in 0..10 {
            client.put(key(SECRET, "a"), format!("version {round}")).await;
        }
        let compact = |revision, physical| CompactionRequest { revision, physical };
        seen.unary("compact", client.kv().compact(compact(6, true)).await);
        seen.unary("compact again", client.kv().compact(compact(6, false)).await);
        seen.unary("compact the future", client.kv().compact(compact(600, false)).await);
        for revision in [3, 5, 6, 7, 11, 12, 600] {
            for prefix in [SECRET, PLAIN] {
                let range = RangeRequest {
                    revision,
                    ..all_of(prefix)
                };
                seen.unary(&format!("range at {revision}"), client.kv().range(range.clone()).await);
                let txn = TxnRequest {
                    success: vec![op(Op::RequestRange(range))],
                    ..TxnRequest::default()
                };
                seen.unary(&format!("txn at {revision}"), client.kv().txn(txn).await);
            }
        }
        seen
    })
    .await;
}

#[tokio::test]
async fn streamed_ranges() {
    // etcd before 3.7 does not know RangeStream: its own refusal must come through, since kube-apiserver falls back on it.
    twins::compare(async |client, version| {
        let mut seen = Transcript::default();
        match client.kv().range_stream(all_of(SECRET)).await {
            Err(refused) => seen.error("RangeStream", &refused),
            Ok(stream) => {
                assert_eq!(version, crate::common::tools::Version::V3_7);
                let mut stream = stream.into_inner();
                while let Some(chunk) = stream.message().await.expect("a chunk") {
                    seen.note("RangeStream", &chunk.range_response.expect("a part").kvs.len());
                }
            }
        }
        seen
    })
    .await;
}
