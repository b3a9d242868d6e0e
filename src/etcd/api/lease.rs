//! Leases: granted, kept, looked at and given back. A keep-alive is a stream of one message here: it is asked for every
//! few seconds only, and a stream that stays would have to be watched and reopened.

use std::time::Duration;

use bytes::Bytes;

use super::call::{Rpc, framed};
use super::{CallError, Client, Trouble, read};
use crate::types::own_lease;
use crate::wire::{Fields, WireError, put_varint};

const TIMEOUT: Duration = Duration::from_secs(5);

const GRANT: Rpc = Rpc {
    name: "Lease/LeaseGrant",
    path: "/etcdserverpb.Lease/LeaseGrant",
    timeout: TIMEOUT,
};
const KEEP_ALIVE: Rpc = Rpc {
    name: "Lease/LeaseKeepAlive",
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    timeout: TIMEOUT,
};
const REVOKE: Rpc = Rpc {
    name: "Lease/LeaseRevoke",
    path: "/etcdserverpb.Lease/LeaseRevoke",
    timeout: TIMEOUT,
};
const TIME_TO_LIVE: Rpc = Rpc {
    name: "Lease/LeaseTimeToLive",
    path: "/etcdserverpb.Lease/LeaseTimeToLive",
    timeout: TIMEOUT,
};

const LEASES: Rpc = Rpc {
    name: "Lease/LeaseLeases",
    path: "/etcdserverpb.Lease/LeaseLeases",
    timeout: TIMEOUT,
};

/// `repeated LeaseStatus LeaseLeasesResponse.leases`, each with its ID
const LEASES_LEASES: u32 = 2;
/// `bool LeaseTimeToLiveRequest.keys`, and `repeated bytes keys` of the answer
const TIME_TO_LIVE_KEYS: u32 = 2;
const ANSWER_KEYS: u32 = 5;
/// `int64 LeaseGrantRequest.TTL`
const GRANT_TTL: u32 = 1;
/// `int64 ID` of it: chosen by the client, unless it is 0
const GRANT_ID: u32 = 2;
/// `int64 ID` of every other request
const ID: u32 = 1;
/// `int64 ID` of answers
const ANSWER_ID: u32 = 2;
/// `int64 TTL` of answers, seconds
const ANSWER_TTL: u32 = 3;

impl Client {
    /// A new lease: its ID, by which it is known as one of ours, and how long it lives, which may be longer than was asked
    /// for.
    pub async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), CallError> {
        let frame = framed(|out| {
            put_varint(out, GRANT_TTL, ttl.as_secs().max(1));
            put_varint(out, GRANT_ID, own_lease(rand::random()).cast_unsigned());
        });
        let message = self.unary(GRANT, frame).await?;
        let read = || Ok((read::number(&message, ANSWER_ID)?.cast_signed(), seconds(&message)?));
        read().map_err(|error| CallError::wire(GRANT.name, error))
    }

    /// Has the lease live on: how long from now, or `None` where it has ended.
    pub async fn keep_alive(&self, lease: i64) -> Result<Option<Duration>, CallError> {
        self.time_left(KEEP_ALIVE, lease).await
    }

    /// How long the lease lives from now, or `None` where it has ended.
    pub async fn time_to_live(&self, lease: i64) -> Result<Option<Duration>, CallError> {
        self.time_left(TIME_TO_LIVE, lease).await
    }

    /// The IDs of all leases that the store has.
    pub async fn leases(&self) -> Result<Vec<i64>, CallError> {
        let message = self.unary(LEASES, framed(|_| {})).await?;
        let read = || {
            let mut found = Vec::new();
            for field in Fields::new(&message) {
                let field = field?;
                if field.number == LEASES_LEASES {
                    found.push(read::number(field.body()?.bytes, ID)?.cast_signed());
                }
            }
            Ok(found)
        };
        read().map_err(|error| CallError::wire(LEASES.name, error))
    }

    /// The keys that hang on the lease; none where it has ended.
    pub async fn lease_keys(&self, lease: i64) -> Result<Vec<Bytes>, CallError> {
        let frame = framed(|out| {
            put_varint(out, ID, lease.cast_unsigned());
            put_varint(out, TIME_TO_LIVE_KEYS, 1);
        });
        let message = match self.unary(TIME_TO_LIVE, frame).await {
            Ok(message) => message,
            Err(error) if error.trouble() == Trouble::LeaseNotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let read = || {
            let mut found = Vec::new();
            for field in Fields::new(&message) {
                let field = field?;
                if field.number == ANSWER_KEYS {
                    found.push(read::slice(&message, &field.body()?));
                }
            }
            Ok(found)
        };
        read().map_err(|error| CallError::wire(TIME_TO_LIVE.name, error))
    }

    /// Ends the lease, and deletes the keys under it. One that has ended is no error.
    pub async fn revoke(&self, lease: i64) -> Result<(), CallError> {
        let frame = framed(|out| put_varint(out, ID, lease.cast_unsigned()));
        match self.unary(REVOKE, frame).await {
            Err(error) if error.trouble() != Trouble::LeaseNotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn time_left(&self, rpc: Rpc, lease: i64) -> Result<Option<Duration>, CallError> {
        let frame = framed(|out| put_varint(out, ID, lease.cast_unsigned()));
        let message = match self.unary(rpc, frame).await {
            Ok(message) => message,
            Err(error) if error.trouble() == Trouble::LeaseNotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let left = seconds(&message).map_err(|error| CallError::wire(rpc.name, error))?;
        Ok((!left.is_zero()).then_some(left))
    }
}

/// -1 is etcd's word for a lease that is not there.
fn seconds(message: &[u8]) -> Result<Duration, WireError> {
    let ttl = read::number(message, ANSWER_TTL)?.cast_signed();
    Ok(Duration::from_secs(u64::try_from(ttl).unwrap_or(0)))
}
