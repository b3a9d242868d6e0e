//! A database as a whole: which meta counts, and where its buckets begin.

use super::meta::{self, Meta, PAGE_SIZES};
use super::page::{HEADER, Header, MAX_RUN};
use super::{Backwards, Error, Flaw, Source};

/// A database that nobody writes to meanwhile.
#[derive(Debug)]
pub struct Database<'s, S: ?Sized> {
    source: &'s S,
    meta: Meta,
}

/// Where a bucket's entries are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket(pub(super) Root);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// In the tree below this page.
    Page(u64),
    /// In this leaf, which lies within a leaf of the root bucket.
    Inline {
        leaf: Vec<u8>,
        /// The page that it was found in.
        page: u64,
    },
}

impl<'s, S: Source + ?Sized> Database<'s, S> {
    /// Finds the meta that counts in the first `length` bytes of `source`, which are the database.
    ///
    /// # Errors
    /// There is none, or the pages that it speaks of are not there.
    pub fn open(source: &'s S, length: u64) -> Result<Self, Error> {
        let first = meta_at(source, 0, length)?;
        // The second lies where the first says that its page ends; where that is not to be had, in any place it could be.
        let places = match first {
            Ok(meta) => vec![meta.page_size],
            Err(_) => PAGE_SIZES.to_vec(),
        };
        let mut second = None;
        for size in places {
            let found = meta_at(source, size.into(), length)?.ok();
            second = second.or(found.filter(|meta| meta.page_size == size));
        }
        let meta = match (first, second) {
            (Err(flaw), None) => return Err(Error::NoMeta(flaw)),
            (Ok(one), Some(other)) if other.transaction > one.transaction => other,
            (Ok(one), _) | (Err(_), Some(one)) => one,
        };
        let expected = u128::from(meta.pages) * u128::from(meta.page_size);
        if expected > length.into() {
            return Err(Error::Truncated {
                pages: meta.pages,
                page_size: meta.page_size.into(),
                expected,
                actual: length,
            });
        }
        Ok(Self { source, meta })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        self.meta.page_size.into()
    }

    /// How many pages there are, free ones included.
    pub fn pages(&self) -> u64 {
        self.meta.pages
    }

    /// The bucket called `name`, if there is one.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, Error> {
        let mut entries = Backwards::over_buckets(self);
        while let Some(entry) = entries.next()? {
            if entry.key == name {
                return self.bucket_in(entry.value, entry.page, entry.index).map(Some);
            }
        }
        Ok(None)
    }

    /// The entries of `bucket`, the last one first.
    pub fn backwards(&self, bucket: &Bucket) -> Backwards<'_, S> {
        Backwards::over(self, bucket)
    }

    /// The root bucket.
    pub(super) fn root(&self) -> Bucket {
        Bucket(Root::Page(self.meta.root))
    }

    fn bucket_in(&self, value: &[u8], page: u64, index: usize) -> Result<Bucket, Error> {
        let flaw = || self.damaged(page, Flaw::Bucket(index, value.len()));
        // Where its tree begins, and a counter that etcd has no use for.
        let (mut header, leaf) = value
            .split_first_chunk::<16>()
            .map(|(header, leaf)| (&header[..], leaf))
            .ok_or_else(flaw)?;
        match meta::u64(&mut header) {
            0 if leaf.len() >= HEADER => Ok(Bucket(Root::Inline {
                leaf: leaf.to_vec(),
                page,
            })),
            0 => Err(flaw()),
            root => Ok(Bucket(Root::Page(root))),
        }
    }

    /// Reads the page called `number` with all that belong to it into `run`.
    pub(super) fn read(&self, number: u64, run: &mut Vec<u8>) -> Result<Header, Error> {
        let behind = || self.damaged(number, Flaw::BehindTheEnd(self.meta.pages));
        if number >= self.meta.pages {
            return Err(behind());
        }
        let mut header = [0; HEADER];
        self.fill(number, &mut header)?;
        let header = Header::parse(&header).map_err(|flaw| self.damaged(number, flaw))?;
        if header.number != number {
            return Err(self.damaged(number, Flaw::Number(header.number)));
        }
        if number.checked_add(header.run).is_none_or(|end| end > self.meta.pages) {
            return Err(behind());
        }
        let bytes = header.run.saturating_mul(self.page_size());
        let length = usize::try_from(bytes).ok().filter(|_| bytes <= MAX_RUN);
        let length = length.ok_or_else(|| self.damaged(number, Flaw::TooLong(header.run)))?;
        run.clear();
        // What one large value needed is given back.
        run.shrink_to(length.max(1 << 20));
        run.resize(length, 0);
        self.fill(number, run)?;
        Ok(header)
    }

    /// A page that is not as it should be.
    pub(super) fn damaged(&self, page: u64, flaw: Flaw) -> Error {
        Error::Page {
            page,
            offset: self.offset(page),
            flaw,
        }
    }

    fn fill(&self, page: u64, into: &mut [u8]) -> Result<(), Error> {
        fill(self.source, self.offset(page), into)
    }

    fn offset(&self, page: u64) -> u64 {
        page.saturating_mul(self.page_size())
    }
}

fn fill<S: Source + ?Sized>(source: &S, offset: u64, into: &mut [u8]) -> Result<(), Error> {
    source.read_at(offset, into).map_err(|source| Error::Read {
        offset,
        length: into.len(),
        source,
    })
}

/// The meta in the page at `offset`, or what is wrong with it.
fn meta_at<S: Source + ?Sized>(source: &S, offset: u64, length: u64) -> Result<Result<Meta, Flaw>, Error> {
    if offset + meta::LEN as u64 > length {
        return Ok(Err(Flaw::Short));
    }
    let mut page = [0; meta::LEN];
    fill(source, offset, &mut page)?;
    Ok(Meta::parse(&page))
}
