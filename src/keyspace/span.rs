//! Stretches of etcd's key order, to tell whether a requested range could touch what a rule covers.

use crate::types::{KeyRange, prefix_end};

/// The keys from `start` (included) to `end` (excluded; `None` is no end). Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Span {
    /// Every key that begins with `prefix`.
    pub fn of_prefix(prefix: &[u8]) -> Self {
        Self {
            start: prefix.to_vec(),
            end: prefix_end(prefix),
        }
    }

    /// `key` alone.
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self {
            start: key.to_vec(),
            end: Some([key, &[0]].concat()),
        }
    }

    /// The key `path` itself, and every key below `path/`.
    pub(super) fn at_and_below(path: &[u8]) -> [Self; 2] {
        [Self::of_key(path), Self::of_prefix(&[path, b"/"].concat())]
    }

    /// The first key that could lie here.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key behind; `None` for no end.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether some key lies both here and in `range`. Exact.
    pub fn meets(&self, range: &KeyRange<'_>) -> bool {
        let ends_after = |key: &[u8]| self.end.as_deref().is_none_or(|end| key < end);
        let start = self.start.as_slice();
        match *range {
            KeyRange::One(key) => start <= key && ends_after(key),
            KeyRange::From(first) => ends_after(first),
            // The later of the two starts is the first key that both could hold.
            KeyRange::Between(first, end) => start.max(first) < end && ends_after(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(b'.'), Just(b'/'), Just(b'0'), Just(0xff)],
            0..4,
        )
    }

    #[test]
    fn neighbours_that_only_look_alike_do_not_meet() {
        let [itself, below] = Span::at_and_below(b"/registry/secrets");
        for (key, expected) in [
            (b"/registry/secrets".as_slice(), true),
            (b"/registry/secrets/", true),
            (b"/registry/secrets/default/a", true),
            (b"/registry/secrets\0", false),
            (b"/registry/secrets.", false),
            (b"/registry/secrets0", false),
            (b"/registry/secretsfoo/x", false),
        ] {
            let range = KeyRange::new(key, b"");
            assert_eq!(
                itself.meets(&range) || below.meets(&range),
                expected,
                "{}",
                key.escape_ascii()
            );
        }
    }

    proptest! {
        /// `witness` is drawn from so few keys that most pairs that meet have one among them.
        #[test]
        fn a_key_in_both_proves_that_they_meet(prefix in key(), from in key(), to in key(), witness in key()) {
            let range = KeyRange::new(&from, &to);
            for span in Span::at_and_below(&prefix).into_iter().chain([Span::of_prefix(&prefix)]) {
                if span.meets(&KeyRange::One(&witness)) && range.contains(&witness) {
                    prop_assert!(span.meets(&range));
                }
            }
        }

        /// The first key that both could hold is the later of the two starts, so it decides.
        #[test]
        fn where_they_meet_the_later_start_is_in_both(prefix in key(), from in key(), to in key()) {
            let range = KeyRange::new(&from, &to);
            for span in Span::at_and_below(&prefix).into_iter().chain([Span::of_prefix(&prefix)]) {
                if span.meets(&range) {
                    let first = span.start.clone().max(from.clone());
                    prop_assert!(range.contains(&first) && span.meets(&KeyRange::One(&first)));
                }
            }
        }
    }
}
