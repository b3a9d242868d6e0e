//! One branch or leaf with all pages that belong to it, and the elements in it. Bytes in, places out: reads nothing itself.

use super::Flaw;
use super::meta::{u16, u32, u64};

/// The longest run of pages that is taken for a leaf or branch, bytes. bbolt splits a leaf of more than four elements that is
/// larger than a page, so this is four values of far more than etcd's largest request.
pub const MAX_RUN: u64 = 256 << 20;

/// Bytes of a page's header, and of an element's.
pub(super) const HEADER: usize = 16;
const ELEMENT: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// Flag of a leaf's element whose value is a bucket.
pub(super) const BUCKET: u32 = 0x01;

/// A page's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) kind: Kind,
    count: usize,
    /// How many pages belong to it, itself included.
    pub(super) run: u64,
}

/// What a page of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// Where a leaf's element lies in its run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) flags: u32,
    key: (usize, usize),
    value: (usize, usize),
}

impl Header {
    pub(super) fn parse(page: &[u8; HEADER]) -> Result<Self, Flaw> {
        let mut rest = page.as_slice();
        let number = u64(&mut rest);
        let kind = match u16(&mut rest) {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            other => return Err(Flaw::Kind(other)),
        };
        Ok(Self {
            number,
            kind,
            count: u16(&mut rest).into(),
            run: u64::from(u32(&mut rest)) + 1,
        })
    }

    /// The numbers of a branch's children. Their keys, which only a search needs, are not looked at.
    pub(super) fn children(&self, run: &[u8]) -> Result<Vec<u64>, Flaw> {
        if self.count == 0 {
            return Err(Flaw::Childless);
        }
        let child = |(index, mut element): (usize, &[u8])| {
            if element.len() < ELEMENT {
                return Err(Flaw::Element(index));
            }
            let _place = u32(&mut element);
            let _key_size = u32(&mut element);
            Ok(u64(&mut element))
        };
        self.elements(run).enumerate().map(child).collect()
    }

    /// A leaf's elements, each wholly within `run`, and together no longer than it: bbolt lays them one behind the other, so
    /// what they hold is never more than what was read.
    pub(super) fn entries(&self, run: &[u8]) -> Result<Vec<Element>, Flaw> {
        let mut left = run.len() as u64;
        let entry = |(index, mut element): (usize, &[u8])| {
            let outside = Flaw::Element(index);
            if element.len() < ELEMENT {
                return Err(outside);
            }
            let flags = u32(&mut element);
            let place = u64::from(u32(&mut element));
            let (key, value) = (u64::from(u32(&mut element)), u64::from(u32(&mut element)));
            if key == 0 {
                return Err(Flaw::EmptyKey(index));
            }
            left = left.checked_sub(key + value).ok_or(outside)?;
            // Counted from the element itself.
            let start = (HEADER + index * ELEMENT) as u64 + place;
            let within = |end: u64| usize::try_from(end).ok().filter(|&end| end <= run.len()).ok_or(outside);
            let (end, middle, start) = (within(start + key + value)?, within(start + key)?, within(start)?);
            Ok(Element {
                flags,
                key: (start, middle),
                value: (middle, end),
            })
        };
        self.elements(run).enumerate().map(entry).collect()
    }

    /// The elements' own bytes; short or empty ones where the run ends before their number does.
    fn elements<'a>(&self, run: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        (0..self.count).map(move |index| {
            let rest = run.get(HEADER + index * ELEMENT..).unwrap_or_default();
            rest.get(..ELEMENT).unwrap_or_default()
        })
    }
}

impl Element {
    pub(super) fn key<'a>(&self, run: &'a [u8]) -> &'a [u8] {
        run.get(self.key.0..self.key.1).unwrap_or_default()
    }

    pub(super) fn value<'a>(&self, run: &'a [u8]) -> &'a [u8] {
        run.get(self.value.0..self.value.1).unwrap_or_default()
    }
}
