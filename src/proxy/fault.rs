//! What a client is told when the proxy itself ends its call: a gRPC code and a text, nothing secret in it.
//!
//! Codes matter more than they seem to. etcd's client replays a write up to a hundred times on `CANCELLED` and
//! `DEADLINE_EXCEEDED`, and reopens a watch at once and for ever on `INTERNAL`; so none of the three is ever made here.

use std::fmt::Write as _;

use h2::Reason;
use http::{HeaderMap, HeaderValue};

use super::frame::FrameError;
use super::meters;
use crate::etcd::Unreachable;
use crate::rewrite::{OpenFailure, Refusal, RefusalKind};

/// gRPC status codes that the proxy makes. Source: gRPC's public status code list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
    DataLoss = 15,
}

/// How many status codes gRPC defines, numbered from 0.
pub(super) const CODES: usize = 17;

/// The status of a call whose client went away. Never one that a client is told.
pub(super) const CANCELLED: u16 = 1;

/// Names of gRPC's status codes, by number, as metrics of Kubernetes and etcd have them.
const CODE_NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The name of a status code.
pub(super) fn code_name(code: u16) -> &'static str {
    CODE_NAMES.get(usize::from(code)).copied().unwrap_or("Undefined")
}

/// Why a call ends other than by etcd's own answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The client is told so.
    Status(Code, String),
    /// The same, because it may not have what it asks for: why, in one word.
    Refused(&'static str, Code, String),
    /// A message is compressed, which the client can spare itself: it is told what is taken.
    Compressed(String),
    /// The same, on a watch: only after a pause, because etcd's client reopens a watch without one.
    UpstreamLost(String),
    /// Nothing was sent to etcd, and the client had better take another way: gRPC's clients do so by themselves, writes included.
    NotSent,
    /// The client has gone; nobody is there to be told.
    Gone,
}

impl Fault {
    pub(super) fn status(code: Code, text: impl Into<String>) -> Self {
        Self::Status(code, text.into())
    }

    /// The upstream stream or connection failed under a call. UNAVAILABLE: clients retry reads, and give up on writes,
    /// of which nobody knows whether they happened.
    pub(super) fn upstream(error: &h2::Error) -> Self {
        Self::UpstreamLost(format!("connection to etcd lost: {error}"))
    }

    /// A request that could not be read from the client.
    pub(super) fn request(error: &FrameError) -> Self {
        if let Some(reason) = reason(error) {
            meters::refused(reason);
        }
        let code = match error {
            FrameError::Stream(_) => return Self::Gone,
            // etcd's own words and code: kube-apiserver acts on exactly these.
            FrameError::TooLarge { .. } => {
                return Self::status(Code::InvalidArgument, "etcdserver: request is too large");
            }
            // The same: its answer to a client that sends faster than requests can be applied.
            FrameError::Crowded => return Self::status(Code::ResourceExhausted, "etcdserver: too many requests"),
            FrameError::Compressed(_) => return Self::Compressed(error.to_string()),
            FrameError::Truncated | FrameError::Flag(_) | FrameError::Surplus | FrameError::Missing => {
                Code::InvalidArgument
            }
        };
        Self::status(code, error.to_string())
    }

    /// An answer that could not be read from etcd.
    pub(super) fn response(error: &FrameError) -> Self {
        match error {
            FrameError::Stream(error) => Self::upstream(error),
            FrameError::Compressed(encoding) => Self::status(
                Code::Unknown,
                format!("unusable answer from etcd: it is compressed ({encoding:?}), which was not asked for"),
            ),
            _ => Self::status(Code::Unknown, format!("unusable answer from etcd: {error}")),
        }
    }

    /// A request that is not sent on.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        meters::refused(refusal.reason());
        let code = match refusal.kind() {
            RefusalKind::InvalidArgument => Code::InvalidArgument,
            RefusalKind::NotFound => Code::NotFound,
            RefusalKind::PermissionDenied => Code::PermissionDenied,
            RefusalKind::Unimplemented => Code::Unimplemented,
            RefusalKind::CannotSeal | RefusalKind::FailedPrecondition => Code::FailedPrecondition,
        };
        let text = match refusal {
            // The client is who can tell an operator that a KMS is away.
            Refusal::Seal { source, .. } => format!("etcd-encryption-proxy: {refusal}: {source}"),
            _ => refusal.to_string(),
        };
        match refusal.kind() {
            RefusalKind::CannotSeal => Self::status(code, text),
            _ => Self::Refused(refusal.reason(), code, text),
        }
    }

    /// Snapshots, which hold the proxy's own records too, are not for clients here.
    pub(super) fn no_snapshot() -> Self {
        meters::refused("snapshot");
        let text =
            "etcd-encryption-proxy: snapshots are not served here (--allow-snapshot=false); take them from etcd itself";
        Self::Refused("snapshot", Code::PermissionDenied, text.to_owned())
    }

    /// An answer of etcd's that must not be passed on. `DATA_LOSS` ends a watch for good and is retried by nobody; neither is
    /// the code for a KMS that could not be asked, which would be asked by a hundred retries at once otherwise.
    pub(super) fn refused_answer(failure: &OpenFailure) -> Self {
        if let OpenFailure::Value { source, .. } = failure
            && failure.is_transient()
        {
            return Self::status(
                Code::FailedPrecondition,
                format!("etcd-encryption-proxy: {failure}: {source}"),
            );
        }
        Self::status(Code::DataLoss, format!("etcd-encryption-proxy: {failure}"))
    }

    /// A write under a rule that may not be: why, in words for an operator. Not retried, as what cannot be sealed is not: it takes
    /// until an operator has done something.
    pub(super) fn may_not_write(why: &str) -> Self {
        meters::refused("no_permit");
        let text = format!("etcd-encryption-proxy: values are not written here: {why}");
        Self::status(Code::FailedPrecondition, text)
    }

    /// Whether a write under a rule may be was not found out in time: etcd did not tell its epoch, or the configuration could not
    /// be looked at.
    pub(super) fn no_permit() -> Self {
        meters::refused("no_permit");
        let text =
            "etcd-encryption-proxy: it could not be found out in time whether values may be written; the log says why";
        Self::status(Code::Unavailable, text)
    }

    /// The epoch was replaced again and again.
    pub(super) fn restless() -> Self {
        meters::refused("no_permit");
        let text = "etcd-encryption-proxy: the epoch in etcd was replaced faster than a value could be written";
        Self::status(Code::Unavailable, text)
    }

    /// A write without a fence by a process of which others cannot know what it writes with. Not retried, as what cannot be
    /// sealed is not: it takes as long as etcd does not take the record, or as the configuration is an old one.
    pub(super) fn unknown_to_others() -> Self {
        meters::refused("no_member_record");
        let text = "etcd-encryption-proxy: nothing is encrypted while etcd holds no valid record of this process; its log \
                    says why";
        Self::status(Code::FailedPrecondition, text)
    }

    /// A value that does not open, met by a process of which nobody knows what it has loaded: others may have a key that it has
    /// not. UNAVAILABLE: clients try again, elsewhere if they can; on a watch only after a pause.
    pub(super) fn may_be_outdated() -> Self {
        meters::refused("no_member_record");
        let text =
            "etcd-encryption-proxy: a value cannot be decrypted, and this process may have an outdated configuration";
        Self::UpstreamLost(text.to_owned())
    }

    /// The proxy is shutting down. etcd's own words when it does: clients go elsewhere and come back.
    pub(super) fn stopping() -> Self {
        Self::status(Code::Unavailable, "etcdserver: server stopped")
    }

    /// The code's number; `Gone` has none.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(code, _) | Self::Refused(_, code, _) => Some(*code as u16),
            Self::Compressed(_) => Some(Code::Unimplemented as u16),
            Self::UpstreamLost(_) | Self::NotSent => Some(Code::Unavailable as u16),
            Self::Gone => None,
        }
    }

    /// What the client sees: `grpc-status` and `grpc-message`.
    pub(super) fn write_to(&self, headers: &mut HeaderMap) {
        let (code, text) = match self {
            Self::Status(code, text) | Self::Refused(_, code, text) => (*code, text.as_str()),
            Self::Compressed(text) => (Code::Unimplemented, text.as_str()),
            Self::UpstreamLost(text) => (Code::Unavailable, text.as_str()),
            Self::NotSent | Self::Gone => (Code::Unavailable, ""),
        };
        if let Self::Compressed(_) = self {
            // gRPC's compression specification: along with this status the client is told what it may use.
            headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
        }
        headers.insert("grpc-status", HeaderValue::from(code as u16));
        if let Ok(text) = HeaderValue::from_str(&percent_encoded(text)) {
            headers.insert("grpc-message", text);
        }
    }
}

impl From<Unreachable> for Fault {
    fn from(error: Unreachable) -> Self {
        if error.is_given_up {
            return Self::NotSent;
        }
        Self::UpstreamLost(error.to_string())
    }
}

/// What a request is counted under that could not be read; `None` if its client went away.
fn reason(error: &FrameError) -> Option<&'static str> {
    match error {
        FrameError::Stream(_) => None,
        FrameError::TooLarge { .. } => Some("too_large"),
        FrameError::Crowded => Some("too_many_bytes"),
        FrameError::Compressed(_) => Some("compressed"),
        FrameError::Truncated | FrameError::Flag(_) | FrameError::Surplus | FrameError::Missing => Some("malformed"),
    }
}

/// Whether a failed stream is known not to have been looked at by the member, so that sending it again is safe: refused,
/// or above the last stream that a GOAWAY names (h2 reports a GOAWAY on no other stream).
pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && match error.reason() {
            Some(Reason::REFUSED_STREAM) => error.is_reset(),
            Some(Reason::NO_ERROR) => error.is_go_away(),
            _ => false,
        }
}

/// gRPC's encoding of `grpc-message`: printable ASCII except `%` stands, every other byte is `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_as_grpc_has_it() {
        let mut headers = HeaderMap::new();
        Fault::status(Code::DataLoss, "50% of \"ö\"\n").write_to(&mut headers);
        assert_eq!(headers["grpc-status"], "15");
        assert_eq!(headers["grpc-message"], "50%25 of \"%C3%B6\"%0A");
    }
}
