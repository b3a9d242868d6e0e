//! What kind of store the members are. Found out by asking, once for all connections of a process: no version is compared.

use std::fmt;
use std::sync::OnceLock;

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// etcd.
    Etcd,
    /// kine, or another store that speaks etcd's API without being a cluster: it takes the transactions that kube-apiserver sends and
    /// no others, its leases cannot be kept alive, and it has no leader.
    Kine,
}

/// The kind, once somebody has found it out.
pub type KnownKind = OnceLock<StoreKind>;

impl StoreKind {
    /// By the ID of the cluster and of the member that stand in an answer's header: etcd makes both of hashes, kine has neither.
    pub(super) fn of_header(cluster: u64, member: u64) -> Self {
        if cluster == 0 && member == 0 {
            Self::Kine
        } else {
            Self::Etcd
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd",
            Self::Kine => "kine or the like, not etcd",
        })
    }
}
