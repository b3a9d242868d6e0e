//! How far the range of one page reaches. etcd goes through the index of all keys of a range that it is asked for, however
//! few of them are wanted, and lets nobody write meanwhile: pages asked up to a large range's end would take time that
//! grows with its square, and stall etcd's other clients for each page. So a large range is read in stretches: all keys
//! that begin with the same bits. Only arithmetic on keys.

use crate::etcd::Page;

/// Keys that a page's range may have at most before a shorter stretch is asked for. etcd passes them in well under a
/// millisecond.
const FAR: u64 = 4096;
/// Bits by which a stretch that was short of keys is widened: it takes some steps more over a gap, and does not leap far
/// behind it.
const WIDER: usize = 4;

/// The stretch that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretch {
    /// The first key behind it; `None` for no bound of ours.
    end: Option<Vec<u8>>,
    /// Its keys begin with the same bits, so many.
    bits: usize,
    /// Whether a page of it has been read.
    is_begun: bool,
}

impl Stretch {
    /// Where a page has to end in a range that ends at `end`.
    pub(super) fn within<'a>(&'a self, end: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match (self.end.as_deref(), end) {
            (Some(own), Some(end)) => Some(own.min(end)),
            (own, end) => own.or(end),
        }
    }

    /// `page` was read, and there is more in the stretch.
    pub(super) fn goes_on(&mut self, page: &Page) {
        self.is_begun = true;
        if let [first, .., last] = &*page.kvs
            && page.count > FAR
        {
            // As far as a page's keys are alike.
            self.bits = shared_bits(&first.key, &last.key);
            self.end = end_of(&last.key, self.bits);
        }
    }

    /// It ended at `reached` with a page of `keys`, where `limit` were asked for: the next one begins there.
    pub(super) fn ended(&mut self, reached: &[u8], keys: usize, limit: i64) {
        let is_short = !self.is_begun && 2 * keys < usize::try_from(limit).unwrap_or(usize::MAX);
        if is_short {
            self.bits = self.bits.saturating_sub(WIDER);
        }
        self.end = end_of(reached, self.bits);
        self.is_begun = false;
    }
}

/// The first key behind all that begin with the first `bits` bits of `key`, which is as if it went on in zeros.
fn end_of(key: &[u8], bits: usize) -> Option<Vec<u8>> {
    let mut end = key.to_vec();
    end.resize(bits.div_ceil(8), 0);
    let mut step = 1 << ((8 - bits % 8) % 8);
    // What stands behind the bits in their last byte goes, and one is added to them.
    if let Some(last) = end.last_mut() {
        *last &= !(step - 1);
    }
    for byte in end.iter_mut().rev() {
        let (sum, is_over) = byte.overflowing_add(step);
        *byte = sum;
        if !is_over {
            return Some(end);
        }
        step = 1;
    }
    None
}

fn shared_bits(a: &[u8], b: &[u8]) -> usize {
    let bytes = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let differing = a.get(bytes).unwrap_or(&0) ^ b.get(bytes).unwrap_or(&0);
    8 * bytes + differing.leading_zeros() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::KeyValue;

    fn page(keys: &[&[u8]], count: u64) -> Page {
        let kv = |key: &&[u8]| KeyValue {
            key: key.to_vec().into(),
            value: bytes::Bytes::default(),
            create_revision: 1,
            mod_revision: 1,
            lease: 0,
        };
        Page {
            kvs: keys.iter().map(kv).collect(),
            count,
            more: true,
            ..Page::default()
        }
    }

    #[test]
    fn a_range_with_few_keys_is_read_to_its_end() {
        let mut stretch = Stretch::default();
        stretch.goes_on(&page(&[b"a", b"b"], FAR));
        assert_eq!(stretch.within(Some(b"z")), Some(&b"z"[..]));
        assert_eq!(stretch.within(None), None);
    }

    #[test]
    fn a_large_one_is_read_as_far_as_keys_are_alike_and_further_over_gaps() {
        let mut stretch = Stretch::default();
        stretch.goes_on(&page(&[b"ns/a-100", b"ns/a-109"], FAR + 1));
        // 0x30 and 0x39 share four bits.
        assert_eq!(stretch.within(Some(b"nt")), Some(&b"ns/a-10\x40"[..]));
        assert_eq!(stretch.within(Some(b"ns/a-10")), Some(&b"ns/a-10"[..]));
        // More than one page of it: as long again.
        stretch.ended(b"ns/a-10\x40", 1, 500);
        assert_eq!(stretch.within(None), Some(&b"ns/a-10\x50"[..]));
        // Nothing: further, and further.
        stretch.ended(b"ns/a-10\x50", 0, 500);
        assert_eq!(stretch.within(None), Some(&b"ns/a-11"[..]));
        stretch.ended(b"ns/a-11", 0, 500);
        assert_eq!(stretch.within(None), Some(&b"ns/a-1\x40"[..]));
        for _ in 0..20 {
            let reached = stretch.within(None).map(<[u8]>::to_vec);
            if let Some(reached) = reached {
                stretch.ended(&reached, 0, 500);
            }
        }
        assert_eq!(stretch.within(None), None);
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(0xff)], 0..5)
    }

    proptest! {
        /// Whatever a stretch begins at, it ends behind it; so a scan always comes to its end.
        #[test]
        fn a_stretch_ends_behind_what_it_begins_at_and_holds_what_shares_its_bits(a in key(), b in key(), bits in 0usize..48) {
            if let Some(end) = end_of(&a, bits) {
                prop_assert!(end > a);
                let alike = shared_bits(&a, &b) >= bits || shared_bits(&b, &a) >= bits;
                if alike && b.len() * 8 >= bits && a.len() * 8 >= bits {
                    prop_assert!(b < end);
                }
            } else {
                prop_assert!(a.iter().take(bits / 8).all(|byte| *byte == 0xff));
            }
        }
    }
}
