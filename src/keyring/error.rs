//! Why a valid configuration could not be made into a keyring.

use crate::types::KeyName;
use crate::value::BuildError;

/// A step of compiling that failed. Positions are those of the document's `resources` and `providers` lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration lists a KMS plugin, which this version can't use.
    #[error(
        "resources[{entry}].providers[{provider}]: kms provider {:?} can't be used: this version has no KMS support",
        name.as_str()
    )]
    Kms {
        /// Index of the entry in `resources`.
        entry: usize,
        /// Index in the entry's `providers`.
        provider: usize,
        /// The name of the kms provider.
        name: KeyName,
    },
    /// A provider could not be keyed.
    #[error("resources[{entry}].providers[{provider}] could not be set up")]
    Provider {
        /// Index of the entry in `resources`.
        entry: usize,
        /// Index in the entry's `providers`.
        provider: usize,
        /// What it lacks.
        source: BuildError,
    },
    /// A rule's providers make no chain.
    #[error("the rule for {selector} could not be set up")]
    Chain {
        /// The rule's selector as the configuration writes it.
        selector: String,
        /// What it lacks.
        source: BuildError,
    },
}
