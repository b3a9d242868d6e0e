//! The configuration in a file that is distributed to the members by whoever distributes files: read, and replaced as a
//! whole. Key bytes pass through in buffers that are wiped.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Error, Former, Kept, OPTIONS, Source, User, rendered};
use crate::config::{self, Draft, EncryptionConfiguration, KeyId, Provider};
use crate::files::{self, Mark, Permissions, ReplaceError};
use crate::members::StoreMark;
use crate::types::{KeyName, KeyPrint, with_causes};

/// The file.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    permissions: Permissions,
    /// Where keys that are gone are looked for, in place of the kept files.
    from: Vec<PathBuf>,
}

impl ConfigFile {
    /// The file at `path`, refused or warned of by `permissions` if others can read it.
    pub fn new(path: PathBuf, permissions: Permissions) -> Self {
        Self {
            path,
            permissions,
            from: Vec::new(),
        }
    }

    /// The same, with files in which keys that are gone are looked for; where there are none, in what is kept beside it.
    #[must_use]
    pub fn with_former(self, from: Vec<PathBuf>) -> Self {
        Self { from, ..self }
    }

    fn load(&self, path: &Path) -> Result<EncryptionConfiguration, Error> {
        let contents = files::read(path, config::MAX_DOCUMENT_BYTES).map_err(|error| match error {
            files::Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::NoFile(path.to_owned())
            }
            error => Error::Read(error),
        })?;
        let admitted = self.permissions.admit(contents.exposure);
        admitted.map_err(|exposure| Error::Exposed(exposure.to_string()))?;
        config::parse(&contents.bytes, OPTIONS).map_err(|problems| Error::Invalid {
            path: path.to_owned(),
            problems,
        })
    }

    /// Takes away kept files that hold no key which the present one, or another that stays, lacks: a rotation takes three
    /// changes, each of which keeps what was there before. A key that is nowhere else is never taken away, whatever its age: an
    /// old snapshot, or a value that turns up late, may need it. Nor is the one that was `just_kept`.
    fn prune(&self, just_kept: &Path) {
        let mut held: HashSet<(KeyId, KeyPrint)> = HashSet::new();
        let mut plugins: HashSet<(KeyName, String)> = HashSet::new();
        let is_needed = |bytes: &[u8]| {
            // What cannot be read by this version is not this version's to take away.
            let Ok(config) = config::parse(bytes, OPTIONS) else {
                return true;
            };
            let mut is_new = false;
            for provider in config.entries.iter().flat_map(|entry| &entry.providers) {
                for key in provider.key_prints() {
                    is_new |= held.insert(key);
                }
                if let Provider::Kms(kms) = provider {
                    is_new |= plugins.insert((kms.name.clone(), kms.endpoint.clone()));
                }
            }
            is_new
        };
        if let Err(error) = files::prune(&self.path, just_kept, config::MAX_DOCUMENT_BYTES, is_needed) {
            tracing::debug!(
                error = with_causes(&error),
                "kept files that nobody needs are not taken away"
            );
        }
    }
}

impl Source for ConfigFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    async fn read(&self) -> Result<EncryptionConfiguration, Error> {
        self.load(&self.path)
    }

    async fn kept(&self) -> Result<Vec<Kept>, Error> {
        let named = |path: &Path, config| Kept {
            name: path.display().to_string(),
            config,
        };
        if !self.from.is_empty() {
            let files = self.from.iter();
            return files.map(|path| Ok(named(path, self.load(path)?))).collect();
        }
        // What cannot be kept beside it, such as a mounted one, has no kept ones.
        let files = files::kept(&self.path).unwrap_or_default();
        let loaded = files.iter().filter_map(|path| match self.load(path) {
            Ok(config) => Some(named(path, config)),
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    error = with_causes(&error),
                    "a kept file is passed over: name those that have keys with --from"
                );
                None
            }
        });
        Ok(loaded.collect())
    }

    async fn users(&self) -> Result<Vec<User>, Error> {
        let failed = |source| Error::Users {
            path: self.path.clone(),
            source,
        };
        let running = files::users(&self.path).map_err(failed)?;
        let marks = files::marks(&self.path).map_err(failed)?;
        let unmarked = running
            .iter()
            .filter(|store| marks.iter().all(|mark| mark.store != **store));
        let mut users: Vec<User> = unmarked
            .map(|store| User {
                store: *store,
                is_running: true,
                mark: None,
            })
            .collect();
        users.extend(marks.iter().map(|Mark { store, path, text }| User {
            store: *store,
            is_running: running.contains(store),
            mark: Some((path.clone(), StoreMark::parse(text))),
        }));
        Ok(users)
    }

    async fn former(&self) -> Result<Former, Error> {
        let mut kept = match files::kept(&self.path) {
            Ok(kept) => kept,
            // Nothing is kept where nothing is replaced.
            Err(ReplaceError::Mounted { .. } | ReplaceError::OwnMount { .. }) => Vec::new(),
            Err(error) => return Err(Error::Replace(error)),
        };
        kept.reverse();
        let read = |path: &PathBuf| files::read(path, config::MAX_DOCUMENT_BYTES).ok();
        let contents: Vec<_> = kept.iter().map(read).collect();
        let documents = contents
            .iter()
            .map(|contents| contents.as_ref().map(|contents| contents.bytes.as_slice()));
        Ok(Former::of(format!("the files kept beside {}", self.name()), documents))
    }

    async fn check(&self) -> Result<(), Error> {
        match files::check_replaceable(&self.path) {
            // Somebody is at it at this moment.
            Ok(()) | Err(ReplaceError::Busy { .. }) => Ok(()),
            Err(error) => Err(Error::Replace(error)),
        }
    }

    async fn replace(
        &self,
        was: &EncryptionConfiguration,
        next: &Draft,
        comment: &str,
    ) -> Result<Option<PathBuf>, Error> {
        // If it is another one by the time that it is replaced, then it is not.
        let old = files::read(&self.path, config::MAX_DOCUMENT_BYTES).map_err(Error::Read)?;
        let (text, _) = rendered(next, &old.bytes, comment)?;
        drop(old);
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let limit = config::MAX_DOCUMENT_BYTES;
        match files::replace(&self.path, was.fingerprint, text.as_bytes(), &time, limit) {
            Ok(kept) => {
                self.prune(&kept);
                Ok(Some(kept))
            }
            Err(ReplaceError::Changed { .. } | ReplaceError::Busy { .. }) => Err(Error::Changed),
            Err(error) => Err(Error::Replace(error)),
        }
    }
}
