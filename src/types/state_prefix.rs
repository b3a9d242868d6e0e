//! The prefix of the proxy's own records in etcd, and how a client's range lies to it.

use super::{KeyRange, prefix_end};

/// The key prefix that belongs to the proxy: never shown or changed from downstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePrefix {
    prefix: Vec<u8>,
    /// The first key after all those under the prefix.
    end: Vec<u8>,
}

/// What the keys under the [`StatePrefix`] leave of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// All of it: the range meets no key of the prefix.
    Clear,
    /// Nothing: only keys of the prefix lie in the range.
    Inside,
    /// A part before the prefix, a part behind it, or both; each as `key` and `range_end` of a request.
    Around {
        /// From the range's start up to the prefix.
        before: Option<(&'a [u8], &'a [u8])>,
        /// From behind the prefix to the range's end.
        behind: Option<(&'a [u8], &'a [u8])>,
    },
}

impl StatePrefix {
    /// The prefix that `--state-prefix` has unless told otherwise.
    pub const DEFAULT: &'static str = "/etcd-encryption-proxy/";

    /// Takes `prefix`; `None` if it is empty, all 0xff (there is no key behind it then) or `\0` (which etcd takes for "no
    /// end" where a range ends).
    pub fn new(prefix: impl Into<Vec<u8>>) -> Option<Self> {
        let prefix = prefix.into();
        if prefix == [0] {
            return None;
        }
        let end = prefix_end(&prefix)?;
        Some(Self { prefix, end })
    }

    /// The prefix's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether `key` is one of the proxy's own.
    pub fn contains(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix)
    }

    /// How `range` lies to the prefix.
    pub fn reach<'a>(&'a self, range: KeyRange<'a>) -> Reach<'a> {
        if !range.meets_prefix(&self.prefix) {
            return Reach::Clear;
        }
        let (start, past) = match range {
            KeyRange::One(_) => return Reach::Inside,
            KeyRange::From(start) => (start, &[0][..]),
            KeyRange::Between(start, end) => (start, end),
        };
        let before = (start < self.prefix.as_slice()).then_some((start, self.prefix.as_slice()));
        // A range that meets the prefix starts before its end, so what is behind starts right there.
        let behind = (past == [0] || past > self.end.as_slice()).then_some((self.end.as_slice(), past));
        match (before, behind) {
            (None, None) => Reach::Inside,
            (before, behind) => Reach::Around { before, behind },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> StatePrefix {
        StatePrefix::new("b/").expect("it is a prefix")
    }

    #[test]
    fn a_prefix_that_could_not_be_cut_out_of_a_range_is_none() {
        assert_eq!(StatePrefix::new(""), None);
        assert_eq!(StatePrefix::new([0xff]), None);
        assert_eq!(StatePrefix::new([0]), None);
        assert!(StatePrefix::new(StatePrefix::DEFAULT).is_some());
    }

    #[test]
    fn everything_is_cut_in_two() {
        assert_eq!(
            state().reach(KeyRange::From(b"\0")),
            Reach::Around {
                before: Some((b"\0", b"b/")),
                behind: Some((b"b0", b"\0"))
            }
        );
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(b'/'), Just(b'0'), Just(b'a'), Just(b'b'), Just(b'c')],
            0..4,
        )
    }

    proptest! {
        #[test]
        fn the_parts_hold_every_key_of_the_range_but_those_of_the_prefix(start in key(), end in key(), probe in key()) {
            let state = state();
            let range = KeyRange::new(&start, &end);
            let allowed = range.contains(&probe) && !state.contains(&probe);
            let holds = |part: Option<(&[u8], &[u8])>| part.is_some_and(|(key, end)| KeyRange::new(key, end).contains(&probe));
            match state.reach(range) {
                Reach::Clear => prop_assert_eq!(allowed, range.contains(&probe)),
                Reach::Inside => prop_assert!(!allowed),
                Reach::Around { before, behind } => {
                    prop_assert_eq!(holds(before) || holds(behind), allowed);
                    prop_assert!(!(holds(before) && holds(behind)));
                    prop_assert!([before, behind].into_iter().flatten().all(|(_, end)| !end.is_empty()));
                }
            }
        }
    }
}
