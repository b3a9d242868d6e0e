//! A backup of the keyring and its archive: the records as they lie, sealed, so that it may be kept where the root is not.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::keyring_record::KeyringRecord;
use super::record::{Name, host};
use super::strongbox::Strongbox;
use super::text::{Binary, shown};
use super::time::Time;
use crate::etcd::Store;

const SCHEMA: u32 = 1;
const KIND: &str = "etcd-encryption-proxy keyring backup";

/// The longest backup that is read: twice an archive.
pub const MAX_BACKUP_BYTES: usize = 512 * 1024 * 1024;

/// A backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Backup {
    schema: u32,
    kind: String,
    /// When it was made, and on which host. For people.
    made: Time,
    by: String,
    /// Where the records lay, escaped: they open nowhere else.
    state_prefix: String,
    /// At which revision of etcd they were read.
    revision: i64,
    /// Of which generation the keyring is.
    pub(super) generation: u64,
    pub(super) records: Vec<Kept>,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Its key below the state prefix.
    pub(super) name: String,
    /// All of it.
    pub(super) value: Binary,
}

impl<S: Store> Strongbox<S> {
    /// All records as they lie, at one revision, in one JSON document. Opens nothing; needs the root again to be restored.
    ///
    /// # Errors
    /// There is no keyring, or it is not to be had.
    pub async fn backup(&self) -> Result<Vec<u8>, Error> {
        let (revision, found) = self.store.get(&self.keyring_key()).await?;
        let keyring = found.ok_or(Error::Absent)?;
        let record = KeyringRecord::parse(&keyring.value)?;
        let mut records = vec![Kept {
            name: Name::keyring().as_str().to_owned(),
            value: Binary(keyring.value.to_vec()),
        }];
        for (name, kv) in self.entries(revision).await? {
            records.push(Kept {
                name: name.as_str().to_owned(),
                value: Binary(kv.value.to_vec()),
            });
        }
        let backup = Backup {
            schema: SCHEMA,
            kind: KIND.to_owned(),
            made: Time::now(),
            by: host(&self.host),
            state_prefix: self.prefix(),
            revision,
            generation: record.about.generation,
            records,
        };
        let mut text = serde_json::to_vec_pretty(&backup).unwrap_or_default();
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a backup of records of this state prefix.
    pub(super) fn parse_backup(&self, text: &[u8]) -> Result<Backup, Error> {
        let refused = |why: &str| Error::Backup { why: shown(why) };
        if text.len() > MAX_BACKUP_BYTES {
            return Err(refused("it is longer than any backup"));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let backup: Backup = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| refused(&format!("{}: {}", error.path(), error.inner())))?;
        json.end().map_err(|error| refused(&error.to_string()))?;
        if backup.kind != KIND {
            return Err(refused("it is something else, by its field `kind`"));
        }
        if backup.schema != SCHEMA {
            let why = format!("its schema is {}, and this version knows {SCHEMA}", backup.schema);
            return Err(refused(&why));
        }
        if backup.state_prefix != self.prefix() {
            let (theirs, ours) = (&backup.state_prefix, self.prefix());
            let why = format!("it is of --state-prefix={theirs}, where alone it opens, and this one is {ours}");
            return Err(refused(&why));
        }
        let mut names: Vec<_> = backup.records.iter().map(|kept| &kept.name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(refused("it has one record twice"));
        }
        Ok(backup)
    }

    fn prefix(&self) -> String {
        self.state.as_bytes().escape_ascii().to_string()
    }
}
