//! `proto/` restates every RPC that etcd 3.4 to 3.8 serves, and the proxy has a line for each in its table.

use std::collections::BTreeSet;

use etcd_encryption_proxy::etcd::IDENTIFY;
use etcd_encryption_proxy::proxy::rpcs::RPCS;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::common::pb::DESCRIPTOR;

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

/// An RPC that etcd gains is restated in `proto/`, and then needs a decision.
#[test]
fn every_rpc_of_etcd_has_a_line_in_the_table() {
    let table: BTreeSet<_> = RPCS
        .iter()
        // The proxy's own.
        .filter(|(service, _, _)| *service != IDENTIFY.0)
        .map(|(service, method, _)| format!("/{service}/{method}"))
        .collect();
    assert_eq!(paths(), table);
    assert_eq!(table.len(), 52, "etcd's API has grown or shrunk: is every line right?");
}
