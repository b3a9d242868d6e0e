//! Where lines go: a file that somebody else may rename or remove at any time, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// For the owner alone: names of Secrets are in it.
const MODE: u32 = 0o600;

/// How long the reader of a pipe is given to make room for a line.
const FULL_PIPE: Duration = Duration::from_millis(200);

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
            Self::File { file, .. } => write_all(file, lines),
        }
    }
}

/// Writes all of it. A pipe that is full is waited for only so long.
fn write_all(file: &mut File, mut rest: &[u8]) -> io::Result<()> {
    let until = Instant::now() + FULL_PIPE;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(FULL_PIPE / 20);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens without waiting: a pipe that nobody reads from fails, be it now or when it is full, and does not hold up all that
/// comes after. To a file it makes no difference.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}
