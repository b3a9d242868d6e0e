//! Why a snapshot was not inspected. Each text names the file; none holds a byte of a value.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::bbolt;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum Error {
    /// It is missing, or not readable for this user.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// What it is instead.
        path: PathBuf,
    },
    /// A running etcd holds its lock.
    #[error(
        "{path:?} is in use, by a running etcd it seems, which changes it while it is read: save a snapshot with `etcdctl \
         snapshot save` and inspect that"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is a file of another kind.
    #[error("{path:?} is {what}, and no snapshot of etcd's: {way_on}")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        way_on: &'static str,
    },
    /// It has a length that neither a database nor a snapshot has.
    #[error(
        "{path:?} has {bytes} bytes, which is neither a database nor one with the 32 bytes of its SHA-256 behind it: it was cut \
         off, or is no snapshot of etcd's, or is compressed and must be unpacked first (--skip-hash-check inspects what is \
         there)"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// The database is not the one that the checksum behind it was made of.
    #[error(
        "{path:?} is damaged: its SHA-256 is {actual}, and {expected} stands behind it at offset {offset} \
         (--skip-hash-check inspects it all the same)"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where the checksum stands.
        offset: u64,
        /// What it says.
        expected: String,
        /// What it should say.
        actual: String,
    },
    /// The database in it can't be read.
    #[error("{path:?}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which page.
        source: bbolt::Error,
    },
    /// It is a database, but none of etcd's.
    #[error("{path:?} is a bbolt database, but not of etcd: it has no bucket {bucket:?}")]
    NoBucket {
        /// The file.
        path: PathBuf,
        /// What every store has.
        bucket: &'static str,
    },
    /// An entry of the store is not one that etcd writes.
    #[error("{path:?} is damaged: element {element} of page {page} is {what}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The page that it is in.
        page: u64,
        /// Which of the page's elements.
        element: usize,
        /// What it is instead.
        what: String,
    },
    /// It holds more of the proxy's own records than are read.
    #[error(
        "{path:?} holds more than {limit} bytes of the proxy's own records: give --snapshot-keyring=false to leave them alone"
    )]
    TooMuchState {
        /// The file.
        path: PathBuf,
        /// As many as are read.
        limit: usize,
    },
}
