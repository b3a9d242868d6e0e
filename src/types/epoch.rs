//! The epoch: the value of one key in etcd that every write under a rule is compared with. Replaced before something is
//! proven of all that is stored, so that etcd itself refuses what was sealed before and arrives later.

use std::fmt;

use super::StatePrefix;

/// Where the epoch lies below the state prefix.
const KEY: &[u8] = b"epoch";

/// Longest value that is taken for an epoch, bytes: 128 bits as hexadecimal text. Each write carries it.
const MAX_BYTES: usize = 32;

/// What the key holds: a nonce that is never used again, or nothing, which is the first epoch.
///
/// Two epochs are equal if their nonces are. Revisions do not count: a store that was restored from a snapshot gives the same
/// ones out again, and a write that was sealed before the restore must not be taken for one of today.
#[derive(Clone)]
pub struct Epoch {
    /// Held in place: a count of holders would be shared by all cores.
    nonce: [u8; MAX_BYTES],
    /// How much of it there is; 0 for the first epoch.
    len: usize,
    revision: i64,
}

impl Epoch {
    /// Of a store in which nobody has ever replaced it.
    pub const FIRST: Self = Self {
        nonce: [0; MAX_BYTES],
        len: 0,
        revision: 0,
    };

    /// What the key was found to hold, written at `revision`; `None` if that is no epoch: empty, or too long.
    pub fn found(nonce: &[u8], revision: i64) -> Option<Self> {
        let mut epoch = Self {
            len: nonce.len(),
            revision,
            ..Self::FIRST
        };
        epoch.nonce.get_mut(..nonce.len())?.copy_from_slice(nonce);
        (epoch.len > 0).then_some(epoch)
    }

    /// The nonce; `None` for the first epoch, in which the key does not exist.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.get(..self.len).filter(|nonce| !nonce.is_empty())
    }

    /// The revision at which it began; 0 for the first one.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The key below `state`, in two parts: nothing is copied for a message that names it.
    pub fn key_parts(state: &StatePrefix) -> [&[u8]; 2] {
        [state.as_bytes(), KEY]
    }

    /// The key below `state`.
    pub fn key(state: &StatePrefix) -> Vec<u8> {
        Self::key_parts(state).concat()
    }
}

impl PartialEq for Epoch {
    fn eq(&self, other: &Self) -> bool {
        self.nonce() == other.nonce()
    }
}

impl Eq for Epoch {}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nonce() {
            None => f.write_str("the first epoch"),
            Some(nonce) => write!(f, "epoch {} of revision {}", nonce.escape_ascii(), self.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_told_apart_by_their_nonce_alone() {
        let one = Epoch::found(b"one", 7).unwrap();
        assert_eq!(one, Epoch::found(b"one", 9).unwrap());
        assert_ne!(one, Epoch::found(b"two", 7).unwrap());
        assert_ne!(one, Epoch::FIRST);
    }

    #[test]
    fn what_no_process_writes_there_is_no_epoch() {
        assert!(Epoch::found(b"", 1).is_none());
        assert!(Epoch::found(&[b'0'; MAX_BYTES + 1], 1).is_none());
        assert!(Epoch::found(&[b'0'; MAX_BYTES], 1).is_some());
    }
}
