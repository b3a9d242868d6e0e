//! Which providers and keys a stored value names by its first bytes. For telling what was tried; opens nothing.

use super::{Provider, prefix};
use crate::types::KeyName;

/// A provider whose prefix a stored value begins with.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which one: an index into [`Chain::readers`](super::Chain::readers).
    pub provider: usize,
    keys: &'a [KeyName],
    body: &'a [u8],
}

impl<'a> Candidate<'a> {
    /// `None` if `stored` can't be of `provider`.
    pub(super) fn of(index: usize, provider: &'a Provider, stored: &'a [u8]) -> Option<Self> {
        Some(Self {
            provider: index,
            keys: if provider.has_key_prefixes() {
                provider.key_names()
            } else {
                &[]
            },
            body: stored.strip_prefix(provider.prefix().as_bytes())?,
        })
    }

    /// Those of its keys that the value names, in the order in which they are tried: indices into
    /// [`Provider::key_names`]. More than one where the name of a key begins another's, or two have the same; always none
    /// where values do not name a key in this way ([`Provider::has_key_prefixes`]).
    pub fn keys(&self) -> impl Iterator<Item = usize> {
        let is_named = |name: &KeyName| self.body.starts_with(prefix::of_key(name).as_bytes());
        let named = self.keys.iter().enumerate().filter(move |(_, name)| is_named(name));
        named.map(|(index, _)| index)
    }
}
