//! What is wrong with a database. Holds no byte of a value.

use std::io;

use thiserror::Error;

/// Why a database could not be read.
#[derive(Debug, Error)]
pub enum Error {
    /// The system did not give the bytes.
    #[error("cannot read {length} bytes at offset {offset}")]
    Read {
        /// From where.
        offset: u64,
        /// How many.
        length: usize,
        /// What it said.
        source: io::Error,
    },
    /// Neither of the two places has what every database begins with.
    #[error("it is no bbolt database: no valid meta page in its first two pages (page 0: {0})")]
    NoMeta(Flaw),
    /// The file ends before its pages do.
    #[error("it is cut off: its {pages} pages of {page_size} bytes are {expected} bytes, and it holds {actual}")]
    Truncated {
        /// How many pages are in use, and free ones among them.
        pages: u64,
        /// Bytes of each.
        page_size: u64,
        /// What that comes to.
        expected: u128,
        /// Bytes that are there.
        actual: u64,
    },
    /// A page is not as bbolt writes it.
    #[error("page {page} at offset {offset} is damaged: {flaw}")]
    Page {
        /// Its number.
        page: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// The file is too short for it.
    #[error("the file ends within it")]
    Short,
    /// It does not begin as a meta does.
    #[error("its magic number is wrong")]
    Magic,
    /// It is a meta of a machine with the other byte order.
    #[error("it was written by a big-endian machine, and only databases of little-endian ones are read")]
    BigEndian,
    /// A format that did not exist when this was written.
    #[error("its version is {0}, and only 2 is known")]
    Version(u32),
    /// The meta's bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// Pages that bbolt could not have made.
    #[error("it gives pages {0} bytes, and that must be a power of two from 1024 to 65536")]
    PageSize(u32),
    /// It is another page that was written here.
    #[error("it says that it is page {0}")]
    Number(u64),
    /// It is neither a branch nor a leaf.
    #[error("its kind is {0:#x}, and a branch (0x1) or a leaf (0x2) belongs here")]
    Kind(u16),
    /// Numbers of pages end below.
    #[error("it is, or reaches, behind the last of {0} pages")]
    BehindTheEnd(u64),
    /// It, or a page that belongs to it, is already part of the tree.
    #[error("it is in the tree twice")]
    Twice,
    /// No value that etcd accepts makes so long a run.
    #[error("it runs on over {0} pages, which is more than 256 MiB")]
    TooLong(u64),
    /// An element's key or value is not within the page.
    #[error("element {0} lies outside of it")]
    Element(usize),
    /// Keys are not empty.
    #[error("the key of element {0} is empty")]
    EmptyKey(usize),
    /// Keys ascend.
    #[error("the key of element {0} is not below the one behind it")]
    Order(usize),
    /// Flags that bbolt does not have, or a bucket where none can be.
    #[error("element {0} has flags {1:#x}, which do not belong there")]
    Flags(usize, u32),
    /// A branch leads somewhere.
    #[error("it is a branch without children")]
    Childless,
    /// The tree is deeper than any that could be built.
    #[error("it lies more than {0} branches deep")]
    Depth(usize),
    /// A bucket is a root page, and for small ones a leaf.
    #[error("element {0} is a bucket, and its {1} bytes are none")]
    Bucket(usize, usize),
}
