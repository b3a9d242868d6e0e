//! Why a valid configuration could not be made into a keyring.

use crate::kms;
use crate::types::KeyName;
use crate::value::BuildError;

/// A step of compiling that failed. Positions are those of the document's `resources` and `providers` lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A KMS plugin could not be set up, which is no matter of whether it can be reached.
    #[error("resources[{entry}].providers[{provider}]: kms provider {:?} could not be set up", name.as_str())]
    Kms {
        /// Index of the entry in `resources`.
        entry: usize,
        /// Index in the entry's `providers`.
        provider: usize,
        /// The name of the kms provider.
        name: KeyName,
        /// Why.
        source: kms::Error,
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
    /// A retired key could not be keyed.
    #[error("the retired keys of the archive could not be set up")]
    Retired(#[source] BuildError),
    /// A rule's providers make no chain.
    #[error("the rule for {selector} could not be set up")]
    Chain {
        /// The rule's selector as the configuration writes it.
        selector: String,
        /// What it lacks.
        source: BuildError,
    },
}
