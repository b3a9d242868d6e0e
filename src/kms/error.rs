//! Why a configuration's plugin could not be set up. A plugin that is down is no such error.

/// Why a plugin could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing that its client could run on.
    #[error("KMS plugins are not talked to here")]
    NoRuntime,
}
