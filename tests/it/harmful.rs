//! Requests that end etcd's servers: refused before they are sent, in each place where they can stand.

use tonic::Code;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::authpb::Permission;
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn range(order: i32, target: i32) -> RangeRequest {
    RangeRequest {
        key: b"/registry/configmaps/".to_vec(),
        range_end: b"/registry/configmaps0".to_vec(),
        sort_order: order,
        sort_target: target,
        ..RangeRequest::default()
    }
}

async fn sorting(client: &Client) {
    for (order, target) in [(0, 5), (1, 99), (2, -1), (3, 0), (-1, 1), (i32::MIN, i32::MAX)] {
        let what = format!("order {order}, target {target}");
        let refused = |outcome: Result<(), tonic::Status>| {
            let status = outcome.expect_err(&what);
            assert_eq!(status.code(), Code::InvalidArgument, "{what}");
            assert_eq!(status.message(), "etcdserver: invalid sort option", "{what}");
        };
        let asked = range(order, target);
        refused(client.kv().range(asked.clone()).await.map(drop));
        let one = RangeRequest {
            range_end: Vec::new(),
            ..asked.clone()
        };
        refused(client.kv().range(one).await.map(drop));
        refused(client.kv().range_stream(asked.clone()).await.map(drop));
        let put = PutRequest {
            key: b"/registry/configmaps/b".to_vec(),
            ..PutRequest::default()
        };
        let not_taken = TxnRequest {
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(asked))],
            ..TxnRequest::default()
        };
        let nested = TxnRequest {
            success: vec![op(Op::RequestTxn(not_taken.clone()))],
            ..TxnRequest::default()
        };
        refused(client.kv().txn(not_taken).await.map(drop));
        refused(client.kv().txn(nested).await.map(drop));
    }
}

#[tokio::test]
async fn what_ends_a_member_is_not_sent_to_it() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = proxy.client().await;
        client.put("/registry/configmaps/a", "a").await;
        sorting(&client).await;
        for (action, alarm) in [(3, 1), (-1, 0), (1, 3), (1, -1), (2, 77)] {
            let alarm = AlarmRequest {
                action,
                member_id: 1,
                alarm,
            };
            let status = client.maintenance().alarm(alarm).await.expect_err("an alarm");
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        }
        let role = || "r".to_owned();
        client
            .auth()
            .role_add(AuthRoleAddRequest { name: role() })
            .await
            .unwrap();
        let grant = |perm| AuthRoleGrantPermissionRequest { name: role(), perm };
        let status = client.auth().role_grant_permission(grant(None)).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "etcdserver: permission not given")
        );
        let perm = Some(Permission {
            key: b"/a".to_vec(),
            ..Permission::default()
        });
        client.auth().role_grant_permission(grant(perm)).await.unwrap();
        // The member lives, has applied nothing of it, and sorts by all that it knows.
        let direct = etcd.client().await;
        for order in 0..=2 {
            for target in 0..=4 {
                assert_eq!(client.range(range(order, target)).await.kvs.len(), 1);
                assert_eq!(direct.range(range(order, target)).await.kvs.len(), 1);
            }
        }
    }
}
