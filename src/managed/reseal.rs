//! Another root: everything that lies sealed is sealed anew under it. Can be interrupted anywhere, and goes on when it is asked
//! for again, as long as both roots are given.

use super::archive_record::ArchiveRecord;
use super::error::Error;
use super::keyring_record::{About, Current};
use super::root_id::RootId;
use super::roots::Means;
use super::strongbox::{Strongbox, following};
use super::time::Time;
use crate::etcd::{Guard, Store};

/// What was done.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The keyring, which is under the new root.
    pub current: Current,
    /// Records that this call has sealed anew, the keyring's included.
    pub records: usize,
}

impl<S: Store> Strongbox<S> {
    /// Seals the archive and then the keyring anew under the root `to`, which is one of those that are at hand. The keyring's
    /// generation goes up, so that every reader notices. Then nothing needs the root that it was under before.
    ///
    /// # Errors
    /// There is no keyring, or `to` is not at hand; a record of the archive does not open, and then nothing is written; or
    /// somebody else wrote meanwhile. What was sealed anew stays so.
    pub async fn reseal(&self, to: RootId) -> Result<Resealed, Error> {
        let current = self.read().await?.ok_or(Error::Absent)?;
        let means = self.named(to, &current).await?;
        let mut records = self.reseal_archive(to, &means).await?;
        let current = if current.root == to {
            current
        } else {
            let about = About {
                generation: following(current.generation)?,
                fingerprint: current.fingerprint,
                created: current.created,
                updated: Time::now(),
                by: self.host.clone(),
                keys: current.keys.clone(),
                stretch: current.stretch.clone(),
            };
            let sealed = self.sealed(about, &means, current.document.expose()).await?;
            let current = self.swap(current.revision, sealed).await?;
            records += 1;
            // Who read the keyring before that may have archived it since, as it was.
            records += self.reseal_archive(to, &means).await?;
            current
        };
        Ok(Resealed { current, records })
    }

    async fn reseal_archive(&self, to: RootId, means: &Means<'_>) -> Result<usize, Error> {
        let mut opened = Vec::new();
        for (name, kv) in self.entries(0).await? {
            let record = name.parse_archived(&kv.value)?;
            if record.sealed.root() != to {
                let document = self.open_archived(&name, &record).await?;
                opened.push((name, kv.mod_revision, record.about, document));
            }
        }
        let count = opened.len();
        for (name, revision, about, document) in opened {
            let key = name.key(&self.state);
            let record = ArchiveRecord::seal(about, &key, means, document.expose()).await?;
            self.open_archived(&name, &record).await?;
            let guard = Guard::mod_revision(&key, revision);
            let written = self.store.put_if(&[guard], &key, &record.encode()?, 0).await?;
            written.ok_or(Error::Changed)?;
        }
        Ok(count)
    }

    /// The root of that ID, from the file or the plugin.
    async fn named(&self, to: RootId, current: &Current) -> Result<Means<'_>, Error> {
        if let Some(root) = self.roots.key(to, &current.stretch).await? {
            return Ok(Means::Key(root));
        }
        let known = self.roots.known(&current.stretch).await?;
        match self.roots.kms() {
            Some(kms) if known.iter().any(|root| root.id == to) => Ok(Means::Kms(kms)),
            _ => Err(Error::UnknownRoot { wanted: to, known }),
        }
    }
}
