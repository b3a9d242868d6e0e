//! The documents of the archive as a process keeps them at hand, to read with their keys: opened once each, and looked at again
//! when there are more or fewer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Error;
use super::record::Name;
use super::strongbox::{OPTIONS, Strongbox};
use crate::config::{self, EncryptionConfiguration};
use crate::etcd::{KeyValue, Store};
use crate::types::{Fingerprint, with_causes};

/// What the archive has, latest generation first.
pub type PastConfigs = Arc<[EncryptionConfiguration]>;

/// Keeps the archive's documents.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// How many records there were; `None` where they are to be looked at in any case.
    size: Option<u64>,
    opened: BTreeMap<Fingerprint, Opened>,
    all: PastConfigs,
}

#[derive(Clone, Debug)]
struct Opened {
    generation: u64,
    config: EncryptionConfiguration,
}

impl Past {
    /// What the last look found.
    pub fn configs(&self) -> PastConfigs {
        Arc::clone(&self.all)
    }

    /// Has the next look read the archive, however many records it has: other roots may open more of it.
    pub fn look_closely(&mut self) {
        self.size = None;
    }

    /// Looks at the archive. Cheap where nothing has changed: a count.
    ///
    /// A record that does not open is left out, which is said in the log: what needs its keys does not open then.
    ///
    /// # Errors
    /// The archive is not to be had; what was found before stays.
    pub async fn look<S: Store>(&mut self, strongbox: &Strongbox<S>) -> Result<(), Error> {
        let size = strongbox.archive_size().await?;
        if self.size == Some(size) {
            return Ok(());
        }
        let entries = strongbox.entries(0).await.inspect_err(|error| {
            if !error.is_passing() {
                // It is too large to be read, and is not read again and again for that.
                self.size = Some(size);
            }
        })?;
        let mut opened = BTreeMap::new();
        for (name, kv) in entries {
            let known = name
                .fingerprint()
                .and_then(|fingerprint| self.opened.get_key_value(&fingerprint));
            // A document never changes under its fingerprint.
            let found = match known {
                Some((fingerprint, known)) => Ok((*fingerprint, known.clone())),
                None => strongbox.past(&name, &kv).await,
            };
            match found {
                Ok((fingerprint, found)) => drop(opened.insert(fingerprint, found)),
                Err(error) if error.is_passing() => {
                    // A plugin is asked once for each record, and not again from the first one.
                    self.opened.extend(opened);
                    return Err(error);
                }
                Err(error) => tracing::warn!(
                    record = name.shown(),
                    error = with_causes(&error),
                    "a record of the archive does not open: values that need its keys do not either"
                ),
            }
        }
        self.size = Some(size);
        self.opened = opened;
        let mut all: Vec<_> = self.opened.values().collect();
        all.sort_by_key(|opened| (std::cmp::Reverse(opened.generation), opened.config.fingerprint));
        self.all = all.into_iter().map(|opened| opened.config.clone()).collect();
        Ok(())
    }
}

impl<S: Store> Strongbox<S> {
    async fn past(&self, name: &Name, kv: &KeyValue) -> Result<(Fingerprint, Opened), Error> {
        let record = name.parse_archived(&kv.value)?;
        let document = self.open_archived(name, &record).await?;
        let config = config::parse(document.expose(), OPTIONS).map_err(Error::Invalid)?;
        let opened = Opened {
            generation: record.about.generation,
            config,
        };
        Ok((record.about.fingerprint, opened))
    }
}
