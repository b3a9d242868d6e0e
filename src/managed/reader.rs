//! One process's view of the keyring over time: it only goes forward.

use super::error::Error;
use super::keyring_record::Current;
use super::record::Name;
use super::strongbox::Strongbox;
use crate::etcd::{Store, epoch};
use crate::types::{Epoch, Fingerprint};

/// Remembers the highest generation that was seen, and takes nothing older.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    seen: Option<Seen>,
    epoch: Option<Epoch>,
}

#[derive(Clone, Debug)]
struct Seen {
    generation: u64,
    document: Fingerprint,
    /// Of the record's bytes, if this looked at them: those of a record that is the same need not be opened again.
    record: Option<Fingerprint>,
}

/// What a look at the keyring finds.
#[derive(Debug)]
pub enum Reading {
    /// There is none, and never was as far as this process knows.
    Absent,
    /// It is the record that was seen last.
    Same,
    /// It is another record: of a new document, or of the same one sealed anew.
    New(Box<Current>),
}

impl Reader {
    /// Takes nothing older than `current`.
    pub fn since(current: &Current) -> Self {
        Self {
            seen: Some(Seen {
                generation: current.generation,
                document: current.fingerprint,
                record: None,
            }),
            epoch: None,
        }
    }

    /// The epoch in which the keyring is what the last look that got an answer of etcd found: both were read at one revision.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Looks at the keyring. Cheap where nothing has changed: one read of etcd, nothing opened.
    ///
    /// # Errors
    /// It is not to be had, does not open, or is not a later one than was seen; that is remembered as it was then.
    pub async fn look<S: Store>(&mut self, strongbox: &Strongbox<S>) -> Result<Reading, Error> {
        let key = Name::keyring().key(&strongbox.state);
        let (epoch, found) = epoch::read_with(&strongbox.store, &strongbox.state, &key).await?;
        self.epoch = Some(epoch);
        let Some(kv) = found else {
            return match &self.seen {
                Some(seen) => Err(Error::Gone { seen: seen.generation }),
                None => Ok(Reading::Absent),
            };
        };
        let record = Some(Fingerprint::of(&kv.value));
        if self.seen.as_ref().is_some_and(|seen| seen.record == record) {
            return Ok(Reading::Same);
        }
        let current = strongbox.opened(&kv).await?;
        if let Some(seen) = &self.seen {
            let (generation, found) = (current.generation, current.fingerprint);
            if generation < seen.generation {
                return Err(Error::WentBack {
                    seen: seen.generation,
                    found: generation,
                });
            }
            if generation == seen.generation && found != seen.document {
                return Err(Error::Forked {
                    generation,
                    seen: seen.document,
                    found,
                });
            }
        }
        self.seen = Some(Seen {
            generation: current.generation,
            document: current.fingerprint,
            record,
        });
        Ok(Reading::New(Box::new(current)))
    }

    /// The highest generation that was seen.
    pub fn generation(&self) -> Option<u64> {
        self.seen.as_ref().map(|seen| seen.generation)
    }
}
