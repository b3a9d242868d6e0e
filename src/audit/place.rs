//! Where lines go: a file that somebody else may rename or remove at any time, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// For the owner alone: names of Secrets are in it.
const MODE: u32 = 0o600;

/// An open log.
#[derive(Debug)]
pub(super) enum Place {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Place {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
        })
    }

    /// Opens the file anew if it is no longer the one at its path: rotated away, or removed.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let Self::File { path, file } = self else {
            return Ok(());
        };
        let open = file.metadata()?;
        let same = std::fs::metadata(&*path).is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()));
        if !same {
            *file = append_to(path)?;
        }
        Ok(())
    }

    /// Writes whole lines, in one go wherever the system takes them so.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File { file, .. } => file.write_all(lines),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}
