//! The keys of etcd's store: a revision, and whether it deleted its key.

/// One change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision {
    /// The transaction.
    pub(super) main: i64,
    /// Which of the transaction's changes.
    pub(super) sub: i64,
    /// Whether the change is that the key was deleted.
    pub(super) is_tombstone: bool,
}

impl Revision {
    /// Reads eight bytes, `_`, eight bytes, and `t` behind a tombstone; `None` if it is anything else.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk()?;
        let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk()?;
        let is_tombstone = match mark {
            [] => false,
            b"t" => true,
            _ => return None,
        };
        let [main, sub] = [main, sub].map(|number| i64::from_be_bytes(*number));
        (main > 0 && sub >= 0).then_some(Self {
            main,
            sub,
            is_tombstone,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(revision: Revision) -> Vec<u8> {
        let mark: &[u8] = if revision.is_tombstone { b"t" } else { b"" };
        [
            &revision.main.to_be_bytes()[..],
            b"_",
            &revision.sub.to_be_bytes(),
            mark,
        ]
        .concat()
    }

    #[test]
    fn what_is_not_a_revision_is_none() {
        let one = bytes(Revision {
            main: 1,
            sub: 0,
            is_tombstone: false,
        });
        assert!(Revision::parse(&one).is_some());
        for other in [
            &one[..16],
            &[&one[..], b"x"].concat(),
            &[&one[..], b"tt"].concat(),
            &[&one[..8], b"-", &one[9..]].concat(),
            &[0; 17],
            &[&[0xff; 8][..], b"_", &[0; 8]].concat(),
            b"",
        ] {
            assert_eq!(Revision::parse(other), None, "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn revisions_are_read_and_their_bytes_are_in_their_order(
            one in (1..i64::MAX, 0..i64::MAX, any::<bool>()),
            other in (1..i64::MAX, 0..i64::MAX, any::<bool>()),
        ) {
            let [one, other] = [one, other].map(|(main, sub, is_tombstone)| Revision { main, sub, is_tombstone });
            prop_assert_eq!(Revision::parse(&bytes(one)), Some(one));
            prop_assert_eq!(one.cmp(&other), bytes(one).cmp(&bytes(other)));
        }
    }
}
