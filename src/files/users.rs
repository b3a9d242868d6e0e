//! Which stores a file is used for, told by the processes that use it: each holds a shared lock on one byte of the file, and
//! on one of its folder, and the byte's offset is the number of its store. Nothing is written, so a file that can only be
//! read can be locked, also on a read-only mount; the kernel drops the lock when the process ends, however it ends.
//!
//! Locks are of one machine, except on a file system that shares them. A lock on the file ends with the file that is
//! replaced, until its user locks the next one; the one on the folder does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, flock};

use crate::types::Fingerprint;

/// Bits of a store's number. Above them stands which file of the folder is meant.
const BITS: u32 = 46;
/// Bits of the file's name.
const NAME_BITS: u32 = 16;
/// Stores of one file that are told apart; nobody has so many.
const MAX_USERS: usize = 1_000;

/// The number of a store, for [`Use`]: a hash, so that two stores share one as good as never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreNumber(u64);

impl StoreNumber {
    /// Of a process that does not know yet which store it will use.
    pub const UNKNOWN: Self = Self(0);

    /// Of the store that this text names.
    pub fn of(identity: &str) -> Self {
        Self(hash(identity.as_bytes(), BITS).max(1))
    }

    /// Whether the process does not know yet.
    pub fn is_unknown(self) -> bool {
        self == Self::UNKNOWN
    }

    fn offset(self) -> i64 {
        self.0.cast_signed()
    }

    /// From what [`StoreNumber::hex`] made.
    pub(super) fn parse(hex: &str) -> Option<Self> {
        u64::from_str_radix(hex, 16)
            .ok()
            .map(Self)
            .filter(|number| number.hex() == hex)
    }

    /// As it is shown.
    pub fn hex(self) -> String {
        format!("{:012x}", self.0)
    }
}

/// Tells others that a file is used for a store, as long as this lives.
#[derive(Debug)]
pub struct Use {
    path: PathBuf,
    store: StoreNumber,
    file: File,
    /// None where the folder cannot be opened, or takes no locks.
    _folder: Option<File>,
}

impl Use {
    /// Of the file at `path`, for `store`.
    ///
    /// # Errors
    /// The file cannot be opened, or its file system takes no locks.
    pub fn announce(path: &Path, store: StoreNumber) -> io::Result<Self> {
        let place = Place::of(path)?;
        let folder = File::open(&place.folder);
        let folder = folder.and_then(|folder| lock(&folder, place.first() + store.offset()).map(|()| folder));
        let file = File::open(&place.file)?;
        lock(&file, store.offset())?;
        Ok(Self {
            path: path.to_owned(),
            store,
            file,
            _folder: folder.ok(),
        })
    }

    /// Whether it is of the file that is at the path now, and of `store`.
    pub fn is_of(&self, store: StoreNumber) -> bool {
        let id = |about: &Metadata| (about.dev(), about.ino());
        let same = |now: &Metadata| self.file.metadata().is_ok_and(|held| id(&held) == id(now));
        // What cannot be looked at now has not been replaced either.
        self.store == store && std::fs::metadata(&self.path).map_or(true, |now| same(&now))
    }
}

/// The stores that processes on this machine use the file at `path` for.
///
/// # Errors
/// The file cannot be opened, or its file system knows no locks.
pub fn users(path: &Path) -> io::Result<BTreeSet<StoreNumber>> {
    let place = Place::of(path)?;
    let mut found = BTreeSet::new();
    // Where a file is mounted by itself it may have another name, so that does not count there.
    collect(&File::open(&place.file)?, 0, &mut found)?;
    collect(&File::open(&place.folder)?, place.first(), &mut found)?;
    Ok(found)
}

/// The stores of locks from `first` on. The kernel tells of one lock in a range, so each tells where to look further.
fn collect(file: &File, first: i64, found: &mut BTreeSet<StoreNumber>) -> io::Result<()> {
    let mut open = vec![(first, first + (1 << BITS))];
    while let Some((from, to)) = open.pop() {
        if from >= to {
            continue;
        }
        if found.len() >= MAX_USERS {
            return Err(io::Error::other("more stores use it than are told apart"));
        }
        // What an exclusive lock would have to wait for.
        let mut wanted = range(libc::F_WRLCK, from, to - from);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut wanted))?;
        if i32::from(wanted.l_type) == libc::F_UNLCK {
            continue;
        }
        // A lock of another kind, of a program that is not ours, may reach further, and is of no store.
        let (at, behind) = match wanted.l_len {
            0 => (wanted.l_start.max(from), to),
            length => (wanted.l_start.max(from), wanted.l_start.saturating_add(length).min(to)),
        };
        if behind - at == 1 {
            found.insert(StoreNumber((at - first).cast_unsigned()));
        } else {
            return Err(io::Error::other("another program has locked it"));
        }
        open.push((from, at));
        open.push((behind, to));
    }
    Ok(())
}

fn lock(file: &File, at: i64) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, at, 1)))?;
    Ok(())
}

fn range(kind: i32, start: i64, length: i64) -> flock {
    flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: start,
        l_len: length,
        // Zero is what the kernel asks of locks that belong to an open file.
        l_pid: 0,
    }
}

/// A file, wherever links lead to it.
struct Place {
    file: PathBuf,
    folder: PathBuf,
    name: u64,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::canonicalize(path)?;
        let folder = file.parent().unwrap_or_else(|| Path::new("/")).to_owned();
        let name = file.file_name().unwrap_or(OsStr::new(""));
        Ok(Self {
            name: hash(name.as_encoded_bytes(), NAME_BITS),
            folder,
            file,
        })
    }

    /// Where the bytes begin that stand for this file in its folder.
    fn first(&self) -> i64 {
        (self.name << BITS).cast_signed()
    }
}

/// The first `bits` of the SHA-256 of `bytes`.
fn hash(bytes: &[u8], bits: u32) -> u64 {
    let text = Fingerprint::of(bytes).to_string();
    let digits = text.rsplit(':').next().and_then(|hex| hex.get(..16));
    let first = digits
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or_default();
    first >> (u64::BITS - bits)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn numbers(names: &[&str]) -> BTreeSet<StoreNumber> {
        names.iter().map(|name| StoreNumber::of(name)).collect()
    }

    #[test]
    fn each_store_that_a_file_is_used_for_is_seen_until_its_last_user_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        fs::write(&path, "one").unwrap();
        fs::write(folder.path().join("other.yaml"), "one").unwrap();
        assert!(users(&path).unwrap().is_empty());
        let a = Use::announce(&path, StoreNumber::of("a")).unwrap();
        let again = Use::announce(&path, StoreNumber::of("a")).unwrap();
        let names = ["a", "b", "c", "d"];
        let all: Vec<_> = names
            .iter()
            .map(|name| Use::announce(&path, StoreNumber::of(name)).unwrap())
            .collect();
        let elsewhere = Use::announce(&folder.path().join("other.yaml"), StoreNumber::of("e")).unwrap();
        assert_eq!(users(&path).unwrap(), numbers(&names));
        drop((all, a));
        assert_eq!(users(&path).unwrap(), numbers(&["a"]));
        drop(again);
        assert!(users(&path).unwrap().is_empty());
        drop(elsewhere);
        let unknown = Use::announce(&path, StoreNumber::UNKNOWN).unwrap();
        assert!(users(&path).unwrap().iter().all(|user| user.is_unknown()));
        drop(unknown);
    }

    #[test]
    fn a_user_is_seen_through_links_and_beyond_the_file_s_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("e.yaml"), folder.path().join("link"));
        fs::write(&path, "one").unwrap();
        std::os::unix::fs::symlink("e.yaml", &link).unwrap();
        let number = StoreNumber::of("a");
        let user = Use::announce(&link, number).unwrap();
        assert!(user.is_of(number) && !user.is_of(StoreNumber::of("b")));
        fs::write(folder.path().join("new"), "two").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(!user.is_of(number), "it is another file by now");
        assert_eq!(
            users(&path).unwrap(),
            numbers(&["a"]),
            "the folder's lock is there all the same"
        );
        let next = Use::announce(&link, number).unwrap();
        drop(user);
        assert!(next.is_of(number));
        assert_eq!(users(&path).unwrap(), numbers(&["a"]));
    }
}
