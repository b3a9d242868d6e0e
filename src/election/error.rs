//! Why a process has not got a right, or has it no longer.

use thiserror::Error;

use super::Holder;
use crate::etcd::WaitError;

/// Why a process has not got a right, or has it no longer.
#[derive(Debug, Error)]
pub enum Error {
    /// Another process has it, and may be alive.
    #[error("held by {0}")]
    Held(Box<Holder>),
    /// This process had it.
    #[error("the lease in etcd was lost: {why}")]
    LostOwnership {
        /// How that came to be known.
        why: String,
    },
    /// etcd did not answer as it should.
    #[error(transparent)]
    Etcd(#[from] WaitError),
}
