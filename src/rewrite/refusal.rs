//! Why a request is not sent on. The text of each is made for the client and holds no byte of a value.

use super::EscapedKey;
use crate::{value::SealError, wire::WireError};

/// A request that is answered here, not by etcd. Nothing of it has been sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a protobuf message, or one that etcd's decoders might read differently.
    #[error("malformed request: {0}")]
    Malformed(WireError),
    /// Transactions nest deeper, or have more operations in all, than any etcd would carry out. The text is etcd's own.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// No key, where one has to be. etcd refuses that with this text; kine takes it for every key, the proxy's own records among them.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A transaction's operation or a watch request of a kind that did not exist when this was written: it may carry
    /// values.
    #[error("a request of an unknown kind cannot pass an encrypting proxy")]
    UnknownKind,
    /// A comparison with a value that etcd has only sealed: it would compare ciphertext.
    #[error("values cannot be compared: the value of {key} is encrypted")]
    ValueCompare {
        /// The compare's key, or the first of its range.
        key: EscapedKey,
    },
    /// Sorting by values that etcd has only sealed: it would sort ciphertext.
    #[error("keys cannot be sorted by value: values from {key} on are encrypted")]
    ValueSort {
        /// The first key of the range.
        key: EscapedKey,
    },
    /// A sort order or target that etcd does not define: from 3.6 on it refuses such a range itself, with this text; before, the
    /// member that sorts ends, and all of them do where it is in a transaction that writes.
    #[error("etcdserver: invalid sort option")]
    SortOption,
    /// An alarm with an action or a type that etcd does not define: every member of 3.4 and 3.5 ends when it applies one, and
    /// again each time it is started.
    #[error("an alarm with an unknown action or type is not passed on: members of etcd would end of it")]
    Alarm,
    /// A role is to be granted no permission: every member of 3.4 ends when it applies that. Later ones refuse it with this text.
    #[error("etcdserver: permission not given")]
    NoPermission,
    /// A key of the proxy's own records, or the lease of one. The text is etcd's own, by which clients know the error.
    #[error("etcdserver: permission denied")]
    StatePrefix,
    /// A lease is to be granted under an ID of the proxy's own kind, which nobody could revoke. The text is etcd's own for an ID that
    /// is taken: clients then ask for another.
    #[error("etcdserver: lease already exists")]
    LeaseTaken,
    /// A key is to hang on a lease of the proxy's own, and would end when it does. The text is etcd's own.
    #[error("etcdserver: requested lease not found")]
    NoSuchLease,
    /// A streamed range over the proxy's own records, which only the unary call can cut out.
    #[error("this range cannot be streamed; use Range")]
    StreamOverState,
    /// A streamed range with a limit, of a store that streams one key too many and does not say that there are more.
    #[error("a range with a limit cannot be streamed from this store; use Range")]
    LimitedStream,
    /// A lock or election where etcd itself would read or write values, in clear, below an encrypted prefix.
    #[error("{name} cannot name a lock or election: values below it are encrypted")]
    EncryptedName {
        /// The name or key.
        name: EscapedKey,
    },
    /// A value could not be sealed; it is never sent in clear instead.
    #[error("the value of {key} could not be encrypted")]
    Seal {
        /// Whose value.
        key: EscapedKey,
        /// Why.
        source: SealError,
    },
}

// Not as its source: what it says is told already.
impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

/// What sort of error a [`Refusal`] is, for whoever makes a gRPC status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The client must send something else.
    InvalidArgument,
    /// The client names something that is not there for it.
    NotFound,
    /// The client asks for what cannot be as things are.
    FailedPrecondition,
    /// The client may not.
    PermissionDenied,
    /// The client should do it another way, if it knows one.
    Unimplemented,
    /// Our own failure.
    CannotSeal,
}

impl Refusal {
    /// Whether this is no refusal at all: DEKs have to be fetched, and then the same is to be tried again.
    pub fn is_pending(&self) -> bool {
        matches!(
            self,
            Self::Seal {
                source: SealError::Pending,
                ..
            }
        )
    }

    /// One word for it, the same for all of its kind: for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooManyOps => "too_many_ops",
            Self::EmptyKey => "empty_key",
            Self::UnknownKind => "unknown_kind",
            Self::ValueCompare { .. } => "value_compare",
            Self::ValueSort { .. } => "value_sort",
            Self::SortOption | Self::Alarm | Self::NoPermission => "harms_etcd",
            Self::StatePrefix | Self::LeaseTaken | Self::NoSuchLease => "state_prefix",
            Self::StreamOverState => "stream_over_state",
            Self::LimitedStream => "limited_stream",
            Self::EncryptedName { .. } => "encrypted_name",
            Self::Seal { .. } => "cannot_seal",
        }
    }

    /// What sort of error it is.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Malformed(_)
            | Self::TooManyOps
            | Self::EmptyKey
            | Self::ValueCompare { .. }
            | Self::ValueSort { .. }
            | Self::SortOption
            | Self::Alarm
            | Self::NoPermission
            | Self::EncryptedName { .. } => RefusalKind::InvalidArgument,
            Self::StatePrefix => RefusalKind::PermissionDenied,
            Self::LeaseTaken => RefusalKind::FailedPrecondition,
            Self::NoSuchLease => RefusalKind::NotFound,
            Self::UnknownKind | Self::StreamOverState | Self::LimitedStream => RefusalKind::Unimplemented,
            Self::Seal { .. } => RefusalKind::CannotSeal,
        }
    }
}
