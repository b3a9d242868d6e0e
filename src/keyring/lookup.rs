//! Rules looked up for one key after the other: keys that lie side by side mostly belong to the same resource, and then what
//! was found for the last one is found at once. Knows no value.

use super::{Keyring, Sealer};

/// Longest front that is remembered, bytes: beyond what a resource has that comes in lists.
const LONGEST: usize = 128;

/// What [`Keyring::chain`] says of one key after the other.
#[derive(Debug)]
pub struct Lookup<'a> {
    keyring: &'a Keyring,
    /// Whatever key begins with this has `found`; nothing is known while it is empty.
    front: [u8; LONGEST],
    len: usize,
    found: Option<Sealer<'a>>,
}

impl Keyring {
    /// For the values of one message.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup {
            keyring: self,
            front: [0; LONGEST],
            len: 0,
            found: None,
        }
    }
}

impl<'a> Lookup<'a> {
    /// As [`Keyring::chain`].
    pub fn chain(&mut self, key: &[u8]) -> Option<Sealer<'a>> {
        let known = self.front.get(..self.len).unwrap_or_default();
        if !known.is_empty() && key.starts_with(known) {
            return self.found;
        }
        let (found, front) = self.keyring.chain_with_front(key);
        self.found = found;
        self.len = match self.front.get_mut(..front.len()) {
            Some(place) => {
                place.copy_from_slice(front);
                front.len()
            }
            None => 0,
        };
        found
    }
}
