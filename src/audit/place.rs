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
    File {
        path: PathBuf,
        file: File,
        /// It ends within a line: the disk was full.
        is_torn: bool,
    },
}

impl Place {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
            is_torn: false,
        })
    }

    /// Opens the file anew if it is no longer the one at its path: rotated away, or removed.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let Self::File { path, file, is_torn } = self else {
            return Ok(());
        };
        let open = file.metadata()?;
        let same = std::fs::metadata(&*path).is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()));
        if !same {
            *file = append_to(path)?;
            *is_torn = false;
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
            Self::File { file, is_torn, .. } => {
                if *is_torn {
                    // The next line is to be one all the same.
                    write_all(file, b"\n").map_err(|(error, _)| error)?;
                    *is_torn = false;
                }
                write_all(file, lines).map_err(|(error, rest)| {
                    *is_torn = rest < lines.len();
                    error
                })
            }
        }
    }
}

/// Writes all of it, or says how much is left. A pipe that is full is waited for only so long.
fn write_all(file: &mut File, mut rest: &[u8]) -> Result<(), (io::Error, usize)> {
    let until = Instant::now() + FULL_PIPE;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), rest.len())),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(FULL_PIPE / 20);
            }
            Err(error) => return Err((error, rest.len())),
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    /// A pipe that fills up stands for a disk that does.
    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut place = Place::open(&path).unwrap();
        // Longer than what a pipe takes as a whole or not at all.
        let line = [&[b'a'; 9999][..], b"\n"].concat();
        let mut whole = 0;
        while place.write(&line).is_ok() {
            whole += 1;
        }
        let Place::File { is_torn: true, .. } = place else {
            panic!("{place:?}");
        };
        reader.read_exact(&mut vec![0; whole * line.len()]).unwrap();
        place.write(b"next\n").unwrap();
        let mut rest = Vec::new();
        while !rest.ends_with(b"next\n") {
            let mut some = [0; 1024];
            let count = reader.read(&mut some).unwrap();
            rest.extend_from_slice(&some[..count]);
        }
        assert!(rest.ends_with(b"a\nnext\n"));
    }
}
