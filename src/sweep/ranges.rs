//! Which stretches of etcd's keys are looked at: sets of half-open ranges, in order. Only arithmetic on keys.

use crate::keyspace::Span;
use crate::types::{KeyRange, Reach, StatePrefix};

/// Ranges that are not empty, do not touch, and are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range>);

/// From `start` (included) to `end` (excluded; `None` is no end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

impl Ranges {
    /// All keys of any of the spans.
    pub(super) fn of<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Self {
        let ranges = spans.into_iter().map(|span| Range {
            start: span.start().to_vec(),
            end: span.end().map(<[u8]>::to_vec),
        });
        Self::union(ranges.collect())
    }

    /// All keys that there can be but the proxy's own. etcd has no empty key: this begins with the first that it can have.
    pub(super) fn all_but(state: &StatePrefix) -> Self {
        const FIRST: &[u8] = &[0];
        let range = |(start, end): (&[u8], &[u8])| Range {
            start: start.to_vec(),
            end: (end != [0]).then(|| end.to_vec()),
        };
        Self::union(match state.reach(KeyRange::From(FIRST)) {
            Reach::Clear => vec![range((FIRST, &[0]))],
            Reach::Inside => Vec::new(),
            Reach::Around { before, behind } => [before, behind].into_iter().flatten().map(range).collect(),
        })
    }

    fn union(mut ranges: Vec<Range>) -> Self {
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Range> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if reaches(last.end.as_deref(), &range.start) => {
                    last.end = match (last.end.take(), range.end) {
                        (Some(a), Some(b)) => Some(a.max(b)),
                        _ => None,
                    };
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// The keys that are in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a, b)));
        let common = pairs.filter_map(|(a, b)| {
            let start = a.start.clone().max(b.start.clone());
            let end = match (&a.end, &b.end) {
                (Some(a), Some(b)) => Some(a.min(b).clone()),
                (end, None) | (None, end) => end.clone(),
            };
            end.as_ref()
                .is_none_or(|end| start < *end)
                .then_some(Range { start, end })
        });
        Self::union(common.collect())
    }

    /// Those of the keys that are not in `others`.
    pub(super) fn but(&self, others: &Self) -> Self {
        let mut gaps = Vec::new();
        let mut from = Some(Vec::new());
        for range in &others.0 {
            if let Some(start) = from.take()
                && start < range.start
            {
                gaps.push(Range {
                    start,
                    end: Some(range.start.clone()),
                });
            }
            from.clone_from(&range.end);
        }
        gaps.extend(from.map(|start| Range { start, end: None }));
        self.and(&Self(gaps))
    }

    /// What is left of them from `key` on.
    pub(super) fn from(&self, key: &[u8]) -> Self {
        let rest = Range {
            start: key.to_vec(),
            end: None,
        };
        self.and(&Self(vec![rest]))
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<&Range> {
        self.0.first()
    }
}

/// Whether a range that ends at `end` and one that begins at `start` have no key between them.
fn reaches(end: Option<&[u8]>, start: &[u8]) -> bool {
    end.is_none_or(|end| start <= end)
}

/// The first key behind `key`.
pub(super) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b')], 0..4)
    }

    fn range() -> impl Strategy<Value = Range> {
        (key(), proptest::option::of(key())).prop_filter_map("it is empty", |(start, end)| {
            let range = Range { start, end };
            range.end.as_ref().is_none_or(|end| range.start < *end).then_some(range)
        })
    }

    fn holds(ranges: &[Range], key: &[u8]) -> bool {
        let ends_after = |range: &Range| range.end.as_deref().is_none_or(|end| key < end);
        ranges
            .iter()
            .any(|range| range.start.as_slice() <= key && ends_after(range))
    }

    proptest! {
        #[test]
        fn union_cut_and_rest_hold_the_keys_they_should(
            a in proptest::collection::vec(range(), 0..5),
            b in proptest::collection::vec(range(), 0..5),
            from in key(),
            probes in proptest::collection::vec(key(), 0..20),
        ) {
            let (left, right) = (Ranges::union(a.clone()), Ranges::union(b.clone()));
            let both = left.and(&right);
            let rest = left.from(&from);
            for probe in probes {
                prop_assert_eq!(holds(&left.0, &probe), holds(&a, &probe));
                prop_assert_eq!(holds(&both.0, &probe), holds(&a, &probe) && holds(&b, &probe));
                prop_assert_eq!(holds(&rest.0, &probe), holds(&a, &probe) && probe >= from);
            }
            for pair in left.0.windows(2) {
                prop_assert!(pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start));
            }
        }
    }
}
