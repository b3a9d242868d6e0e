//! What `proto/` restates: every RPC that etcd 3.4 to 3.8 serves, and nothing that it does not.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;

use crate::common::pb::DESCRIPTOR;

/// Each service with its RPCs. An RPC that etcd gains is added here and in `proto/`, and then needs a decision in the
/// proxy.
const SERVICES: [(&str, &[&str]); 9] = [
    (
        "etcdserverpb.KV",
        &["Range", "RangeStream", "Put", "DeleteRange", "Txn", "Compact"],
    ),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseKeepAlive",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "Snapshot",
            "MoveLeader",
            "Downgrade",
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    (
        "v3electionpb.Election",
        &["Campaign", "Proclaim", "Leader", "Observe", "Resign"],
    ),
    ("grpc.health.v1.Health", &["Check", "Watch", "List"]),
];

/// The paths of all RPCs in `proto/`, as they appear in a request.
pub fn paths() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(DESCRIPTOR).expect("the build script's descriptor");
    let mut paths = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

#[test]
fn proto_lists_every_rpc_of_etcd() {
    let expected: BTreeSet<_> = SERVICES
        .iter()
        .flat_map(|(service, methods)| methods.iter().map(move |method| format!("/{service}/{method}")))
        .collect();
    assert_eq!(paths(), expected);
}
