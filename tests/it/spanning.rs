//! Ranges that span the state prefix, which the proxy sends as two: with every odd value that a field of theirs can have they answer
//! as etcd's own do.

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::transcript::Transcript;
use crate::twins;

/// Before, in and behind where the proxy's own keys would be, and under a rule or not.
const KEYS: [&str; 7] = [
    "/a",
    "/b",
    "/etcd-encryption-proxy",
    "/etcd-encryption-proxy0",
    "/registry/configmaps/a",
    "/registry/secrets/default/a",
    "~",
];

const SPANS: [(&str, &str); 3] = [("\0", "\0"), ("/", "0"), ("/b", "/registry/secrets/default/b")];

fn whole((key, end): (&str, &str)) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

/// Numbers at the edges of what a field can hold.
const EDGES: [i64; 5] = [i64::MIN, -1, 1, 3, i64::MAX];

fn variants(whole: &RangeRequest) -> Vec<RangeRequest> {
    let mut all = Vec::new();
    for edge in EDGES {
        let with = |set: fn(&mut RangeRequest, i64)| {
            let mut range = whole.clone();
            set(&mut range, edge);
            range
        };
        all.extend([
            with(|range, edge| range.revision = edge),
            with(|range, edge| range.limit = edge),
            with(|range, edge| range.min_mod_revision = edge),
            with(|range, edge| range.max_mod_revision = edge),
            with(|range, edge| range.min_create_revision = edge),
            with(|range, edge| range.max_create_revision = edge),
        ]);
    }
    for limit in [-1, 1, 3, 7] {
        for (keys_only, count_only) in [(false, false), (true, false), (false, true), (true, true)] {
            let base = RangeRequest {
                limit,
                keys_only,
                count_only,
                ..whole.clone()
            };
            let pruned = RangeRequest {
                min_mod_revision: 4,
                max_create_revision: 6,
                ..base.clone()
            };
            let sorted = |target: SortTarget| RangeRequest {
                sort_order: SortOrder::Descend.into(),
                sort_target: target.into(),
                revision: -5,
                ..pruned.clone()
            };
            let (by_key, by_version) = (sorted(SortTarget::Key), sorted(SortTarget::Mod));
            all.extend([base, pruned, by_key, by_version]);
        }
    }
    all
}

async fn asked(client: &Client, range: RangeRequest, seen: &mut Transcript) {
    let what = format!("{range:?}");
    let op = RequestOp {
        request: Some(Op::RequestRange(range.clone())),
    };
    let txn = TxnRequest {
        success: vec![op],
        ..TxnRequest::default()
    };
    seen.unary(&what, client.kv().range(range).await);
    seen.unary(&format!("txn of {what}"), client.kv().txn(txn).await);
}

#[tokio::test]
async fn odd_fields_of_a_range_over_the_state_prefix_mean_what_they_mean_to_etcd() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        for key in KEYS {
            client.put(key, key).await;
        }
        for span in SPANS {
            for range in variants(&whole(span)) {
                asked(client, range, &mut seen).await;
            }
        }
        let compact = CompactionRequest {
            revision: 5,
            physical: true,
        };
        seen.unary("compact", client.kv().compact(compact).await);
        for span in SPANS {
            for revision in EDGES {
                let range = RangeRequest {
                    revision,
                    ..whole(span)
                };
                asked(client, range, &mut seen).await;
            }
        }
        seen
    })
    .await;
}
