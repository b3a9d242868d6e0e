//! The keyring in etcd: read, made once, replaced. Each write is a compare-and-swap; one whose answer got lost is recognised
//! by what lies there, whoever looks.

use std::sync::Arc;

use super::archive_record::{ArchiveRecord, PastDocument};
use super::error::{Error, OpenError, RootError};
use super::keyring_record::{About, Current, KeyringRecord, ages};
use super::record::{self, Name};
use super::roots::{KnownRoot, Means, Roots};
use super::stretch::Stretch;
use super::time::Time;
use crate::config::{self, EncryptionConfiguration, Options};
use crate::etcd::{CallError, Guard, KeyValue, Store, epoch};
use crate::types::{SecretBytes, StatePrefix};

/// Members take it into use while they run, so it is held to the rules for that.
pub(super) const OPTIONS: Options = Options { reload: true };

/// The records under one state prefix, and the roots that open them.
#[derive(Clone, Debug)]
pub struct Strongbox<S> {
    pub(super) store: S,
    pub(super) state: StatePrefix,
    pub(super) roots: Arc<Roots>,
    pub(super) host: String,
}

impl<S: Store> Strongbox<S> {
    /// The records under `state`; `host` is who is said to have written what is written.
    pub fn new(store: S, state: StatePrefix, roots: Arc<Roots>, host: &str) -> Self {
        Self {
            store,
            state,
            roots,
            host: record::host(host),
        }
    }

    /// The roots that open them.
    pub fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots)
    }

    /// The keyring; `None` if there is none.
    ///
    /// # Errors
    /// It is not to be had, or does not open.
    pub async fn read(&self) -> Result<Option<Current>, Error> {
        let (_, found) = self.store.get(&self.keyring_key()).await?;
        match found {
            Some(kv) => self.opened(&kv).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the first keyring of `document`, unless there is one. What stands there then, whoever made it: several
    /// processes may do this at once, and all go on with the same.
    ///
    /// # Errors
    /// There is one that does not open, or none was made.
    pub async fn create(&self, document: &[u8]) -> Result<Current, Error> {
        if let Some(current) = self.read().await? {
            return Ok(current);
        }
        let config = parse(document)?;
        let now = Time::now();
        let stretch = Stretch::fresh().ok_or(RootError::Random)?;
        let means = self.roots.first(&stretch).await?;
        let about = About {
            generation: 1,
            fingerprint: config.fingerprint,
            created: now,
            updated: now,
            by: self.host.clone(),
            keys: ages(&config, &[], now),
            stretch,
        };
        let sealed = self.sealed(about, &means, document).await?;
        match self.put(&sealed, 0).await {
            Ok(Some(revision)) => Ok(sealed.current(revision)),
            Ok(None) => self.read().await?.ok_or(Error::Changed),
            // It may have happened.
            Err(error) => match self.read().await {
                Ok(Some(current)) => Ok(current),
                Ok(None) | Err(Error::Call(_)) => Err(error.into()),
                Err(other) => Err(other),
            },
        }
    }

    /// Puts `document` in the place of the keyring that was read. It is sealed under the root that the keyring is under,
    /// whichever comes first in the root file: only [`Self::reseal`] changes that.
    ///
    /// With `archives`, what it replaces is in the archive before it is replaced. After a crash in between it is there and
    /// in use, which does no harm.
    ///
    /// # Errors
    /// [`Error::Changed`]: somebody else was first. Another one: nothing is replaced, or the answer got lost; the same call
    /// made again tells, and does no harm.
    pub async fn replace(&self, was: &Current, document: &[u8], archives: bool) -> Result<Current, Error> {
        let config = parse(document)?;
        let means = self.means(was).await?;
        let now = Time::now();
        let about = About {
            generation: following(was.generation)?,
            fingerprint: config.fingerprint,
            created: was.created,
            updated: now,
            by: self.host.clone(),
            keys: ages(&config, &was.keys, now),
            stretch: was.stretch.clone(),
        };
        let sealed = self.sealed(about, &means, document).await?;
        if archives {
            self.retire(was, &means).await?;
        }
        self.swap(was.revision, sealed).await
    }

    /// The roots that are at hand in this cluster, by ID: those of the root file in its order, then the plugin.
    ///
    /// # Errors
    /// A passphrase could not be stretched, or the plugin not be asked.
    pub async fn known_roots(&self, current: &Current) -> Result<Vec<KnownRoot>, Error> {
        Ok(self.roots.known(&current.stretch).await?)
    }

    /// Seals a keyring's document, and opens it again before anybody relies on it.
    pub(super) async fn sealed(&self, about: About, means: &Means<'_>, document: &[u8]) -> Result<Ready, Error> {
        let key = self.keyring_key();
        let record = KeyringRecord::seal(about, &key, means, document).await?;
        self.ready(&record.encode()?).await
    }

    /// A record as it was written before, if it opens.
    pub(super) async fn ready(&self, bytes: &[u8]) -> Result<Ready, Error> {
        let (record, document) = self.open(bytes).await?;
        Ok(Ready {
            bytes: bytes.to_vec(),
            record,
            document,
        })
    }

    /// With a new epoch: whatever was sealed by the keyring before, etcd refuses from then on, however late it arrives, and also
    /// where the store is set back to a snapshot of before.
    async fn put(&self, sealed: &Ready, revision: i64) -> Result<Option<i64>, CallError> {
        let key = self.keyring_key();
        let guards = [Guard::mod_revision(&key, revision)];
        epoch::replace_with(&self.store, &self.state, &guards, (&key, &sealed.bytes)).await
    }

    /// Puts a sealed record in the place of the one of `revision`.
    pub(super) async fn swap(&self, revision: i64, sealed: Ready) -> Result<Current, Error> {
        let outcome = match self.put(&sealed, revision).await {
            Ok(Some(revision)) => return Ok(sealed.current(revision)),
            Ok(None) => Error::Changed,
            Err(error) => Error::Call(error),
        };
        // This call, or an earlier one of this kind, may have happened without its answer having come.
        match self.read().await {
            Ok(Some(found)) if sealed.is_like(&found) => Ok(found),
            _ => Err(outcome),
        }
    }

    /// Puts what is in use into the archive, unless it is there.
    pub(super) async fn retire(&self, was: &Current, means: &Means<'_>) -> Result<(), Error> {
        let about = PastDocument {
            generation: was.generation,
            fingerprint: was.fingerprint,
            retired: Time::now(),
            by: self.host.clone(),
            stretch: was.stretch.clone(),
        };
        self.keep(about, means, was.document.expose()).await
    }

    /// Puts a document into the archive, unless it is there and opens.
    pub(super) async fn keep(&self, about: PastDocument, means: &Means<'_>, document: &[u8]) -> Result<(), Error> {
        let name = Name::archived(about.fingerprint);
        let key = name.key(&self.state);
        let (_, found) = self.store.get(&key).await?;
        let revision = match found {
            None => 0,
            Some(kv) => match self.opened_archive(&name, &kv).await {
                Ok(_) => return Ok(()),
                // Whatever it is, nobody here gets from it what its name says.
                Err(error) if error.is_of_record() => kv.mod_revision,
                Err(error) => return Err(error),
            },
        };
        let bytes = ArchiveRecord::seal(about, &key, means, document).await?.encode()?;
        let guard = Guard::mod_revision(&key, revision);
        match self.store.put_if(&[guard], &key, &bytes, 0).await? {
            Some(_) => Ok(()),
            // Somebody else is at the same.
            None => Err(Error::Changed),
        }
    }

    /// What the keyring is sealed with, to seal its successor with.
    pub(super) async fn means(&self, current: &Current) -> Result<Means<'_>, Error> {
        let none = |source| Error::Open {
            name: Name::keyring().as_str().to_owned(),
            source,
        };
        if current.is_kms {
            let kms = self.roots.kms().map(Means::Kms);
            return kms.ok_or_else(|| none(OpenError::NoKms(current.root)));
        }
        match self.roots.key(current.root, &current.stretch).await? {
            Some(root) => Ok(Means::Key(root)),
            None => Err(none(OpenError::NoRoot {
                wants: current.root,
                has: self.roots.of_file(&current.stretch).await?,
            })),
        }
    }

    /// Opens the keyring's record.
    pub(super) async fn opened(&self, kv: &KeyValue) -> Result<Current, Error> {
        let (record, document) = self.open(&kv.value).await?;
        Ok(record.current(document, kv.mod_revision))
    }

    async fn open(&self, bytes: &[u8]) -> Result<(KeyringRecord, SecretBytes), Error> {
        let record = KeyringRecord::parse(bytes)?;
        let opened = record.open(&self.keyring_key(), &self.roots).await;
        let document = opened.map_err(|source| Error::Open {
            name: Name::keyring().as_str().to_owned(),
            source,
        })?;
        Ok((record, document))
    }

    /// Opens what lies in the archive under `name`.
    pub(super) async fn opened_archive(&self, name: &Name, kv: &KeyValue) -> Result<SecretBytes, Error> {
        let record = name.parse_archived(&kv.value)?;
        self.open_archived(name, &record).await
    }

    /// Opens a record of the archive.
    pub(super) async fn open_archived(&self, name: &Name, record: &ArchiveRecord) -> Result<SecretBytes, Error> {
        let opened = record.open(&name.key(&self.state), &self.roots).await;
        opened.map_err(|source| Error::Open {
            name: name.shown(),
            source,
        })
    }

    pub(super) fn keyring_key(&self) -> Vec<u8> {
        Name::keyring().key(&self.state)
    }
}

/// A record that may be written: it opens.
#[derive(Clone)]
pub(super) struct Ready {
    bytes: Vec<u8>,
    record: KeyringRecord,
    document: SecretBytes,
}

impl Ready {
    pub(super) fn current(self, revision: i64) -> Current {
        self.record.current(self.document, revision)
    }

    /// Whether what is there came of this, or of another try of the same.
    fn is_like(&self, found: &Current) -> bool {
        self.record.about.generation == found.generation
            && self.record.about.fingerprint == found.fingerprint
            && self.record.sealed.root() == found.root
    }
}

/// The generation that follows.
pub(super) fn following(generation: u64) -> Result<u64, Error> {
    let next = generation.checked_add(1);
    next.ok_or_else(|| Name::keyring().refused("about.generation", "no other can follow it"))
}

fn parse(document: &[u8]) -> Result<EncryptionConfiguration, Error> {
    config::parse(document, OPTIONS).map_err(Error::Invalid)
}
