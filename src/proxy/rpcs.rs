//! Every RPC of etcd's API, 3.4 to 3.8, and what the proxy does with it. A new RPC is a visible decision: a new line.
//!
//! An RPC that is not here is answered UNIMPLEMENTED, as etcd itself answers one that it does not know; so a value-bearing
//! RPC of a future etcd can't carry plaintext past the proxy.

use crate::etcd::IDENTIFY;
use crate::rewrite::{ElectionRpc, LockRpc};

/// How an RPC is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// `KV.Range`: values in the answer are opened.
    Range,
    /// `KV.Put`: the value is sealed; the previous one in the answer is opened.
    Put,
    /// `KV.DeleteRange`: previous values in the answer are opened.
    DeleteRange,
    /// `KV.Txn`: both directions, in both branches, nested.
    Txn,
    /// `KV.RangeStream`: values in each chunk are opened.
    RangeStream,
    /// `Watch.Watch`: values in each event are opened.
    Watch,
    /// No values, but an ID of the proxy's own kind is refused.
    LeaseGrant,
    /// No values, but a lease of the proxy's own may not be kept alive by others: each message is looked at.
    LeaseKeepAlive,
    /// No values, but records of the proxy's own may hang on the lease: refused then.
    LeaseRevoke,
    /// No values, but one that etcd does not survive is refused.
    Alarm,
    /// The same.
    RoleGrantPermission,
    /// No values, but keys in the answer that are the proxy's own are left out.
    LeaseTimeToLive,
    /// etcd itself reads and writes the keys that the request names, in the clear: refused under an encrypted prefix.
    Lock(LockRpc),
    /// The same.
    Election(ElectionRpc),
    /// No values, but the members' addresses, by which clients would leave the proxy where it has others to give.
    MemberList,
    /// Values and the proxy's own records as they are stored: piped where that is allowed.
    Snapshot,
    /// Carries no value: piped byte for byte, message boundaries and all.
    Pipe,
    /// The same, of the member that it is sent to: not held until another one can be reached.
    PipeAtOnce,
    /// The same, but the answer has no natural end: ended when the proxy drains.
    PipeForever,
    /// Answered here: what this is, so that another proxy, or a verb, does not take it for etcd and seal values twice.
    Identify,
}

/// The table: service, method, treatment. Source: etcd's public rpc.proto, v3lock.proto and v3election.proto, gRPC's
/// health.proto, and one of the proxy's own.
#[rustfmt::skip]
pub const RPCS: &[(&str, &str, Treatment)] = &[
    ("etcdserverpb.KV", "Range",       Treatment::Range),
    ("etcdserverpb.KV", "RangeStream", Treatment::RangeStream), // since 3.7
    ("etcdserverpb.KV", "Put",         Treatment::Put),
    ("etcdserverpb.KV", "DeleteRange", Treatment::DeleteRange),
    ("etcdserverpb.KV", "Txn",         Treatment::Txn),
    ("etcdserverpb.KV", "Compact",     Treatment::Pipe),

    ("etcdserverpb.Watch", "Watch", Treatment::Watch),

    ("etcdserverpb.Lease", "LeaseGrant",      Treatment::LeaseGrant),
    ("etcdserverpb.Lease", "LeaseRevoke",     Treatment::LeaseRevoke),
    ("etcdserverpb.Lease", "LeaseKeepAlive",  Treatment::LeaseKeepAlive),
    ("etcdserverpb.Lease", "LeaseTimeToLive", Treatment::LeaseTimeToLive),
    ("etcdserverpb.Lease", "LeaseLeases",     Treatment::Pipe),

    ("etcdserverpb.Cluster", "MemberAdd",     Treatment::Pipe),
    ("etcdserverpb.Cluster", "MemberRemove",  Treatment::Pipe),
    ("etcdserverpb.Cluster", "MemberUpdate",  Treatment::Pipe),
    ("etcdserverpb.Cluster", "MemberList",    Treatment::MemberList),
    ("etcdserverpb.Cluster", "MemberPromote", Treatment::Pipe),

    ("etcdserverpb.Maintenance", "Alarm",      Treatment::Alarm),
    ("etcdserverpb.Maintenance", "Status",     Treatment::PipeAtOnce),
    ("etcdserverpb.Maintenance", "Defragment", Treatment::PipeAtOnce),
    ("etcdserverpb.Maintenance", "Hash",       Treatment::PipeAtOnce),
    ("etcdserverpb.Maintenance", "HashKV",     Treatment::PipeAtOnce),
    ("etcdserverpb.Maintenance", "Snapshot",   Treatment::Snapshot),
    ("etcdserverpb.Maintenance", "MoveLeader", Treatment::PipeAtOnce),
    ("etcdserverpb.Maintenance", "Downgrade",  Treatment::Pipe),

    ("etcdserverpb.Auth", "AuthEnable",           Treatment::Pipe),
    ("etcdserverpb.Auth", "AuthDisable",          Treatment::Pipe),
    ("etcdserverpb.Auth", "AuthStatus",           Treatment::Pipe),
    ("etcdserverpb.Auth", "Authenticate",         Treatment::Pipe),
    ("etcdserverpb.Auth", "UserAdd",              Treatment::Pipe),
    ("etcdserverpb.Auth", "UserGet",              Treatment::Pipe),
    ("etcdserverpb.Auth", "UserList",             Treatment::Pipe),
    ("etcdserverpb.Auth", "UserDelete",           Treatment::Pipe),
    ("etcdserverpb.Auth", "UserChangePassword",   Treatment::Pipe),
    ("etcdserverpb.Auth", "UserGrantRole",        Treatment::Pipe),
    ("etcdserverpb.Auth", "UserRevokeRole",       Treatment::Pipe),
    ("etcdserverpb.Auth", "RoleAdd",              Treatment::Pipe),
    ("etcdserverpb.Auth", "RoleGet",              Treatment::Pipe),
    ("etcdserverpb.Auth", "RoleList",             Treatment::Pipe),
    ("etcdserverpb.Auth", "RoleDelete",           Treatment::Pipe),
    ("etcdserverpb.Auth", "RoleGrantPermission",  Treatment::RoleGrantPermission),
    ("etcdserverpb.Auth", "RoleRevokePermission", Treatment::Pipe),

    ("v3lockpb.Lock", "Lock",   Treatment::Lock(LockRpc::Lock)),
    ("v3lockpb.Lock", "Unlock", Treatment::Lock(LockRpc::Unlock)),

    ("v3electionpb.Election", "Campaign", Treatment::Election(ElectionRpc::Campaign)),
    ("v3electionpb.Election", "Proclaim", Treatment::Election(ElectionRpc::Proclaim)),
    ("v3electionpb.Election", "Leader",   Treatment::Election(ElectionRpc::Leader)),
    ("v3electionpb.Election", "Observe",  Treatment::Election(ElectionRpc::Observe)),
    ("v3electionpb.Election", "Resign",   Treatment::Election(ElectionRpc::Resign)),

    ("grpc.health.v1.Health", "Check", Treatment::Pipe),
    ("grpc.health.v1.Health", "List",  Treatment::Pipe),
    ("grpc.health.v1.Health", "Watch", Treatment::PipeForever),

    (IDENTIFY.0, IDENTIFY.1, Treatment::Identify), // this proxy's own
];

/// What a request's path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A line of the table, and what it says.
    Known(usize, Treatment),
    /// A service of the table without this method, or no service of it.
    Unknown,
}

/// Finds `/service/method` in the table.
pub fn lookup(path: &str) -> Lookup {
    path.strip_prefix('/')
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(service, method)| {
            let mut lines = RPCS.iter().enumerate();
            lines.find(|(_, (s, m, _))| *m == method && *s == service)
        })
        .map_or(Lookup::Unknown, |(line, (_, _, treatment))| {
            Lookup::Known(line, *treatment)
        })
}

/// The message that grpc-go, and so etcd, gives for a path it does not serve.
pub fn unknown_text(path: &str) -> String {
    match path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        None => format!("malformed method name: \"{path}\""),
        Some((service, method)) if RPCS.iter().any(|(s, _, _)| *s == service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_path_is_found_and_everything_else_is_not() {
        assert_eq!(lookup("/etcdserverpb.KV/Txn"), Lookup::Known(4, Treatment::Txn));
        for path in [
            "/etcdserverpb.KV/Txn/",
            "/etcdserverpb.KV/txn",
            "etcdserverpb.KV/Txn",
            "/etcdserverpb.KV/New",
            "/",
            "",
        ] {
            assert_eq!(lookup(path), Lookup::Unknown, "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_answered_in_grpcs_words() {
        assert_eq!(
            unknown_text("/etcdserverpb.KV/New"),
            "unknown method New for service etcdserverpb.KV"
        );
        assert_eq!(unknown_text("/some.Service/Do"), "unknown service some.Service");
        assert_eq!(unknown_text("nonsense"), "malformed method name: \"nonsense\"");
    }

    #[test]
    fn no_rpc_has_two_lines() {
        for (at, (service, method, _)) in RPCS.iter().enumerate() {
            assert!(
                !RPCS.iter().skip(at + 1).any(|(s, m, _)| s == service && m == method),
                "{service}/{method}"
            );
        }
    }
}
