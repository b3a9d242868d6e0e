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
    /// It speaks another version of the protocol. That says nothing of what it was to do.
    #[error("KMS provider api version {found} is not supported, only {wanted} is supported now")]
    Version {
        /// What it named.
        found: String,
        /// What is spoken here.
        wanted: &'static str,
    },
    /// The answer is well formed and of no use.
    #[error("{0}")]
    Unusable(String),
}

impl CallError {
    /// Whether it says nothing of what the plugin was given: the same may work once the plugin, its credentials or its KMS are
    /// well.
    ///
    /// Only two codes speak of the value itself: `INVALID_ARGUMENT` and `DATA_LOSS`. All others are of the way there (credentials that
    /// have expired, a key that is disabled or not found, a quota, a plugin of another version), and whoever took one for
    /// corruption would report every stored value as lost.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NotReachable { .. } | Self::Deadline(_) | Self::Version { .. } => true,
            Self::Unusable(_) => false,
            Self::Status { code, .. } => !matches!(code, Code::InvalidArgument | Code::DataLoss),
        }
    }

    /// Whether the plugin, or its KMS, was asked too often.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: Code::ResourceExhausted,
                ..
            }
        )
    }

    /// Whether the plugin has no time, or its KMS has not: the same is to be asked again, less often.
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: Code::ResourceExhausted | Code::Unavailable,
                ..
            }
        )
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
            Self::Unusable(_) | Self::Version { .. } => Code::Unknown,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_codes_speak_of_the_value_and_all_others_of_the_way_there() {
        for number in 1..=16 {
            let code = Code::from_i32(number);
            let error = CallError::Status {
                code,
                text: String::new(),
            };
            let is_of_the_value = [Code::InvalidArgument, Code::DataLoss].contains(&code);
            assert_eq!(error.is_transient(), !is_of_the_value, "{code:?}");
        }
        let version = CallError::Version {
            found: "v1".into(),
            wanted: "v1beta1",
        };
        assert!(version.is_transient());
    }
}
