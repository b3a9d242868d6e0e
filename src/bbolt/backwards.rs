//! A walk over one bucket's entries, from the last to the first. Keeps one leaf in memory, and of each branch above it the
//! numbers of the children that are still to come.

use super::database::Root;
use super::page::{BUCKET, Element, HEADER, Header, Kind};
use super::{Bucket, Database, Error, Flaw, Source};

/// More branches above one another than any tree has: each has at least two children, and no page is in it twice.
const MAX_DEPTH: usize = 64;

/// Entries of a bucket, the last one first. Ends after the first error.
#[derive(Debug)]
pub struct Backwards<'d, S: ?Sized> {
    database: &'d Database<'d, S>,
    /// Pages to come of each branch from the root down, the next one last.
    branches: Vec<Vec<u64>>,
    /// The leaf that is being read, and those of its elements that are to come, the next one last.
    page: u64,
    run: Vec<u8>,
    elements: Vec<Element>,
    /// A bit for each page that is part of the tree.
    seen: Vec<u64>,
    /// The key of the entry behind.
    behind: Option<Vec<u8>>,
    /// Whether the entries are to be buckets, or to be none.
    of_buckets: bool,
    /// A leaf that is no page of its own, not yet read.
    inline: Option<Vec<u8>>,
}

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The page that it is in.
    pub page: u64,
    /// Which of the page's elements it is.
    pub index: usize,
}

impl<'d, S: Source + ?Sized> Backwards<'d, S> {
    pub(super) fn over(database: &'d Database<'d, S>, bucket: &Bucket) -> Self {
        let (branches, page, inline) = match &bucket.0 {
            Root::Page(root) => (vec![vec![*root]], *root, None),
            Root::Inline { leaf, page } => (Vec::new(), *page, Some(leaf.clone())),
        };
        Self {
            database,
            branches,
            page,
            run: Vec::new(),
            elements: Vec::new(),
            seen: Vec::new(),
            behind: None,
            of_buckets: false,
            inline,
        }
    }

    /// The root bucket's entries, which are buckets.
    pub(super) fn over_buckets(database: &'d Database<'d, S>) -> Self {
        Self {
            of_buckets: true,
            ..Self::over(database, &database.root())
        }
    }

    /// The entry before the one that was given last; `None` behind the first.
    ///
    /// # Errors
    /// A page cannot be read, or is damaged.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows the leaf that it is in, which an iterator's could not"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let found = self.element();
        if found.is_err() {
            self.branches.clear();
            self.elements.clear();
        }
        let page = self.page;
        Ok(found?.map(|(index, element)| Entry {
            key: element.key(&self.run),
            value: element.value(&self.run),
            page,
            index,
        }))
    }

    fn element(&mut self) -> Result<Option<(usize, Element)>, Error> {
        while self.elements.is_empty() {
            if !self.leaf()? {
                return Ok(None);
            }
        }
        let Some(element) = self.elements.pop() else {
            return Ok(None);
        };
        let index = self.elements.len();
        let expected = if self.of_buckets { BUCKET } else { 0 };
        if element.flags != expected {
            return Err(self.damaged(Flaw::Flags(index, element.flags)));
        }
        let key = element.key(&self.run);
        if self.behind.as_deref().is_some_and(|behind| key >= behind) {
            return Err(self.damaged(Flaw::Order(index)));
        }
        let behind = self.behind.get_or_insert_default();
        behind.clear();
        behind.extend_from_slice(key);
        Ok(Some((index, element)))
    }

    /// Goes to the leaf before this one; false if there is none.
    fn leaf(&mut self) -> Result<bool, Error> {
        if let Some(leaf) = self.inline.take() {
            return self.inline_leaf(leaf).map(|()| true);
        }
        while let Some(children) = self.branches.last_mut() {
            let Some(page) = children.pop() else {
                self.branches.pop();
                continue;
            };
            self.page = page;
            let header = self.database.read(page, &mut self.run)?;
            self.claim(page, header.run)?;
            match header.kind {
                Kind::Leaf => {
                    self.elements = header.entries(&self.run).map_err(|flaw| self.damaged(flaw))?;
                    return Ok(true);
                }
                Kind::Branch if self.branches.len() > MAX_DEPTH => return Err(self.damaged(Flaw::Depth(MAX_DEPTH))),
                Kind::Branch => {
                    let children = header.children(&self.run).map_err(|flaw| self.damaged(flaw))?;
                    self.branches.push(children);
                }
            }
        }
        Ok(false)
    }

    fn inline_leaf(&mut self, leaf: Vec<u8>) -> Result<(), Error> {
        let header = leaf.first_chunk::<HEADER>().copied().unwrap_or_default();
        let header = Header::parse(&header).map_err(|flaw| self.damaged(flaw))?;
        if header.kind != Kind::Leaf {
            return Err(self.damaged(Flaw::Kind(1)));
        }
        self.elements = header.entries(&leaf).map_err(|flaw| self.damaged(flaw))?;
        self.run = leaf;
        Ok(())
    }

    /// Notes that `run` pages from `first` on are part of the tree. Each can be so once only: otherwise a loop of branches
    /// would have no end.
    fn claim(&mut self, first: u64, run: u64) -> Result<(), Error> {
        for page in first..first.saturating_add(run) {
            // Bounded by the database's number of pages, which are all there.
            let (word, bit) = (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64));
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            let Some(word) = self.seen.get_mut(word) else { continue };
            if *word & bit != 0 {
                return Err(self.database.damaged(page, Flaw::Twice));
            }
            *word |= bit;
        }
        Ok(())
    }

    fn damaged(&self, flaw: Flaw) -> Error {
        self.database.damaged(self.page, flaw)
    }
}
