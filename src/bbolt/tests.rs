//! What is written is read back, whatever the tree's shape; what is damaged is told by page and never read past.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "small numbers, and a panic fails a test"
)]

pub(crate) mod file;

use proptest::prelude::*;

use super::{Database, Error, Flaw};
use file::{FIRST, Pairs, Shape, database, with_metas};

const SHAPE: Shape = Shape {
    page_size: 1024,
    fan_out: 3,
    inline: false,
};

fn pairs(count: u32, value: usize) -> Pairs {
    let pair = |index: u32| (index.to_be_bytes().to_vec(), vec![index as u8; value]);
    (0..count).map(pair).collect()
}

/// The bucket `key`, forwards again.
fn read(bytes: &[u8]) -> Result<Option<Pairs>, Error> {
    let database = Database::open(bytes, bytes.len() as u64)?;
    let Some(bucket) = database.bucket(b"key")? else {
        return Ok(None);
    };
    let mut entries = database.backwards(&bucket);
    let mut found = Pairs::new();
    while let Some(entry) = entries.next()? {
        found.push((entry.key.to_vec(), entry.value.to_vec()));
    }
    found.reverse();
    Ok(Some(found))
}

/// The page that is named as damaged, and its flaw.
fn flaw(bytes: &[u8]) -> (u64, Flaw) {
    match read(bytes) {
        Err(Error::Page { page, offset, flaw }) => {
            assert_eq!(offset, page.saturating_mul(1024));
            (page, flaw)
        }
        other => panic!("{other:?}"),
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (10..14u32, 2..9usize, any::<bool>()).prop_map(|(bits, fan_out, inline)| Shape {
        page_size: 1 << bits,
        fan_out,
        inline,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        shape in shape(),
        pairs in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..20),
            proptest::collection::vec(any::<u8>(), 0..3_000),
            0..60,
        ),
        others in 0..3u32,
    ) {
        let wanted: Pairs = pairs.into_iter().collect();
        let bytes = database(shape, &[(b"alarm", self::pairs(others, 5)), (b"key", wanted.clone()), (b"meta", Pairs::new())]);
        prop_assert_eq!(read(&bytes).unwrap(), Some(wanted));
    }

    /// Whatever is changed: an end, no panic, and no entry that does not lie before the one behind it.
    #[test]
    fn damage_is_an_error_or_of_no_consequence(
        shape in shape(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = database(shape, &[(b"key", pairs(60, 200))]);
        let pages = FIRST * shape.page_size as usize;
        for (place, byte) in changes {
            let at = pages + place.index(bytes.len() - pages);
            bytes[at] = byte;
        }
        if let Ok(Some(found)) = read(&bytes) {
            prop_assert!(found.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}

#[test]
fn a_database_without_the_bucket_has_none() {
    assert_eq!(read(&database(SHAPE, &[(b"meta", pairs(4, 5))])).unwrap(), None);
    let empty = database(SHAPE, &[(b"key", Pairs::new())]);
    assert_eq!(read(&empty).unwrap(), Some(Pairs::new()));
}

#[test]
fn the_later_of_two_valid_metas_counts() {
    let bytes = database(SHAPE, &[(b"key", pairs(9, 50))]);
    // Either does alone, the second one in whatever page it lies.
    for broken in [16, 1024 + 16] {
        let mut bytes = bytes.clone();
        bytes[broken] ^= 1;
        assert_eq!(read(&bytes).unwrap(), Some(pairs(9, 50)));
    }
    let mut none = bytes.clone();
    none[16 + 60] ^= 1;
    none[1024 + 16] ^= 1;
    assert!(matches!(read(&none), Err(Error::NoMeta(Flaw::Checksum))));
    // An older root in the first meta is not looked at.
    let older = with_metas(1024, 77, &bytes[FIRST * 1024..]);
    let mixed = [&older[..1024], &bytes[1024..]].concat();
    assert_eq!(read(&mixed).unwrap(), Some(pairs(9, 50)));
    let newer = [&bytes[..1024], &older[1024..2048], &bytes[2048..]].concat();
    assert!(matches!(
        read(&newer),
        Err(Error::Page {
            page: 77,
            flaw: Flaw::BehindTheEnd(_),
            ..
        })
    ));
}

#[test]
fn what_is_no_database_is_told_from_one_that_is_cut_off() {
    assert!(matches!(read(b""), Err(Error::NoMeta(Flaw::Short))));
    assert!(matches!(read(&[0; 4096]), Err(Error::NoMeta(Flaw::Magic))));
    let bytes = database(SHAPE, &[(b"key", pairs(100, 50))]);
    let mut big_endian = bytes.clone();
    for at in [16, 1024 + 16] {
        big_endian[at..at + 4].reverse();
    }
    assert!(matches!(read(&big_endian), Err(Error::NoMeta(Flaw::BigEndian))));
    let cut = read(&bytes[..bytes.len() - 1]).unwrap_err();
    let (pages, all) = (bytes.len() / 1024, bytes.len());
    assert_eq!(
        cut.to_string(),
        format!(
            "it is cut off: its {pages} pages of 1024 bytes are {all} bytes, and it holds {}",
            all - 1
        )
    );
}

/// A leaf's page number, or a branch's, by what it holds.
fn pages_of(bytes: &[u8], kind: u8) -> Vec<u64> {
    let is = |page: &usize| bytes[page * 1024 + 8] == kind && bytes[page * 1024] == *page as u8;
    (FIRST..bytes.len() / 1024).filter(is).map(|page| page as u64).collect()
}

#[test]
fn a_loop_and_a_page_in_two_places_are_seen() {
    let bytes = database(SHAPE, &[(b"key", pairs(27, 50))]);
    let branches = pages_of(&bytes, 1);
    let (first, top) = (branches[0], branches[branches.len() - 1]);
    // The first child of the lowest branch becomes the topmost one.
    let mut looped = bytes.clone();
    let child = first as usize * 1024 + 16 + 8;
    looped[child] = top as u8;
    assert_eq!(flaw(&looped), (top, Flaw::Twice));
    let mut shared = bytes.clone();
    shared[child] = bytes[child + 16];
    assert_eq!(flaw(&shared), (u64::from(bytes[child + 16]), Flaw::Twice));
    let mut outside = bytes.clone();
    outside[child + 7] = 0xff;
    assert!(matches!(flaw(&outside), (_, Flaw::BehindTheEnd(_))));
}

#[test]
fn every_field_of_a_page_is_checked() {
    let bytes = database(SHAPE, &[(b"key", pairs(9, 50))]);
    let page = pages_of(&bytes, 2)[1];
    let damaged = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        let at = page as usize * 1024 + at;
        bytes[at..at + with.len()].copy_from_slice(with);
        flaw(&bytes)
    };
    let element = 16 + 16;
    assert_eq!(damaged(0, &[99]), (page, Flaw::Number(99)));
    assert_eq!(damaged(8, &[0x10]), (page, Flaw::Kind(0x10)));
    assert_eq!(damaged(8, &[3]), (page, Flaw::Kind(3)));
    assert_eq!(damaged(10, &[0xff, 0xff]).0, page);
    assert!(matches!(damaged(12, &[0xff; 4]), (_, Flaw::BehindTheEnd(_))));
    assert_eq!(damaged(element, &[1]), (page, Flaw::Flags(1, 1)));
    assert_eq!(damaged(element + 4, &[0xff; 4]), (page, Flaw::Element(1)));
    assert_eq!(damaged(element + 8, &[0xff; 4]), (page, Flaw::Element(1)));
    assert_eq!(damaged(element + 8, &[0; 4]), (page, Flaw::EmptyKey(1)));
    assert_eq!(damaged(element + 12, &[0xff; 4]), (page, Flaw::Element(1)));
    // The key of the element behind: smaller than this one's.
    let key = page as usize * 1024 + 16 + 3 * 16 + 2 * 54;
    assert_eq!(bytes[key..key + 4], 5u32.to_be_bytes());
    assert_eq!(damaged(key - page as usize * 1024, &[0; 4]), (page, Flaw::Order(1)));
}

#[test]
fn a_run_longer_than_any_value_is_refused_before_it_is_read() {
    /// Zeros without end, but for what is written over them.
    struct Vast(Vec<u8>);
    impl super::Source for Vast {
        fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
            assert!(into.len() < 1 << 20, "{} bytes are read", into.len());
            into.fill(0);
            let offset = usize::try_from(offset).unwrap();
            let held = self.0.get(offset..).unwrap_or_default();
            let held = &held[..held.len().min(into.len())];
            into[..held.len()].copy_from_slice(held);
            Ok(())
        }
    }
    let mut leaf = database(SHAPE, &[])[FIRST * 1024..].to_vec();
    leaf[12..16].copy_from_slice(&(300_000u32).to_le_bytes());
    leaf.resize(1024 * 300_001, 0);
    let mut bytes = with_metas(1024, FIRST as u64, &leaf);
    let length = bytes.len() as u64;
    bytes.truncate(8 * 1024);
    let vast = Vast(bytes);
    let database = Database::open(&vast, length).unwrap();
    let refused = database.bucket(b"key").unwrap_err();
    assert!(matches!(
        refused,
        Error::Page {
            page: 3,
            flaw: Flaw::TooLong(300_001),
            ..
        }
    ));
}
