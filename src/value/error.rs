//! What can go wrong between a plaintext and its stored bytes. Texts name providers and keys, never their bytes.

use super::{KmsFailure, ObjectError, ProviderKind};
use crate::types::KeyName;

/// A provider or chain that can't be built from what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A chain must write with something.
    #[error("a chain needs at least one provider")]
    NoProviders,
    /// A provider must write with some key.
    #[error("{0} needs at least one key")]
    NoKeys(ProviderKind),
    /// The cipher has no variant for a key of this size.
    #[error("{provider} key {:?} has {actual} bytes, expected {expected}", name.as_str())]
    KeySize {
        /// Whose key it is.
        provider: ProviderKind,
        /// Which of its keys.
        name: KeyName,
        /// Length of the key, in bytes.
        actual: usize,
        /// The lengths that would do, in words.
        expected: &'static str,
    },
}

/// A plaintext that could not be sealed. Nothing may be stored in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The cipher refused; the ciphers do so only beyond their limit on the length of one message.
    #[error("{0} could not encrypt the value")]
    Cipher(ProviderKind),
    /// A KMS plugin has no key to write with.
    #[error("{0}")]
    Kms(KmsFailure),
    /// A KMS v1 plugin has wrapped a DEK in more than the 65,535 bytes that can be stored with a value.
    #[error("the plugin's encrypted DEK is longer than 65535 bytes")]
    WrappedDekTooLong,
    /// A DEK has to be fetched first: not a failure, and never told to anybody.
    #[error("a data encryption key has to be fetched first")]
    Pending,
}

/// A stored value that could not be opened.
///
/// The texts are kube-apiserver's own, with one exception: all that can be wrong with an encrypted body is
/// [`OpenError::Undecryptable`]. Telling a bad padding from a bad length would hand a padding oracle to whoever can
/// write to etcd and watch the errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No provider of the chain recognises the value; also a plaintext where the chain lacks identity.
    #[error("no matching prefix found")]
    NoMatchingPrefix,
    /// The provider recognises the value, but it names none of its keys.
    #[error("no matching key was found for the provided {} transformer", .0.transformer())]
    NoMatchingKey(ProviderKind),
    /// The named key does not open the body: tampered with, cut off, moved from another etcd key, or sealed with other
    /// key bytes under the same name. Which of these it is, is not told.
    #[error("the stored data could not be decrypted")]
    Undecryptable,
    /// identity was asked to return a sealed value as if it were plaintext.
    #[error("identity transformer tried to read encrypted data")]
    IdentityReadSealed,
    /// A KMS v1 value that does not hold the wrapped DEK that its length prefix announces.
    #[error("invalid data encountered by envelope transformer: failed to read uint16 length prefixed data")]
    LengthPrefix,
    /// A KMS v2 value that is not what kube-apiserver would take for one.
    #[error("{0}")]
    Object(ObjectError),
    /// The KMS plugin did not unwrap the DEK.
    #[error("failed to decrypt DEK, error: {0}")]
    Kms(KmsFailure),
    /// A DEK has to be fetched first: not a failure, and never told to anybody.
    #[error("a data encryption key has to be fetched first")]
    Pending,
    /// Several candidates failed, each in its own way: at least two, no two equal, none of them `Several`.
    #[error("[{}]", comma_separated(.0))]
    Several(Vec<OpenError>),
}

impl OpenError {
    /// Whether the value may well open later, because all that kept it from opening is that a KMS could not be asked.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kms(failure) => failure.is_transient,
            Self::Several(errors) => errors.iter().any(Self::is_transient),
            _ => false,
        }
    }

    /// Joins what the candidates of one search said, as apimachinery's aggregate is printed: nested lists flattened,
    /// repetitions dropped, a single error left as it is. `None` for no errors at all.
    pub(super) fn reduce(errors: Vec<Self>) -> Option<Self> {
        let mut distinct = Vec::with_capacity(errors.len());
        let flat = errors.into_iter().flat_map(|error| match error {
            Self::Several(inner) => inner,
            single => vec![single],
        });
        for error in flat {
            if !distinct.contains(&error) {
                distinct.push(error);
            }
        }
        if distinct.len() > 1 {
            Some(Self::Several(distinct))
        } else {
            distinct.pop()
        }
    }
}

fn comma_separated(errors: &[OpenError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_reduce_as_kube_apiserver_prints_its_aggregates() {
        use OpenError::{NoMatchingKey, Several, Undecryptable};
        let aes = NoMatchingKey(ProviderKind::AesCbc);
        assert_eq!(OpenError::reduce(vec![]), None);
        assert_eq!(OpenError::reduce(vec![Undecryptable]), Some(Undecryptable));
        assert_eq!(
            OpenError::reduce(vec![Undecryptable, Undecryptable]),
            Some(Undecryptable)
        );
        let nested = OpenError::reduce(vec![Several(vec![aes.clone(), Undecryptable]), aes.clone()]);
        assert_eq!(nested, Some(Several(vec![aes, Undecryptable])));
        assert_eq!(
            nested.map(|error| error.to_string()).as_deref(),
            Some(
                "[no matching key was found for the provided AES transformer, the stored data could not be decrypted]"
            )
        );
    }

    #[test]
    fn both_aes_providers_report_a_missing_key_in_the_same_words() {
        let text = |kind| OpenError::NoMatchingKey(kind).to_string();
        assert_eq!(text(ProviderKind::AesCbc), text(ProviderKind::AesGcm));
        assert_eq!(
            text(ProviderKind::Secretbox),
            "no matching key was found for the provided Secretbox transformer"
        );
    }
}
