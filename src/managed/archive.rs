//! The archive: documents that are in use no more, kept for snapshots from their time. Listed, and purged where that is asked
//! for by name; nothing is ever dropped from it otherwise.

use super::error::Error;
use super::record::{ARCHIVE, Name};
use super::root_id::RootId;
use super::strongbox::Strongbox;
use super::time::Time;
use crate::etcd::{Guard, KeyValue, PageAsk, Store};
use crate::types::{Fingerprint, SecretBytes, prefix_end};

/// Records of a page.
const PAGE: i64 = 100;
/// Bytes of a page after which the rest is asked for anew.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// So much of an archive is read, so that memory is bounded: more than daily rotations make in ten years.
const MAX_ENTRIES: usize = 20_000;
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// A record of the archive.
#[derive(Debug)]
pub struct Archived {
    /// Its key below the state prefix, fit to be shown.
    pub name: String,
    /// The SHA-256 of its document; `None` if it lies under no such name, and is none of ours.
    pub fingerprint: Option<Fingerprint>,
    /// What it says of itself, which is certain only where the document opens.
    pub about: Option<ArchivedAbout>,
    /// The EncryptionConfiguration, or why it does not open.
    pub document: Result<SecretBytes, Error>,
}

/// What a record of the archive says of its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedAbout {
    /// Of which generation of the keyring it was.
    pub generation: u64,
    /// When it was replaced.
    pub retired: Time,
    /// On which host.
    pub by: String,
    /// What it is sealed under.
    pub root: RootId,
}

impl<S: Store> Strongbox<S> {
    /// All that the archive holds, in the order of fingerprints.
    ///
    /// The document that is in use may be among them: whoever was about to replace it has died, or will do it yet.
    ///
    /// # Errors
    /// It cannot be read. That one record does not open is no such error.
    pub async fn archived(&self) -> Result<Vec<Archived>, Error> {
        let mut all = Vec::new();
        for (name, kv) in self.entries(0).await? {
            all.push(self.archived_one(&name, &kv).await);
        }
        Ok(all)
    }

    /// How many records the archive has. Reads none.
    ///
    /// # Errors
    /// etcd gave no usable answer.
    pub async fn archive_size(&self) -> Result<u64, Error> {
        let folder = [self.state.as_bytes(), ARCHIVE.as_bytes()].concat();
        Ok(self.store.count(&folder, prefix_end(&folder).as_deref()).await?.1)
    }

    async fn archived_one(&self, name: &Name, kv: &KeyValue) -> Archived {
        let mut archived = Archived {
            name: name.shown(),
            fingerprint: name.fingerprint(),
            about: None,
            document: Err(name.refused("its name", "it is no fingerprint")),
        };
        if archived.fingerprint.is_none() {
            return archived;
        }
        match name.parse_archived(&kv.value) {
            Ok(record) => {
                archived.about = Some(ArchivedAbout {
                    generation: record.about.generation,
                    retired: record.about.retired,
                    by: record.about.by.clone(),
                    root: record.sealed.root(),
                });
                archived.document = self.open_archived(name, &record).await;
            }
            Err(error) => archived.document = Err(error),
        }
        archived
    }

    /// Removes documents from the archive for good: what only their keys open, nobody can read again. Those that were there.
    ///
    /// # Errors
    /// etcd gave no usable answer: some may be gone. Made again, the call goes on.
    pub async fn purge(&self, fingerprints: &[Fingerprint]) -> Result<Vec<Fingerprint>, Error> {
        let mut purged = Vec::new();
        for fingerprint in fingerprints {
            let key = Name::archived(*fingerprint).key(&self.state);
            let (_, found) = self.store.get(&key).await?;
            let Some(kv) = found else { continue };
            let guard = Guard::mod_revision(&key, kv.mod_revision);
            match self.store.delete_if(&[guard], &key).await? {
                Some(_) => purged.push(*fingerprint),
                // Sealed anew at this moment, or purged by somebody else.
                None => return Err(Error::Changed),
            }
        }
        Ok(purged)
    }

    /// The records of the archive as they lie, at a revision; 0 for now.
    pub(super) async fn entries(&self, revision: i64) -> Result<Vec<(Name, KeyValue)>, Error> {
        let folder = [self.state.as_bytes(), ARCHIVE.as_bytes()].concat();
        let end = prefix_end(&folder);
        let (mut start, mut limit) = (folder, PAGE);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        loop {
            let ask = PageAsk {
                start: &start,
                end: end.as_deref(),
                revision,
                limit,
                enough: MAX_PAGE_BYTES,
            };
            let page = self.store.page(ask).await?;
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in page.kvs {
                bytes += kv.value.len();
                entries.push((Name::of(&self.state, &kv.key), kv));
            }
            if entries.len() > MAX_ENTRIES || bytes > MAX_BYTES {
                return Err(Error::ArchiveTooLarge {
                    entries: entries.len(),
                    bytes,
                });
            }
            match last {
                _ if !page.more => return Ok(entries),
                Some(last) => {
                    start = [&last[..], &[0]].concat();
                    limit = PAGE;
                }
                // A record that is larger than a page may be. By itself it is always whole.
                None if limit > 1 => limit = 1,
                None => return Ok(entries),
            }
        }
    }
}
