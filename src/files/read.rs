//! Reads a file as a whole, within a bound, and notes who else could have read it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::permissions::{Exposure, exposure};
use super::reach::explained;
use crate::types::Fingerprint;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum Error {
    /// It is missing, a folder, or not readable for this user.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is longer than its reader takes.
    #[error("{path:?} is longer than the {limit} bytes that are read of such a file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, bytes.
        limit: usize,
    },
}

/// What a file held when it was read. Wiped when dropped.
#[derive(Debug)]
pub struct Contents {
    /// All of it.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Who else could have read it: told of the very file that was opened, wherever symbolic links lead by now.
    pub exposure: Option<Exposure>,
}

/// Reads the file at `path`, of at most `limit` bytes. Blocks.
///
/// The bytes are read into one allocation, so that no copy of them is left behind unwiped.
///
/// # Errors
/// The file cannot be opened or read, or is longer.
pub fn read(path: &Path, limit: usize) -> Result<Contents, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source: explained(path, source),
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    // What is no file, a pipe say, does not tell how much it will give.
    let size = usize::try_from(about.len()).ok().filter(|_| about.is_file());
    let bytes = bounded(file, path, size.unwrap_or(limit), limit)?;
    let exposure = exposure(path, &about);
    Ok(Contents { bytes, exposure })
}

/// Checks that what is at `path` may be read again and again: no pipe or device has come there, which [`read`] could wait
/// for without end. What cannot be looked at passes, since reading it says more.
///
/// # Errors
/// It is neither a file nor a folder.
pub fn check_kind(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() && !about.is_dir() => Err(Error::Read {
            path: path.to_owned(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file, and only those are followed",
            ),
        }),
        _ => Ok(()),
    }
}

/// Reads `source`, of at most `limit` bytes, to its end, as [`read`] reads a file; `name` is for errors. Blocks.
///
/// # Errors
/// The source fails, or is longer.
pub fn read_stream(source: impl Read, name: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    bounded(source, name, limit, limit)
}

/// Reads `source` into one allocation, where it is no longer than `size`.
fn bounded(source: impl Read, name: &Path, size: usize, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    // One byte more than is there lets the end be seen without growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.min(limit) + 1));
    // One byte more than is accepted, so that a file that is too long is refused as such and not cut.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let count = source
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read {
            path: name.to_owned(),
            source,
        })?;
    if count > limit {
        return Err(Error::TooLarge {
            path: name.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// One fingerprint over all of `paths`, in order, to tell whether any of them has changed; `None` where one cannot be
/// read. Blocks.
pub fn fingerprint(paths: &[PathBuf], limit: usize) -> Option<Fingerprint> {
    let mut all = String::new();
    for path in paths {
        let contents = read(path, limit).ok()?;
        all.push_str(&Fingerprint::of(&contents.bytes).to_string());
    }
    Some(Fingerprint::of(all.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_bound_and_not_past_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(&**read(&path, 5).unwrap().bytes, b"12345");
        assert!(matches!(read(&path, 4), Err(Error::TooLarge { limit: 4, .. })));
        assert!(matches!(
            read(Path::new("/dev/zero"), 1 << 20),
            Err(Error::TooLarge { .. })
        ));
        assert!(matches!(read(folder.path(), 5), Err(Error::Read { .. })));
        assert!(matches!(read(&folder.path().join("none"), 5), Err(Error::Read { .. })));
    }

    #[test]
    fn a_stream_is_read_into_one_allocation() {
        let text = vec![b'x'; 100_000];
        let read = read_stream(text.as_slice(), Path::new("-"), 200_000).unwrap();
        assert_eq!(*read, text);
        assert_eq!(read.capacity(), 200_001);
        assert!(matches!(
            read_stream(text.as_slice(), Path::new("-"), 99_999),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn a_fingerprint_is_of_every_file_and_of_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::write(&one, b"ab").unwrap();
        fs::write(&other, b"c").unwrap();
        let both = |paths: [&PathBuf; 2]| fingerprint(&paths.map(Clone::clone), 9);
        let first = both([&one, &other]);
        assert!(first.is_some());
        assert_ne!(both([&other, &one]), first);
        fs::write(&one, b"a").unwrap();
        fs::write(&other, b"bc").unwrap();
        assert_ne!(both([&one, &other]), first, "where one file ends matters");
        fs::remove_file(&other).unwrap();
        assert_eq!(both([&one, &other]), None);
    }
}
