//! An EncryptionConfiguration's text, strictly read and validated. Does no IO, and never shows a byte of a key.

mod error;
mod model;

pub use error::{Error, Location, Problem};
pub use model::{EncryptionConfiguration, Entry, Key, Kms, KmsApiVersion, Provider, ResourceSelector};

/// What a check depends on beside the document itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the configuration will be reloaded while running. kube-apiserver then checks the names of KMS v1
    /// providers for duplicates too.
    pub reload: bool,
}
