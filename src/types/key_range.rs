//! etcd's `key` and `range_end` pair, with its three meanings, as an interval of byte strings.

/// The keys that an etcd request names.
///
/// etcd's API says: an empty `range_end` is the single key; `range_end` = `\0` is every key from `key` on (and every key at
/// all where `key` is `\0` too); anything else is the half-open interval `[key, range_end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// Exactly this key.
    One(&'a [u8]),
    /// Every key at or after this one.
    From(&'a [u8]),
    /// Keys from the first (included) to the second (excluded); none at all where the second is not greater.
    Between(&'a [u8], &'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// What `key` and `range_end` of a request mean together.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            end => Self::Between(key, end),
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Self::One(one) => key == one,
            Self::From(start) => key >= start,
            Self::Between(start, end) => start <= key && key < end,
        }
    }

    /// Whether any key that begins with `prefix` could lie in the range.
    pub fn meets_prefix(&self, prefix: &[u8]) -> bool {
        let reaches_it = |start: &[u8]| prefix_end(prefix).is_none_or(|past| start < past.as_slice());
        match *self {
            Self::One(one) => one.starts_with(prefix),
            Self::From(start) => reaches_it(start),
            Self::Between(start, end) => start < end && prefix < end && reaches_it(start),
        }
    }
}

/// The first key after all those that begin with `prefix`: its last byte below 0xff incremented, what follows cut off.
/// `None` where no such key exists: the prefix is empty or all 0xff.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn range_end_has_the_three_meanings_of_the_api() {
        assert_eq!(KeyRange::new(b"a", b""), KeyRange::One(b"a"));
        assert_eq!(KeyRange::new(b"a", b"\0"), KeyRange::From(b"a"));
        assert_eq!(KeyRange::new(b"a", b"b"), KeyRange::Between(b"a", b"b"));
    }

    #[test]
    fn the_end_of_a_prefix_is_as_clientv3_computes_it() {
        assert_eq!(prefix_end(b"/registry/"), Some(b"/registry0".to_vec()));
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    fn small_key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
    }

    proptest! {
        #[test]
        fn a_range_that_holds_a_key_of_a_prefix_meets_the_prefix(start in small_key(), end in small_key(), prefix in small_key(), rest in small_key()) {
            let range = KeyRange::new(&start, &end);
            let key = [prefix.clone(), rest].concat();
            if range.contains(&key) {
                prop_assert!(range.meets_prefix(&prefix));
            }
        }
    }
}
