//! A file that was not there before, for its owner alone: a backup, or keys in the clear. Never writes over what is there, and
//! leaves nothing behind that is not whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Only its owner reads and writes.
const PRIVATE: u32 = 0o600;

/// Why a file was not made.
#[derive(Debug, Error)]
pub enum NewFileError {
    /// Something has that name.
    #[error("{0:?} is there already, and is not written over: give another name")]
    Exists(PathBuf),
    /// The system refused a step.
    #[error("{path:?} cannot be {what}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Which step.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An empty file that waits for its contents. Removed if they never come.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    file: File,
    is_whole: bool,
}

impl NewFile {
    /// Makes it, empty. Blocks.
    ///
    /// # Errors
    /// Something is there, if only a link, or the folder takes no file.
    pub fn create(path: &Path) -> Result<Self, NewFileError> {
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(PRIVATE).open(path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => NewFileError::Exists(path.to_owned()),
            _ => failed(path, "made", source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_whole: false,
        })
    }

    /// Writes what it is for, and has the system keep it. Blocks.
    ///
    /// # Errors
    /// The disk is full, say. Then it is gone again.
    pub fn fill(mut self, contents: &[u8]) -> Result<(), NewFileError> {
        let written = self.file.write_all(contents).and_then(|()| self.file.sync_all());
        written.map_err(|source| failed(&self.path, "written", source))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed(&self.path, "kept", source))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_whole {
            // There is nothing else to do about it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, what: &'static str, source: io::Error) -> NewFileError {
    NewFileError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_new_file_is_its_owners_and_nothing_is_written_over() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("new");
        NewFile::create(&path).unwrap().fill(b"contents").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"contents");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert!(matches!(NewFile::create(&path), Err(NewFileError::Exists(_))));
        // Not even where a link leads to nothing yet.
        let link = folder.path().join("link");
        symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(matches!(NewFile::create(&link), Err(NewFileError::Exists(_))));
        let other = folder.path().join("other");
        drop(NewFile::create(&other).unwrap());
        assert!(!other.exists(), "what was never filled is gone");
    }
}
