//! What an operator is told about the store and can have done to it: status, members, defragmentation.

use std::time::Duration;

use super::call::{Rpc, framed};
use super::{CallError, Client, Trouble, read};
use crate::etcd::StoreKind;
use crate::wire::{Fields, WireError};

const STATUS: Rpc = Rpc {
    name: "Maintenance/Status",
    path: "/etcdserverpb.Maintenance/Status",
    timeout: Duration::from_secs(10),
};
const DEFRAGMENT: Rpc = Rpc {
    name: "Maintenance/Defragment",
    path: "/etcdserverpb.Maintenance/Defragment",
    // The member rewrites its whole backend and serves nothing meanwhile; 8 GiB on a slow disk take minutes.
    timeout: Duration::from_secs(900),
};
const MEMBER_LIST: Rpc = Rpc {
    name: "Cluster/MemberList",
    path: "/etcdserverpb.Cluster/MemberList",
    timeout: Duration::from_secs(10),
};

/// `StatusResponse` in rpc.proto.
mod status {
    pub(super) const VERSION: u32 = 2;
    pub(super) const DB_SIZE: u32 = 3;
    pub(super) const LEADER: u32 = 4;
    pub(super) const DB_SIZE_IN_USE: u32 = 9;
    /// Since 3.6.
    pub(super) const DB_SIZE_QUOTA: u32 = 12;
}

/// `repeated Member MemberListResponse.members`
const MEMBERS: u32 = 2;

/// `Member` in rpc.proto.
mod member {
    pub(super) const ID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const CLIENT_URLS: u32 = 4;
    pub(super) const IS_LEARNER: u32 = 5;
}

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The ID of the cluster that it is a member of.
    pub cluster: u64,
    /// Its member ID.
    pub member: u64,
    /// The store's revision.
    pub revision: i64,
    /// Its version: `3.5.33`.
    pub version: String,
    /// Size of its backend file, bytes.
    pub db_size: u64,
    /// Bytes of it that are in use; the rest is taken before the file grows.
    pub db_size_in_use: u64,
    /// Bound on the backend, bytes; `None` before 3.6, which does not say.
    pub quota: Option<u64>,
    /// Member ID of the leader; 0 for none.
    pub leader: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its member ID.
    pub id: u64,
    /// The name that it was given; empty until it has started.
    pub name: String,
    /// Where it says that clients reach it.
    pub client_urls: Vec<String>,
    /// It has no vote, and serves nothing.
    pub is_learner: bool,
}

impl Client {
    /// The status of the member that the pool is connected to.
    pub async fn status(&self) -> Result<Status, CallError> {
        let message = self.unary(STATUS, framed(|_| {})).await?;
        read_status(&message).map_err(|error| CallError::wire(STATUS.name, error))
    }

    /// What kind of store it is; asked once.
    ///
    /// # Errors
    /// It did not say. That etcd's authentication keeps it from saying it says that it is etcd.
    pub async fn kind(&self) -> Result<StoreKind, CallError> {
        if let Some(kind) = self.pool.kind().get() {
            return Ok(*kind);
        }
        let kind = match self.status().await {
            Ok(status) => StoreKind::of_header(status.cluster, status.member),
            Err(error) if error.trouble() == Trouble::PermissionDenied => StoreKind::Etcd,
            Err(error) => return Err(error),
        };
        Ok(*self.pool.kind().get_or_init(|| kind))
    }

    /// Rewrites the backend of the member that the pool is connected to without its free pages. It serves nothing meanwhile.
    pub async fn defragment(&self) -> Result<(), CallError> {
        self.unary(DEFRAGMENT, framed(|_| {})).await.map(drop)
    }

    /// Every member of the cluster.
    pub async fn members(&self) -> Result<Vec<Member>, CallError> {
        let message = self.unary(MEMBER_LIST, framed(|_| {})).await?;
        read_members(&message).map_err(|error| CallError::wire(MEMBER_LIST.name, error))
    }
}

fn read_status(message: &[u8]) -> Result<Status, WireError> {
    let mut found = Status {
        cluster: read::header_cluster(message)?,
        member: read::header_member(message)?,
        revision: read::header_revision(message)?,
        ..Status::default()
    };
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            status::VERSION => found.version = String::from_utf8_lossy(field.body()?.bytes).into_owned(),
            status::DB_SIZE => found.db_size = field.varint()?,
            status::DB_SIZE_IN_USE => found.db_size_in_use = field.varint()?,
            status::DB_SIZE_QUOTA => found.quota = Some(field.varint()?).filter(|&quota| quota > 0),
            status::LEADER => found.leader = field.varint()?,
            _ => {}
        }
    }
    Ok(found)
}

fn read_members(message: &[u8]) -> Result<Vec<Member>, WireError> {
    let mut members = Vec::new();
    for field in Fields::new(message) {
        let field = field?;
        if field.number != MEMBERS {
            continue;
        }
        let mut found = Member::default();
        for field in field.body()?.fields() {
            let field = field?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match field.number {
                member::ID => found.id = field.varint()?,
                member::NAME => found.name = text(field.body()?.bytes),
                member::CLIENT_URLS => found.client_urls.push(text(field.body()?.bytes)),
                member::IS_LEARNER => found.is_learner = field.flag()?,
                _ => {}
            }
        }
        members.push(found);
    }
    Ok(members)
}
