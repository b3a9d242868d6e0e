//! What a valid EncryptionConfiguration says, in the words of the other rooms. Only `parse` makes one; nothing here
//! checks or compiles anything.

use std::{collections::HashMap, fmt, time::Duration};

use super::retired::Retired;
use crate::types::{Fingerprint, GroupResource, KeyName, SecretBytes};

/// A validated EncryptionConfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionConfiguration {
    /// The elements of the document's `resources`, in document order; at least one.
    pub entries: Vec<Entry>,
    /// SHA-256 over the document's bytes as they were read.
    pub fingerprint: Fingerprint,
    /// Keys of documents that it replaced, which read behind all that it lists. Not part of the document.
    pub retired: Retired,
}

impl EncryptionConfiguration {
    /// The same, reading with the keys of `past` too, latest document first.
    #[must_use]
    pub fn with_past(self, past: &[Self]) -> Self {
        let retired = Retired::of(&self, past);
        Self { retired, ..self }
    }

    /// Each selector once, in the order of its first appearance, with its providers in the order of the document: the
    /// first writes, every one reads.
    ///
    /// A resource may be in several entries, which then all hold for it. Resources of one entry refer to the same
    /// providers, not to equal ones.
    pub fn rules(&self) -> Vec<(&ResourceSelector, Vec<&Provider>)> {
        let mut rules: Vec<(&ResourceSelector, Vec<&Provider>)> = Vec::new();
        let mut places = HashMap::new();
        for entry in &self.entries {
            for resource in &entry.resources {
                let place = *places.entry(resource).or_insert(rules.len());
                match rules.get_mut(place) {
                    Some((_, providers)) => providers.extend(&entry.providers),
                    None => rules.push((resource, entry.providers.iter().collect())),
                }
            }
        }
        rules
    }
}

/// One element of the document's `resources`: what is encrypted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// At least one, none twice, none overlapping another.
    pub resources: Vec<ResourceSelector>,
    /// At least one. The first writes, every one reads.
    pub providers: Vec<Provider>,
}

/// Which resources a rule is about.
///
/// Displayed as kube-apiserver prints it: `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceSelector {
    /// One resource of one group.
    Exact(GroupResource),
    /// Every resource of the group; the core group is the empty string.
    Group(String),
    /// Every resource of every group.
    All,
}

impl fmt::Display for ResourceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(resource) => fmt::Display::fmt(resource, f),
            Self::Group(group) => write!(f, "*.{group}"),
            Self::All => f.write_str("*.*"),
        }
    }
}

/// One element of `providers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Values as they are.
    Identity,
    /// AES-CBC with PKCS#7 padding; keys of 16, 24 or 32 bytes, at least one.
    AesCbc {
        /// The first writes, every one reads.
        keys: Vec<Key>,
    },
    /// AES-GCM with random nonces; keys of 16, 24 or 32 bytes, at least one.
    AesGcm {
        /// The first writes, every one reads.
        keys: Vec<Key>,
    },
    /// XSalsa20-Poly1305; keys of 32 bytes, at least one.
    Secretbox {
        /// The first writes, every one reads.
        keys: Vec<Key>,
    },
    /// Envelope encryption under a key that a KMS plugin holds.
    Kms(Kms),
}

/// A named key. Its length is one that its provider takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Not empty; stored beside every value that the key sealed.
    pub name: KeyName,
    /// The decoded bytes.
    pub secret: SecretBytes,
}

/// Which protocol a KMS plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KmsApiVersion {
    /// `v1beta1`: one call to the plugin for every data key.
    V1,
    /// `v2`: a seed from which data keys are derived.
    V2,
}

/// A KMS plugin and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kms {
    /// `v1` where the document does not say.
    pub api_version: KmsApiVersion,
    /// Not empty; stored beside every value. Holds no `:` unless the protocol is v1.
    pub name: KeyName,
    /// How many decrypted data keys are kept in memory. Always there for v1 (1000 where the document does not say;
    /// negative: no cache; never 0), never for v2.
    pub cache_size: Option<i32>,
    /// A URL of scheme `unix`.
    pub endpoint: String,
    /// Longest wait for one call; positive, 3 s where the document does not say.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_print_as_kube_apiserver_prints_them() {
        let exact = |group: &str, resource: &str| ResourceSelector::Exact(GroupResource::new(group, resource));
        for (selector, text) in [
            (exact("", "secrets"), "secrets"),
            (exact("awesome.bears.example", "pandas"), "pandas.awesome.bears.example"),
            (ResourceSelector::Group(String::new()), "*."),
            (ResourceSelector::Group("apps".into()), "*.apps"),
            (ResourceSelector::All, "*.*"),
        ] {
            assert_eq!(selector.to_string(), text);
        }
    }
}
