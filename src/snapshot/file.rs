//! The file: a database, and behind it the checksum that `etcdctl snapshot save` has added. A database that was copied out of
//! a data folder has none.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::Serialize;

use super::Error;
use super::kind::{ENOUGH, Kind, kind};

/// etcd tells by this whether a checksum is there: a database is whole pages, and no page is smaller than a sector.
const SECTOR: u64 = 512;
/// Read at a time for the checksum.
const CHUNK: usize = 1 << 20;

/// A snapshot that was opened and whose checksum was looked at.
#[derive(Debug)]
pub struct SnapshotFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Bytes of the database.
    pub(super) length: u64,
    pub(super) checksum: Checksum,
}

/// What is known of the file's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// It is there, and right.
    Valid,
    /// There is none.
    Absent,
    /// It was not to be looked at.
    Skipped,
}

impl SnapshotFile {
    /// Opens the file at `path` and reads it once for its checksum, unless `skips_checksum`. Blocks.
    ///
    /// # Errors
    /// The file can't be read, is in use, or is not what its checksum says.
    pub fn open(path: &Path, skips_checksum: bool) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        // A pipe would be waited for.
        let about = std::fs::metadata(path).map_err(failed)?;
        if !about.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(failed)?;
        // The lock that bbolt takes, for as long as the file is open. Where there are no locks, nothing is known.
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            return Err(Error::InUse { path: path.to_owned() });
        }
        let bytes = file.metadata().map_err(failed)?.len();
        let mut start = [0; ENOUGH];
        let most = usize::try_from(bytes).map_or(ENOUGH, |bytes| bytes.min(ENOUGH));
        let start = start.get_mut(..most).unwrap_or_default();
        file.read_exact_at(start, 0).map_err(failed)?;
        if let Some(Kind { what, way_on }) = kind(start, bytes) {
            let path = path.to_owned();
            return Err(Error::OtherKind { path, what, way_on });
        }
        let digest = SHA256_OUTPUT_LEN as u64;
        let (length, checksum) = match bytes % SECTOR {
            rest if rest == digest && skips_checksum => (bytes - digest, Checksum::Skipped),
            rest if rest == digest => {
                check(&file, path, bytes - digest)?;
                (bytes - digest, Checksum::Valid)
            }
            0 => (bytes, Checksum::Absent),
            _ if skips_checksum => (bytes, Checksum::Skipped),
            _ => {
                return Err(Error::Length {
                    path: path.to_owned(),
                    bytes,
                });
            }
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            length,
            checksum,
        })
    }
}

/// Compares the SHA-256 of the first `length` bytes with what stands behind them.
fn check(file: &File, path: &Path, length: u64) -> Result<(), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < length {
        let rest = usize::try_from(length - offset).unwrap_or(CHUNK).min(CHUNK);
        let part = chunk.get_mut(..rest).unwrap_or_default();
        file.read_exact_at(part, offset).map_err(failed)?;
        context.update(part);
        offset += rest as u64;
    }
    let mut expected = [0; SHA256_OUTPUT_LEN];
    file.read_exact_at(&mut expected, length).map_err(failed)?;
    let actual = context.finish();
    if actual.as_ref() == expected {
        return Ok(());
    }
    Err(Error::Checksum {
        path: path.to_owned(),
        offset: length,
        expected: hex(&expected),
        actual: hex(actual.as_ref()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
