//! Why one call of a plugin came to nothing, and whether the same may work later.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tonic::Code;

use crate::types::KeyName;
use crate::value::KmsFailure;

/// A call that came to nothing. Texts of the plugin's are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum CallError {
    /// No connection came about that would carry the call.
    #[error("the plugin at {endpoint} is not reachable: {why}")]
    NotReachable {
        /// As configured.
        endpoint: String,
        /// What the last try failed with.
        why: String,
    },
    /// It was sent, and nothing came back.
    #[error("the plugin did not answer within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
    /// The plugin said no, or answered what is no answer.
    #[error("the plugin answered {}: {text}", code_name(*.code))]
    Status {
        /// Its code.
        code: Code,
        /// Its words.
        text: String,
    },
    /// The answer is well formed and of no use.
    #[error("{0}")]
    Unusable(String),
}

impl CallError {
    /// Whether the plugin could not be asked, or could not ask its KMS.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NotReachable { .. } | Self::Deadline(_) => true,
            Self::Unusable(_) => false,
            Self::Status { code, .. } => matches!(
                code,
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Aborted
                    | Code::Cancelled
                    | Code::Internal
                    | Code::Unknown
            ),
        }
    }

    /// Whether nothing was heard of the plugin at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::NotReachable { .. } | Self::Deadline(_))
    }

    /// What metrics call it.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotReachable { .. } => Code::Unavailable,
            Self::Deadline(_) => Code::DeadlineExceeded,
            Self::Unusable(_) => Code::Unknown,
            Self::Status { code, .. } => *code,
        }
    }

    /// The same for whoever needed the key.
    pub(super) fn of(&self, provider: &KeyName) -> KmsFailure {
        KmsFailure {
            provider: provider.clone(),
            text: self.to_string().into(),
            is_transient: self.is_transient(),
            code: Some(code_name(self.code())),
        }
    }
}

/// What is said when the runtime that the plugins' clients live on is gone.
pub(super) const STOPPING: &str = "the proxy is shutting down";

/// The runtime that the plugin's client lives on is gone.
pub(super) fn stopping(provider: &KeyName) -> KmsFailure {
    KmsFailure {
        provider: provider.clone(),
        text: Arc::from(STOPPING),
        is_transient: true,
        code: None,
    }
}

/// The name of a code as Go prints it, which is what metrics of Kubernetes have.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
