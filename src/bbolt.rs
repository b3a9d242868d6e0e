//! Reads bbolt databases, the files that etcd keeps its store in: one bucket's entries, from the last to the first.
//!
//! A room of our own, because no crate does this soundly: `bbolt-rs` and `nut` are ports of the Go code that map the file
//! into memory and cast pointers into it (some 95 and 64 places with `unsafe`), so that a damaged or hostile file is
//! undefined behaviour or a panic; `bolt-lite` reads the whole file into memory and leaves checksums out. And a temporary
//! etcd on a restored copy would need an etcd, as much disk again, and some minutes for large files. What is needed is small:
//! no transaction, no free list, no search, nothing is ever written.
//!
//! The file is hostile until shown otherwise. It is read at offsets, never mapped; every length and place in it is checked
//! before it is used; no page is visited twice, so work is bounded by the file's size and memory by [`MAX_RUN`] and a bit for
//! each page. What is not as bbolt writes it is an error that names page and offset.
//!
//! Layout, all numbers in the byte order of the machine that wrote it, of which only little-endian ones are read. Page 0 and
//! 1 are metas, and the valid one of the later transaction counts. A page begins with its number, its kind, how many elements
//! it has and how many further pages belong to it. A branch's elements name child pages; a leaf's hold keys and values. The
//! root bucket's values are the other buckets: a root page, or, for small ones, a leaf right behind that.

mod backwards;
mod database;
mod error;
mod meta;
mod page;
mod source;
#[cfg(test)]
pub(crate) mod tests;

pub use backwards::{Backwards, Entry};
pub use database::{Bucket, Database};
pub use error::{Error, Flaw};
pub use page::MAX_RUN;
pub use source::Source;
