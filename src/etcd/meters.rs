//! Handles of the metrics of one member, and why a connection to it was left. Found once, when a pool is made.

use std::{fmt, io};

use metrics::{Counter, Gauge};

use super::families::{CONNECT_FAILURES, CONNECTIONS, CONNECTS, FAILOVERS, RECEIVED, SENT};
use crate::transport::{ByteMeter, Endpoint};

/// What is counted of one member.
pub(super) struct MemberMeter {
    endpoint: String,
    pub(super) connections: Gauge,
    pub(super) connects: Counter,
    pub(super) connect_failures: Counter,
}

impl MemberMeter {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let endpoint = endpoint.to_string();
        Self {
            connections: metrics::gauge!(CONNECTIONS.name, "endpoint" => endpoint.clone()),
            connects: metrics::counter!(CONNECTS.name, "endpoint" => endpoint.clone()),
            connect_failures: metrics::counter!(CONNECT_FAILURES.name, "endpoint" => endpoint.clone()),
            endpoint,
        }
    }

    /// A connection to the member was left.
    pub(super) fn left(&self, why: &Left) {
        metrics::counter!(FAILOVERS.name, "endpoint" => self.endpoint.clone(), "reason" => why.kind()).increment(1);
    }
}

/// Bytes from and to all members.
pub(super) fn bytes() -> ByteMeter {
    ByteMeter {
        received: metrics::counter!(RECEIVED.name),
        sent: metrics::counter!(SENT.name),
    }
}

/// Why a connection was left.
#[derive(Clone, Debug)]
pub(super) enum Left {
    /// The member closed it in good order.
    Closed,
    /// It failed.
    Failed(String),
    /// What was sent on it was never acknowledged, or not answered: the member's host may have vanished.
    Silent(String),
    /// The member does not answer on it either, after another connection to it was lost like that.
    SilentAsElsewhere(String),
    /// A call on it was told something that speaks against the connection or the member.
    CallFailed(String),
    /// A call on it was told that the member cannot serve it: it has lost its leader, say, or is stopping.
    CannotServe(String),
    /// The member has no leader, or does not answer a status request.
    NoLeader(String),
}

impl Left {
    /// The connection failed with `error`.
    pub(super) fn failed(error: &h2::Error) -> Self {
        let why = error.to_string();
        if is_silence(error) {
            Self::Silent(why)
        } else {
            Self::Failed(why)
        }
    }

    /// A call on the connection met `error`, which is the connection's and not its own.
    pub(super) fn call_failed(error: &h2::Error) -> Self {
        let why = error.to_string();
        if is_silence(error) {
            Self::Silent(why)
        } else {
            Self::CallFailed(why)
        }
    }

    /// Whether the connection was lost, rather than left because of what its member is.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Closed | Self::Failed(_) | Self::Silent(_) | Self::SilentAsElsewhere(_) | Self::CallFailed(_) => true,
            Self::CannotServe(_) | Self::NoLeader(_) => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
            Self::Silent(_) | Self::SilentAsElsewhere(_) => "silent",
            Self::CallFailed(_) | Self::CannotServe(_) => "call_failed",
            Self::NoLeader(_) => "no_leader",
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the member closed the connection"),
            Self::Failed(why)
            | Self::Silent(why)
            | Self::SilentAsElsewhere(why)
            | Self::CallFailed(why)
            | Self::CannotServe(why)
            | Self::NoLeader(why) => f.write_str(why),
        }
    }
}

/// Whether the kernel gave up on a peer of which it has heard nothing; the latter two where a router said so meanwhile.
fn is_silence(error: &h2::Error) -> bool {
    let kind = error.get_io().map(io::Error::kind);
    matches!(
        kind,
        Some(io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
    )
}
