//! How a call of our own fails, and what kind of trouble that is. Texts are etcd's; no key and no value is among them.

use std::time::Duration;

use thiserror::Error;

use crate::etcd::Unreachable;
use crate::wire::WireError;

/// A call that gave no usable answer.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// No member took the call: nothing has happened.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The connection broke under the call. Whether a write happened is not known.
    #[error("connection to etcd lost during {rpc}: {why}")]
    Lost {
        /// Which call.
        rpc: &'static str,
        /// What HTTP/2 said.
        why: String,
    },
    /// No answer in time. Whether a write happened is not known.
    #[error("etcd did not answer {rpc} within {} s", after.as_secs())]
    Timeout {
        /// Which call.
        rpc: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// etcd's own answer: an error.
    #[error("{text} ({rpc}, gRPC code {code})")]
    Status {
        /// Which call.
        rpc: &'static str,
        /// gRPC status code.
        code: u16,
        /// etcd's text, decoded.
        text: String,
    },
    /// Nothing stood in the way of a write, and it did not happen all the same. kine answers so where its database refuses it.
    #[error(
        "{rpc} was answered without being carried out, though nothing stood in its way: the database behind the store has refused it"
    )]
    NotTaken {
        /// Which call.
        rpc: &'static str,
    },
    /// What came back is no answer of etcd's.
    #[error("unusable answer to {rpc}: {why}")]
    Malformed {
        /// Which call.
        rpc: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl CallError {
    pub(super) fn wire(rpc: &'static str, error: WireError) -> Self {
        Self::Malformed {
            rpc,
            why: error.to_string(),
        }
    }

    /// Whether the server says that it does not know this kind of request, which no later attempt changes. kine's texts, for a
    /// transaction of another shape than its own: "unsupported transaction: ...", "etcdserver: unsupported operations in txn
    /// request". Any other error may be of this moment alone, as "etcdserver: revision of auth store is old" is.
    pub(super) fn is_unsupported(&self) -> bool {
        match self {
            Self::Status { code, text, .. } => *code == 12 || text.contains("unsupported"),
            _ => false,
        }
    }

    /// What kind of trouble this is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unreachable(error) if error.is_proxy => Trouble::NotEtcd,
            Self::Unreachable(_) | Self::Lost { .. } | Self::NotTaken { .. } => Trouble::Unavailable,
            Self::Timeout { .. } => Trouble::TimedOut,
            Self::Status { code, text, .. } => Trouble::of_status(*code, text),
            Self::Malformed { .. } => Trouble::Malformed,
        }
    }
}

/// Kinds of trouble that somebody decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The revision that was asked for is compacted away.
    Compacted,
    /// The revision that was asked for is yet to come: the store was restored from an older snapshot.
    FutureRevision,
    /// The backend's quota is used up, and writes are refused until an operator makes room.
    NoSpace,
    /// etcd is behind with what it has been given.
    TooManyRequests,
    /// The cluster has no leader.
    NoLeader,
    /// The leader changed under the request.
    LeaderChanged,
    /// The request took too long. It may have happened.
    TimedOut,
    /// A member stops, or was not reached.
    Unavailable,
    /// The lease has ended.
    LeaseNotFound,
    /// The request is larger than `--max-request-bytes`.
    TooLarge,
    /// The client certificate's user may not do this, or there is none.
    PermissionDenied,
    /// This server has no such call.
    Unimplemented,
    /// Not an answer of etcd's.
    Malformed,
    /// A proxy stands where etcd should.
    NotEtcd,
    /// Anything else.
    Other,
}

impl Trouble {
    /// By etcd's exact text first: the same code stands for many things. Source: etcd's public table of errors,
    /// `api/v3rpc/rpctypes/error.go`, 3.4 to 3.7.
    fn of_status(code: u16, text: &str) -> Self {
        match text {
            "etcdserver: mvcc: required revision has been compacted" => Self::Compacted,
            "etcdserver: mvcc: required revision is a future revision" => Self::FutureRevision,
            "etcdserver: mvcc: database space exceeded" => Self::NoSpace,
            "etcdserver: too many requests" => Self::TooManyRequests,
            "etcdserver: no leader" | "etcdserver: not leader" | "etcdserver: unhealthy cluster" => Self::NoLeader,
            "etcdserver: leader changed" => Self::LeaderChanged,
            "etcdserver: request timed out"
            | "etcdserver: request timed out, possibly due to previous leader failure"
            | "etcdserver: request timed out, possibly due to connection lost"
            | "etcdserver: request timed out, waiting for the applied index took too long" => Self::TimedOut,
            "etcdserver: server stopped" | "etcdserver: rpc not supported for learner" => Self::Unavailable,
            "etcdserver: requested lease not found" => Self::LeaseNotFound,
            "etcdserver: request is too large" => Self::TooLarge,
            "etcdserver: permission denied" | "etcdserver: user name is empty" | "etcdserver: invalid auth token" => {
                Self::PermissionDenied
            }
            _ => match code {
                1 | 4 => Self::TimedOut,
                7 | 16 => Self::PermissionDenied,
                12 => Self::Unimplemented,
                14 => Self::Unavailable,
                // gRPC's own limit on a message, in front of etcd's.
                8 if text.contains("larger than max") => Self::TooLarge,
                _ => Self::Other,
            },
        }
    }

    /// Whether the same may well work later, without anybody changing the request.
    pub fn is_passing(self) -> bool {
        match self {
            Self::NoSpace
            | Self::TooManyRequests
            | Self::NoLeader
            | Self::LeaderChanged
            | Self::TimedOut
            | Self::Unavailable => true,
            Self::Compacted
            | Self::FutureRevision
            | Self::LeaseNotFound
            | Self::TooLarge
            | Self::PermissionDenied
            | Self::Unimplemented
            | Self::Malformed
            | Self::NotEtcd
            | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(code: u16, text: &str) -> Trouble {
        let error = CallError::Status {
            rpc: "KV/Txn",
            code,
            text: text.to_owned(),
        };
        error.trouble()
    }

    #[test]
    fn only_a_server_that_says_so_does_not_support_a_request() {
        let is_unsupported = |code: u16, text: &str| {
            let error = CallError::Status {
                rpc: "KV/Txn",
                code,
                text: text.to_owned(),
            };
            error.is_unsupported()
        };
        assert!(is_unsupported(2, "unsupported transaction: compare:<...>"));
        assert!(is_unsupported(3, "etcdserver: unsupported operations in txn request"));
        assert!(is_unsupported(12, "unknown method Txn"));
        for (code, text) in [
            (3, "etcdserver: revision of auth store is old"),
            (2, "raft: stopped"),
            (13, "stream terminated by RST_STREAM"),
            (15, "etcdserver: corrupt cluster"),
        ] {
            assert!(!is_unsupported(code, text), "{text}");
            assert_eq!(trouble(code, text), Trouble::Other);
        }
    }

    #[test]
    fn the_text_decides_before_the_code() {
        assert_eq!(
            trouble(8, "etcdserver: mvcc: database space exceeded"),
            Trouble::NoSpace
        );
        assert_eq!(trouble(8, "etcdserver: too many requests"), Trouble::TooManyRequests);
        assert_eq!(trouble(14, "etcdserver: leader changed"), Trouble::LeaderChanged);
        assert_eq!(
            trouble(5, "etcdserver: requested lease not found"),
            Trouble::LeaseNotFound
        );
        assert_eq!(trouble(14, "transport is closing"), Trouble::Unavailable);
        assert_eq!(
            trouble(8, "grpc: received message larger than max (2 vs. 1)"),
            Trouble::TooLarge
        );
        assert_eq!(trouble(5, "something else"), Trouble::Other);
    }
}
