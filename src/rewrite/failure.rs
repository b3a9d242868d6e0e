//! Why an answer of etcd's cannot be opened, and the record of values that were passed on unopened. Keys and reasons only,
//! never a byte of a value.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

use crate::{
    value::{self, OpenError, SealedBy},
    wire::WireError,
};

/// How many bytes of a key are shown.
const SHOWN_KEY_BYTES: usize = 256;

/// How many undecryptable values are remembered by key; the others are counted.
const REMEMBERED: usize = 16;

/// And of how many that bear an encryption header it is known which they were.
const TOLD_APART: usize = 1024;

/// An etcd key made printable: ASCII as it is, other bytes as `\x..`, cut after 256 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct EscapedKey(Box<[u8]>);

impl EscapedKey {
    /// Makes `key` printable.
    pub fn new(key: &[u8]) -> Self {
        // One byte more than is shown says that there are more.
        Self(key.get(..=SHOWN_KEY_BYTES).unwrap_or(key).into())
    }

    /// What tells it from most other keys.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.finish()
    }

    /// As it is displayed, but without the quotes: for a place that has its own.
    pub fn unquoted(&self) -> String {
        match self.0.get(..SHOWN_KEY_BYTES) {
            Some(shown) if shown.len() < self.0.len() => format!("{}…", shown.escape_ascii()),
            _ => self.0.escape_ascii().to_string(),
        }
    }
}

impl fmt::Display for EscapedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_KEY_BYTES) {
            Some(shown) if shown.len() < self.0.len() => write!(f, "\"{}\"…", shown.escape_ascii()),
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for EscapedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An answer that must not reach the client. Where it answers a write, etcd has carried the write out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// etcd's answer is not the message that it should be.
    #[error("etcd's answer is malformed: {0}")]
    Malformed(WireError),
    /// etcd's answer does not have one response, of the right kind, for each operation of the transaction.
    #[error("etcd's answer does not match the transaction")]
    Mismatch,
    /// etcd's answer has a key of the proxy's own records. None was asked for: the store reads a range otherwise than etcd.
    #[error("etcd's answer has keys that were not asked for")]
    Stray,
    /// The parts of a range are not the whole: the store reads ranges otherwise than etcd, or has left something out.
    #[error(
        "the parts of this range do not add up, so the store reads ranges otherwise than etcd (kine before 0.16.3 does) or has left keys \
         out; ask for a range that does not go around the proxy's own keys"
    )]
    Incomplete,
    /// A value did not open.
    #[error("the value of {key} cannot be decrypted")]
    Value {
        /// Whose value.
        key: EscapedKey,
        /// What the value says that it was sealed by.
        sealed_by: Option<Box<SealedBy>>,
        /// Why, in kube-apiserver's words.
        source: OpenError,
    },
}

// Not as its source: what it says is told already.
impl From<WireError> for OpenFailure {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl OpenFailure {
    /// Whether the same request may well succeed later, because all that is wrong is that a KMS could not be asked.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Value { source, .. } if source.is_transient())
    }
}

/// Values that did not open and were passed on as ciphertext, or empty, all the same.
#[derive(Debug, Default)]
pub struct Undecryptable {
    count: usize,
    unavailable: usize,
    may_fail: bool,
    /// Of the keys of those that bear an encryption header.
    sealed: Vec<u64>,
    first: Vec<Unopened>,
}

/// A value that did not open.
#[derive(Clone, Debug)]
pub struct Unopened {
    /// Whose value.
    pub key: EscapedKey,
    /// What it says that it was sealed by.
    pub sealed_by: Option<SealedBy>,
    /// Why it did not open, in kube-apiserver's words.
    pub error: OpenError,
}

impl Undecryptable {
    pub(super) fn add(&mut self, key: &[u8], stored: &[u8], error: OpenError) {
        let counter = if error.is_transient() {
            &mut self.unavailable
        } else {
            &mut self.count
        };
        *counter += 1;
        if !error.is_transient() && value::is_sealed(stored) && self.sealed.len() < TOLD_APART {
            self.sealed.push(EscapedKey::new(key).digest());
        }
        if self.first.len() < REMEMBERED {
            self.first.push(Unopened {
                key: EscapedKey::new(key),
                sealed_by: value::sealed_by(stored),
                error,
            });
        }
    }

    /// Notes that the answer could have been refused for what was added.
    pub(super) fn could_fail(&mut self) {
        self.may_fail = true;
    }

    /// Whether nothing would be lost if the whole answer were refused: it is to a read, or an event that can be had again.
    pub fn may_fail(&self) -> bool {
        self.may_fail
    }

    /// How many there were that no key of their rule opens.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many more there were whose KMS could not be asked: nothing is known of them.
    pub fn unavailable(&self) -> usize {
        self.unavailable
    }

    /// Digests of the etcd keys of those that are encrypted and that no key opens, a thousand at most.
    pub fn sealed(&self) -> &[u64] {
        &self.sealed
    }

    /// The first of them, at most 16.
    pub fn first(&self) -> &[Unopened] {
        &self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_ascii_and_not_without_end() {
        assert_eq!(EscapedKey::new(b"/a\n\xff\"").to_string(), r#""/a\n\xff\"""#);
        assert_eq!(EscapedKey::new(&[b'a'; 256]).to_string().len(), 258);
        assert_eq!(EscapedKey::new(b"/a\n").unquoted(), r"/a\n");
        assert!(EscapedKey::new(&[b'a'; 257]).unquoted().ends_with("a…"));
        let long = EscapedKey::new(&vec![b'a'; 100_000]).to_string();
        assert!(long.ends_with("a\"…") && long.len() < 270);
    }

    #[test]
    fn undecryptable_values_are_all_counted_and_few_remembered() {
        let mut met = Undecryptable::default();
        for _ in 0..1000 {
            met.add(b"k", b"k8s:enc:", OpenError::Undecryptable);
        }
        assert_eq!((met.count(), met.first().len()), (1000, 16));
        met.add(b"other", b"plain", OpenError::Undecryptable);
        assert_eq!((met.count(), met.sealed().len()), (1001, 1000));
        for _ in 0..1000 {
            met.add(b"k", b"k8s:enc:", OpenError::Undecryptable);
        }
        assert_eq!(met.sealed().len(), TOLD_APART);
    }
}
