//! A backup put back. Everything in it is opened before anything is written, so that no store is left with records that the
//! roots given do not open; and the keyring comes last, so that a crash leaves the one that was.

use std::cmp::Reverse;

use super::backup::Kept;
use super::error::{Error, StandingKeyring};
use super::keyring_record::{About, Current};
use super::record::Name;
use super::strongbox::{OPTIONS, Ready, Strongbox, following};
use super::time::Time;
use crate::config::{self, EncryptionConfiguration};
use crate::etcd::{Guard, KeyValue, Store};
use crate::types::{Fingerprint, SecretBytes};

/// What came of it.
#[derive(Debug)]
pub struct Restored {
    /// The keyring that is there now.
    pub current: Current,
    /// Records of the archive that were written.
    pub archived: usize,
    /// Records of the backup that do not open and were left out, each with its reason. Only if forced.
    pub left_out: Vec<Error>,
}

/// The backup's records, of which each opens.
struct Opened {
    keyring: Current,
    /// As it was backed up.
    bytes: Ready,
    archive: Vec<(Name, Vec<u8>)>,
    /// Of the archive, with the generation of each.
    documents: Vec<(u64, SecretBytes)>,
    left_out: Vec<Error>,
}

/// What a backup would have values read with.
#[derive(Debug)]
pub struct Restorable {
    /// The keyring's configuration.
    pub config: EncryptionConfiguration,
    /// Those of its archive, latest first.
    pub past: Vec<EncryptionConfiguration>,
}

impl<S: Store> Strongbox<S> {
    /// Puts a backup's records back: those of the archive beside what is there, and the keyring.
    ///
    /// Where a keyring stands already, it is replaced only by a later one of the same cluster, unless `force`. In any case it
    /// is in the archive before it is replaced; one that does not open is put there as it lies. What a forced restore puts in
    /// the place of a later keyring gets a generation of its own above it, so that members that run take it.
    ///
    /// # Errors
    /// A record of the backup does not open; what stands may not be replaced; or etcd gave no usable answer. Until the last
    /// write the keyring stays what it was, and the call can be made again.
    pub async fn restore(&self, backup: &[u8], force: bool) -> Result<Restored, Error> {
        let opened = self.open_backup(backup, force).await?;
        let (_, found) = self.store.get(&self.keyring_key()).await?;
        let standing = match &found {
            None => None,
            Some(kv) => match self.opened(kv).await {
                Ok(current) => Some(Ok(current)),
                Err(error) if force && error.is_of_record() => Some(Err(kv)),
                Err(error) => return Err(error),
            },
        };
        let Opened { keyring, bytes, .. } = &opened;
        let is_there = |standing: &Current| {
            standing.fingerprint == keyring.fingerprint && standing.generation >= keyring.generation
        };
        let next = match &standing {
            None => bytes.clone(),
            Some(Ok(standing)) if is_there(standing) => {
                let archived = self.restore_archive(&opened.archive).await?;
                return Ok(Restored {
                    current: standing.clone(),
                    archived,
                    left_out: opened.left_out,
                });
            }
            Some(Ok(standing)) if standing.is_followed_by(keyring) => bytes.clone(),
            Some(Ok(standing)) if !force => {
                return Err(Error::Standing(Box::new(StandingKeyring {
                    standing: (standing.generation, standing.created),
                    backup: (keyring.generation, keyring.created),
                })));
            }
            Some(Ok(standing)) => self.anew(keyring, standing.generation).await?,
            Some(Err(_)) => self.anew(keyring, 0).await?,
        };
        let mut archived = self.restore_archive(&opened.archive).await?;
        match standing {
            Some(Ok(standing)) if standing.fingerprint != keyring.fingerprint => {
                let means = self.means(&standing).await?;
                self.retire(&standing, &means).await?;
                archived += 1;
            }
            Some(Err(kv)) => {
                self.put_aside(kv).await?;
                archived += 1;
            }
            _ => {}
        }
        let revision = found.as_ref().map_or(0, |kv| kv.mod_revision);
        Ok(Restored {
            current: self.swap(revision, next).await?,
            archived,
            left_out: opened.left_out,
        })
    }

    /// What the backup holds, opened as [`Self::restore`] opens it. Writes nothing.
    ///
    /// # Errors
    /// A record of it does not open, or is no configuration.
    pub async fn restorable(&self, backup: &[u8], force: bool) -> Result<Restorable, Error> {
        let mut opened = self.open_backup(backup, force).await?;
        let parse = |document: &SecretBytes| config::parse(document.expose(), OPTIONS).map_err(Error::Invalid);
        opened.documents.sort_by_key(|(generation, _)| Reverse(*generation));
        let past = opened.documents.iter().map(|(_, document)| parse(document));
        Ok(Restorable {
            config: parse(&opened.keyring.document)?,
            past: past.collect::<Result<_, _>>()?,
        })
    }

    async fn open_backup(&self, backup: &[u8], force: bool) -> Result<Opened, Error> {
        let backup = self.parse_backup(backup)?;
        let (mut keyring, mut archive, mut left_out) = (None, Vec::new(), Vec::new());
        let mut documents = Vec::new();
        for Kept { name, value } in &backup.records {
            let name = Name::read(name);
            if name == Name::keyring() {
                let bytes = self.ready(&value.0).await?;
                keyring = Some(bytes);
                continue;
            }
            let opens = match name.parse_archived(&value.0) {
                Ok(record) => {
                    let opened = self.open_archived(&name, &record).await;
                    opened.map(|document| (record.about.generation, document))
                }
                Err(error) => Err(error),
            };
            match opens {
                Ok(document) => {
                    documents.push(document);
                    archive.push((name, value.0.clone()));
                }
                Err(error) if force && error.is_of_record() => left_out.push(error),
                Err(error) => return Err(error),
            }
        }
        let bytes = keyring.ok_or_else(|| Error::Backup {
            why: "it has no keyring".to_owned(),
        })?;
        let keyring = bytes.clone().current(0);
        if keyring.generation != backup.generation {
            let why = "its field `generation` is not that of its keyring".to_owned();
            return Err(Error::Backup { why });
        }
        Ok(Opened {
            keyring,
            bytes,
            archive,
            documents,
            left_out,
        })
    }

    /// Seals the backup's document for a generation above both.
    async fn anew(&self, keyring: &Current, above: u64) -> Result<Ready, Error> {
        let about = About {
            generation: following(keyring.generation.max(above))?,
            fingerprint: keyring.fingerprint,
            created: keyring.created,
            updated: Time::now(),
            by: self.host.clone(),
            keys: keyring.keys.clone(),
            stretch: keyring.stretch.clone(),
        };
        let means = self.means(keyring).await?;
        self.sealed(about, &means, keyring.document.expose()).await
    }

    /// Writes the records that are not there, or do not open where they are.
    async fn restore_archive(&self, records: &[(Name, Vec<u8>)]) -> Result<usize, Error> {
        let mut written = 0;
        for (name, bytes) in records {
            let key = name.key(&self.state);
            let (_, found) = self.store.get(&key).await?;
            let revision = match found {
                None => 0,
                Some(kv) => match self.opened_archive(name, &kv).await {
                    Ok(_) => continue,
                    Err(error) if error.is_of_record() => kv.mod_revision,
                    Err(error) => return Err(error),
                },
            };
            let guard = Guard::mod_revision(&key, revision);
            let done = self.store.put_if(&[guard], &key, bytes, 0).await?;
            done.ok_or(Error::Changed)?;
            written += 1;
        }
        Ok(written)
    }

    /// Keeps a record that does not open: whoever has its root may get at it yet.
    async fn put_aside(&self, kv: &KeyValue) -> Result<(), Error> {
        let key = Name::archived(Fingerprint::of(&kv.value)).key(&self.state);
        let guard = Guard::mod_revision(&key, 0);
        // If something is there, it is this.
        self.store.put_if(&[guard], &key, &kv.value, 0).await?;
        Ok(())
    }
}

impl Current {
    /// Whether `other` is a later one of the same cluster.
    fn is_followed_by(&self, other: &Self) -> bool {
        self.stretch == other.stretch && self.created == other.created && self.generation < other.generation
    }
}
