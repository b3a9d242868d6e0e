//! Walks ranges page by page at one revision. Pure: says what to ask next, and takes the answer.

use super::ranges::{Ranges, successor};
use super::stretch::Stretch;
use crate::etcd::{KeyValue, Page, PageAsk};

/// Keys of the first page, before it is known how large the values are.
pub(super) const FIRST_LIMIT: i64 = 64;
/// Keys of a page at most: what kube-apiserver's own clients ask for.
pub(super) const MAX_LIMIT: i64 = 500;
/// Bytes that a page should have. etcd holds a page several times over while it answers, and others wait for it meanwhile.
const WANTED_BYTES: usize = 128 * 1024;
/// Bytes after which a page is not read on, however many keys it was to have.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Where a scan is.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// What is still to be read.
    rest: Ranges,
    /// How far into it the next page may reach.
    stretch: Stretch,
    /// What the pages are read at; 0 until the first has come.
    revision: i64,
    limit: i64,
    /// The first revision that was read at; 0 for none.
    first_revision: i64,
}

impl Scan {
    /// From `position` on, at whatever revision the store then has.
    pub(super) fn new(ranges: &Ranges, position: &[u8]) -> Self {
        Self {
            rest: ranges.from(position),
            stretch: Stretch::default(),
            revision: 0,
            limit: FIRST_LIMIT,
            first_revision: 0,
        }
    }

    /// The next page to ask for; `None` at the end.
    pub(super) fn ask(&self) -> Option<PageAsk<'_>> {
        let range = self.rest.first()?;
        Some(PageAsk {
            start: &range.start,
            end: self.stretch.within(range.end.as_deref()),
            revision: self.revision,
            limit: self.limit,
            enough: MAX_BYTES,
        })
    }

    /// Takes the page that was asked for, and goes on behind it.
    pub(super) fn take(&mut self, page: Page) -> Vec<KeyValue> {
        if self.revision == 0 {
            self.revision = page.revision;
        }
        if self.first_revision == 0 {
            self.first_revision = self.revision;
        }
        let end = self.rest.first().and_then(|range| range.end.as_deref());
        match (page.kvs.last(), self.stretch.within(end).map(<[u8]>::to_vec)) {
            (Some(last), _) if page.more => {
                self.stretch.goes_on(&page);
                self.rest = self.rest.from(&successor(&last.key));
            }
            // More, but not one key was whole: the first of them is asked for alone, and then it is.
            (None, _) if page.more => {}
            (_, Some(reached)) => {
                if Some(&*reached) == end {
                    self.stretch = Stretch::default();
                } else {
                    self.stretch.ended(&reached, page.kvs.len(), self.limit);
                }
                self.rest = self.rest.from(&reached);
            }
            (_, None) => self.rest = Ranges::of([]),
        }
        self.adapt(page.kvs.len(), page.bytes);
        page.kvs
    }

    /// The pinned revision is gone: what is left is read at a newer one.
    pub(super) fn overtaken(&mut self) {
        self.revision = 0;
    }

    /// The revision of the first page; 0 before it.
    pub(super) fn first_revision(&self) -> i64 {
        self.first_revision
    }

    /// The revision of the latest page; 0 before the first.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys the next page should have, by the mean size of those that came.
    fn adapt(&mut self, keys: usize, bytes: usize) {
        if keys == 0 {
            if bytes >= MAX_BYTES {
                self.limit = 1;
            }
            return;
        }
        let mean = (bytes / keys).max(1);
        let fitting = i64::try_from(WANTED_BYTES / mean).unwrap_or(MAX_LIMIT);
        // Doubled at most: the next values may be as large as the last ones were small.
        self.limit = fitting.clamp(1, MAX_LIMIT).min(self.limit.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use super::*;
    use crate::sweep::tests::world::{KEY_NEW, aescbc, scope};

    fn page(keys: &[&str], more: bool, bytes: usize) -> Page {
        let kv = |key: &&str| KeyValue {
            key: format!("/registry/secrets/{key}").into_bytes().into(),
            value: bytes::Bytes::default(),
            create_revision: 1,
            mod_revision: 1,
            lease: 0,
        };
        Page {
            revision: 42,
            kvs: keys.iter().map(kv).collect(),
            more,
            count: 0,
            bytes,
        }
    }

    fn scan() -> Scan {
        // At and below `secrets`.
        Scan::new(&scope(&[&aescbc("new", KEY_NEW)]).ranges(), b"")
    }

    #[test]
    fn a_scan_goes_from_key_to_key_at_the_revision_of_its_first_page_and_ends() {
        let mut scan = scan();
        assert_eq!(
            (scan.ask().unwrap().start, scan.ask().unwrap().revision),
            (&b"/registry/secrets"[..], 0)
        );
        scan.take(page(&[], false, 10));
        scan.take(page(&["a", "b"], true, 100));
        let ask = scan.ask().unwrap();
        assert_eq!((ask.start, ask.revision), (&b"/registry/secrets/b\0"[..], 42));
        scan.overtaken();
        assert_eq!(scan.ask().unwrap().revision, 0);
        assert_eq!(scan.ask().unwrap().start, b"/registry/secrets/b\0");
        scan.take(page(&["c"], false, 100));
        assert!(scan.ask().is_none());
    }

    /// Namespaces of all sizes, far apart and close together.
    fn crowd() -> BTreeSet<Vec<u8>> {
        let one = (0..60_000).map(|index| format!("one/{index:x}"));
        let some = (0..40).flat_map(|space| (0..1_000).map(move |index| format!("some-{}/s{index}", space * 7919)));
        let many = (0..5_000).flat_map(|space| (0..4).map(move |index| format!("x{}/{index}", space * space)));
        let keys = one.chain(some).chain(many);
        keys.map(|key| format!("/registry/secrets/{key}").into_bytes())
            .collect()
    }

    #[test]
    fn a_large_range_is_met_key_by_key_and_etcd_passes_each_a_few_times_only() {
        let keys = crowd();
        let mut scan = scan();
        let (mut met, mut passed, mut pages) = (Vec::new(), 0, 0);
        while let Some(ask) = scan.ask() {
            let upto = ask.end.map_or(Bound::Unbounded, Bound::Excluded);
            let in_range: Vec<_> = keys.range::<[u8], _>((Bound::Included(ask.start), upto)).collect();
            let limit = usize::try_from(ask.limit).unwrap();
            let names: Vec<_> = in_range
                .iter()
                .take(limit)
                .map(|key| str::from_utf8(&key[18..]).unwrap())
                .collect();
            let answer = Page {
                count: in_range.len() as u64,
                ..page(&names, in_range.len() > limit, 100 * names.len())
            };
            passed += in_range.len();
            pages += 1;
            met.extend(scan.take(answer).into_iter().map(|kv| kv.key.to_vec()));
        }
        assert!(met.iter().eq(&keys));
        // To the end each time, it would be 240 pages and a hundred times each key.
        assert!(pages < 600, "{pages}");
        assert!(passed < 12 * keys.len(), "{passed}");
    }

    #[test]
    fn a_resumed_scan_begins_at_its_position() {
        let ranges = scope(&[&aescbc("new", KEY_NEW)]).ranges();
        let scan = Scan::new(&ranges, b"/registry/secrets/x\0");
        assert_eq!(scan.ask().unwrap().start, b"/registry/secrets/x\0");
        assert!(Scan::new(&ranges, b"/registry/secretsz").ask().is_none());
    }

    #[test]
    fn pages_have_fewer_keys_where_values_are_large_and_grow_slowly() {
        let mut scan = scan();
        scan.take(page(&[], false, 10));
        scan.take(page(&["a"], true, 1_500_000));
        assert_eq!(scan.ask().unwrap().limit, 1);
        scan.take(page(&["b"], true, 1_000));
        assert_eq!(scan.ask().unwrap().limit, 2);
        for _ in 0..20 {
            scan.take(page(&["c"], true, 100));
        }
        assert_eq!(scan.ask().unwrap().limit, MAX_LIMIT);
        // Cut before its first key was whole: that one is asked for alone.
        let start = scan.ask().unwrap().start.to_vec();
        scan.take(page(&[], true, MAX_BYTES + 1));
        assert_eq!((scan.ask().unwrap().start, scan.ask().unwrap().limit), (&start[..], 1));
    }
}
