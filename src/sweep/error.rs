//! Why a sweep ended before its proof. No variant holds a byte of a value or a key of a cipher.

use std::time::Duration;

use thiserror::Error;

use crate::election::{self, Holder};
use crate::etcd::{CallError, WaitError};

/// Why a sweep ended before its proof.
#[derive(Debug, Error)]
pub enum Error {
    /// etcd gave an answer that waiting does not change.
    #[error("the sweep cannot go on")]
    Call(#[source] CallError),
    /// Trouble that should have passed did not.
    #[error("gave up after {} s: {last}. What is done is kept: start it again to go on", after.as_secs())]
    GaveUp {
        /// How long nothing worked.
        after: Duration,
        /// What was wrong when it was given up.
        last: String,
    },
    /// Another sweep is at work.
    #[error("another sweep is at work: {0}")]
    Held(Box<Holder>),
    /// This sweep is no longer the one that may write.
    #[error("this sweep lost its lease in etcd, so another may be at work: {why}. Start it again to go on")]
    LostOwnership {
        /// How that came to be known.
        why: String,
    },
    /// The epoch that it may write in is over: the configuration may be another one by now.
    #[error(
        "another process has replaced the epoch in etcd meanwhile, so what this sweep seals is not taken any more. What is done \
         is kept: start it again to go on"
    )]
    Fenced,
    /// It was told to stop.
    #[error("stopped. What is done is kept: start it again to go on")]
    Stopped,
    /// The checkpoint is of a newer version, or not a checkpoint.
    #[error(
        "the checkpoint of sweeps in etcd cannot be read ({why}), so no sweep goes on. It is progress and nothing else: `sweep \
         --restart` begins anew, and so does --restart with `secrets-encrypt reencrypt`, `rotate-keys` and `abort`"
    )]
    Checkpoint {
        /// What is wrong with it.
        why: String,
    },
    /// The rule's writer has no key to write with.
    #[error("values cannot be encrypted: {why}")]
    Seal {
        /// What the provider said.
        why: String,
    },
}

impl Error {
    /// Whether starting the sweep again would take it up where it was left.
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::GaveUp { .. } | Self::LostOwnership { .. } | Self::Fenced | Self::Stopped => true,
            Self::Call(_) | Self::Held(_) | Self::Checkpoint { .. } | Self::Seal { .. } => false,
        }
    }
}

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Call(error) => Self::Call(error),
            WaitError::GaveUp { after, last } => Self::GaveUp { after, last },
        }
    }
}

impl From<election::Error> for Error {
    fn from(error: election::Error) -> Self {
        match error {
            election::Error::Held(holder) => Self::Held(holder),
            election::Error::LostOwnership { why } => Self::LostOwnership { why },
            election::Error::Etcd(error) => error.into(),
        }
    }
}
