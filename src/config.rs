//! An EncryptionConfiguration's text, strictly read and validated, changed and written again. Does no IO, and never shows a
//! byte of a key but in a document that is asked for.
//!
//! Text becomes a tree of located nodes (`tree`), the tree becomes the fields as they were written (`decode`), and those
//! become the configuration (`validate`, `masking`). Each step collects its problems, and the first that has any ends it.
//! A `draft` is a configuration that a rotation changes, and `render` makes a document of it.

mod decode;
mod draft;
mod error;
mod go;
mod keys;
mod masking;
mod migrate;
mod model;
mod path;
mod provider_type;
mod render;
mod render_json;
mod retired;
mod scalar;
mod schema;
mod text;
mod tree;
mod validate;

pub use decode::Syntax;
pub use draft::Draft;
pub use error::{Error, Location, Problem};
pub use keys::{KeyId, KeyType, Writer};
pub use migrate::{Conflict, Migration, Target};
pub use model::{EncryptionConfiguration, Entry, Key, Kms, KmsApiVersion, Provider, ResourceSelector};

pub use provider_type::ProviderType;
pub use retired::Retired;

use crate::types::Fingerprint;

/// The largest document that is read: 1 MiB, which is also as much as Kubernetes itself could bring to a node in one
/// object. It has room for some 10,000 keys.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// What a check depends on beside the document itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the configuration will be reloaded while running. kube-apiserver then checks the names of KMS v1
    /// providers for duplicates too.
    pub reload: bool,
}

/// The configuration that `bytes` hold as YAML or JSON, under the rules of kube-apiserver 1.31 and later with the feature
/// gate `KMSv1` on.
///
/// # Errors
///
/// Everything wrong with the document that one step of the checks finds; it never holds a secret of the document, nor the
/// name of its file.
pub fn parse(bytes: &[u8], options: Options) -> Result<EncryptionConfiguration, Error> {
    let (text, syntax) = text::read(bytes)?;
    let tree = tree::read(text)?;
    let document = decode::decode(tree.root(), syntax)?;
    let entries = validate::validate(&document, options.reload)?;
    masking::check(&document)?;
    Ok(EncryptionConfiguration {
        entries,
        fingerprint: Fingerprint::of(bytes),
        retired: Retired::default(),
    })
}

#[cfg(test)]
mod tests;
