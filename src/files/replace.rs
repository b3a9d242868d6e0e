//! Puts new contents in the place of a file's, so that whoever reads it meanwhile, or after a crash, finds either the old
//! ones or the new ones, whole; the old ones are kept beside it.
//!
//! Mode and owner stay. A symbolic link is followed and stays, except into a volume that Kubernetes keeps: whatever is
//! written there is undone, and nobody else would see it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::mounts::own_mount;
use super::places::places;
use super::read::{self, read};
use crate::types::Fingerprint;

/// Only its owner reads and writes.
const PRIVATE: u32 = 0o600;

/// Old contents of the same second are told apart by a number, up to this.
const MAX_KEPT_AT_ONCE: u32 = 1_000;

/// Why a file was not replaced. Nothing has changed but that temporary or kept files may be there.
#[derive(Debug, Error)]
pub enum ReplaceError {
    /// What is there cannot be read.
    #[error(transparent)]
    Read(#[from] read::Error),
    /// Kubernetes keeps it.
    #[error(
        "{path:?} is in a volume that Kubernetes keeps up to date ({link:?} on the way to it), so it cannot be edited in \
         place: change the Secret or ConfigMap that the volume is made of"
    )]
    Mounted {
        /// The file.
        path: PathBuf,
        /// The link that shows it.
        link: PathBuf,
    },
    /// It is mounted by itself.
    #[error(
        "{path:?} is a mount by itself, as containers have them for single files, so no other file can take its place: \
         nothing was written. Mount the folder that it lies in, or run this where the file itself lies"
    )]
    OwnMount {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else changed it since it was read.
    #[error("{path:?} was changed by somebody else meanwhile; nothing was written over it")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Another process is replacing it, or a file beside it.
    #[error("another process is replacing a file in {folder:?}")]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
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

/// Whether the file at `path` could be replaced, without doing it: it is no mounted one, and its folder takes files.
///
/// # Errors
/// Why not.
pub fn check_replaceable(path: &Path) -> Result<(), ReplaceError> {
    Target::find(path)?.lock().map(drop)
}

/// Puts `new` in the place of what the file at `path` holds, of at most `limit` bytes, if that is still `old`. Where the old
/// contents are kept: beside it, its name with `time` added, for its owner alone. Blocks.
///
/// # Errors
/// It stays as it was.
pub fn replace(path: &Path, old: Fingerprint, new: &[u8], time: &str, limit: usize) -> Result<PathBuf, ReplaceError> {
    let target = Target::find(path)?;
    // Held until this returns: of two processes only one is between looking and renaming.
    let folder = target.lock()?;
    let found = read(&target.file, limit)?.bytes;
    if Fingerprint::of(&found) != old {
        return Err(ReplaceError::Changed { path: path.to_owned() });
    }
    let about = target.attempt("looked at", fs::metadata(&target.file))?;
    let kept = target.keep(&found, &about, time)?;
    let temporary = target.beside(OsStr::new(".new"), true);
    // What a process that died here has left. Nobody else is here.
    let _ = fs::remove_file(&temporary);
    let written = target.write(&temporary, new, &about, about.mode() & 0o7777);
    let renamed = written.and_then(|()| {
        fs::rename(&temporary, &target.file).map_err(|source| ReplaceError::Io {
            path: target.file.clone(),
            what: "replaced",
            source,
        })
    });
    renamed.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    target.attempt("kept", folder.sync_all())?;
    Ok(kept)
}

/// A file, wherever links lead to it.
pub(super) struct Target {
    pub(super) file: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
}

impl Target {
    pub(super) fn find(path: &Path) -> Result<Self, ReplaceError> {
        let way = places(path);
        if let Some(link) = way.iter().find(|place| place.name == "..data") {
            return Err(ReplaceError::Mounted {
                path: path.to_owned(),
                link: link.folder.join(&link.name),
            });
        }
        if own_mount(path).is_some() {
            return Err(ReplaceError::OwnMount { path: path.to_owned() });
        }
        let file = fs::canonicalize(path).map_err(|source| read::Error::Read {
            path: path.to_owned(),
            source,
        })?;
        match (file.parent(), file.file_name()) {
            (Some(folder), Some(name)) => Ok(Self {
                folder: folder.to_owned(),
                name: name.to_owned(),
                file,
            }),
            _ => Err(ReplaceError::Io {
                path: file,
                what: "replaced",
                source: io::ErrorKind::IsADirectory.into(),
            }),
        }
    }

    /// The folder, which nobody else can lock as long as this lives.
    pub(super) fn lock(&self) -> Result<File, ReplaceError> {
        let failed = |what| {
            move |source| ReplaceError::Io {
                path: self.folder.clone(),
                what,
                source,
            }
        };
        let folder = File::open(&self.folder).map_err(failed("opened"))?;
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK)
            .map_err(|error| failed("written to")(error.into()))?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ReplaceError::Busy {
                folder: self.folder.clone(),
            }),
            Err(error) => Err(failed("locked")(error.into())),
        }
    }

    fn attempt<T>(&self, what: &'static str, result: io::Result<T>) -> Result<T, ReplaceError> {
        result.map_err(|source| ReplaceError::Io {
            path: self.file.clone(),
            what,
            source,
        })
    }

    /// The file's name with `suffix`, hidden if that is wanted.
    fn beside(&self, suffix: &OsStr, is_hidden: bool) -> PathBuf {
        let mut name = OsString::from(if is_hidden { "." } else { "" });
        name.push(&self.name);
        name.push(suffix);
        self.folder.join(name)
    }

    /// Keeps the old contents, under a name that is free or that holds the same already.
    fn keep(&self, found: &[u8], about: &Metadata, time: &str) -> Result<PathBuf, ReplaceError> {
        for number in 1..=MAX_KEPT_AT_ONCE {
            let suffix = if number == 1 {
                format!(".{time}")
            } else {
                format!(".{time}-{number}")
            };
            let kept = self.beside(OsStr::new(&suffix), false);
            match self.write(&kept, found, about, about.mode() & PRIVATE) {
                Err(ReplaceError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => return outcome.map(|()| kept),
            }
        }
        Err(ReplaceError::Io {
            path: self.file.clone(),
            what: "kept beside itself: there are too many of this second",
            source: io::ErrorKind::AlreadyExists.into(),
        })
    }

    /// Writes a new file, for its owner alone until all of it is there.
    fn write(&self, path: &Path, contents: &[u8], about: &Metadata, mode: u32) -> Result<(), ReplaceError> {
        let attempt = |what: &'static str, result: io::Result<()>| {
            result.map_err(|source| ReplaceError::Io {
                path: path.to_owned(),
                what,
                source,
            })
        };
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(PRIVATE).open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(source) => return attempt("made", Err(source)),
        };
        let mut complete = || {
            attempt("written", file.write_all(contents))?;
            let own = self.attempt("looked at", file.metadata())?;
            if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
                // Before the mode: changing the owner takes some bits away.
                attempt(
                    "given to the owner of the file that it replaces",
                    fchown(&file, Some(about.uid()), Some(about.gid())),
                )?;
            }
            attempt("given its mode", file.set_permissions(fs::Permissions::from_mode(mode)))?;
            attempt("written to disk", file.sync_all())
        };
        // Half of a configuration must not lie about under a name that promises all of it.
        complete().inspect_err(|_| drop(fs::remove_file(path)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMIT: usize = 100;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn replaced(path: &Path, old: &str, new: &str) -> Result<PathBuf, ReplaceError> {
        replace(path, Fingerprint::of(old.as_bytes()), new.as_bytes(), "T", LIMIT)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_new_takes_the_place_of_the_old_which_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // What a process that died has left is in nobody's way.
        fs::write(folder.path().join(".e.yaml.new"), "half").unwrap();
        let kept = replaced(&path, "one", "two").unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), mode(&path)),
            ("two".to_owned(), 0o640)
        );
        assert_eq!(
            (fs::read_to_string(&kept).unwrap(), mode(&kept)),
            ("one".to_owned(), 0o600)
        );
        replaced(&path, "two", "three").unwrap();
        assert_eq!(names(folder.path()), ["e.yaml", "e.yaml.T", "e.yaml.T-2"]);
        assert_eq!(fs::read_to_string(folder.path().join("e.yaml.T-2")).unwrap(), "two");
    }

    #[test]
    fn what_is_kept_is_no_wider_than_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let kept = replaced(&path, "one", "two").unwrap();
        assert_eq!((mode(&path), mode(&kept)), (0o400, 0o400));
    }

    #[test]
    fn what_somebody_else_wrote_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        fs::write(&path, "other").unwrap();
        assert!(matches!(
            replaced(&path, "one", "two"),
            Err(ReplaceError::Changed { .. })
        ));
        let lock = Target::find(&path).unwrap().lock().unwrap();
        assert!(matches!(
            replaced(&path, "other", "two"),
            Err(ReplaceError::Busy { .. })
        ));
        drop(lock);
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(names(folder.path()), ["e.yaml"]);
        check_replaceable(&path).unwrap();
    }

    #[test]
    fn links_stay_and_kubernetes_volumes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("volume/..one")).unwrap();
        fs::write(root.join("volume/..one/e.yaml"), "one").unwrap();
        symlink("..one", root.join("volume/..data")).unwrap();
        symlink("..data/e.yaml", root.join("volume/e.yaml")).unwrap();
        let error = replaced(&root.join("volume/e.yaml"), "one", "two").unwrap_err();
        assert!(error.to_string().contains("change the Secret or ConfigMap"), "{error}");

        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/e.yaml"), "one").unwrap();
        symlink("real/e.yaml", root.join("link.yaml")).unwrap();
        let kept = replaced(&root.join("link.yaml"), "one", "two").unwrap();
        assert!(fs::symlink_metadata(root.join("link.yaml")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(root.join("real/e.yaml")).unwrap(), "two");
        assert_eq!(kept, root.join("real/e.yaml.T"));
    }
}
