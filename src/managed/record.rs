//! What all records have in common: JSON of a known schema, read strictly and within bounds, with the field named that is
//! refused.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Error;
use super::archive_record::ArchiveRecord;
use super::text::shown;
use crate::types::{Fingerprint, StatePrefix};

/// The version of all records of this room.
pub(super) const SCHEMA: u32 = 1;

/// The longest record. etcd takes requests of 1.5 MiB unless told otherwise, and the rest of the request has to fit as well.
pub(super) const MAX_RECORD_BYTES: usize = 1_500_000;

/// Characters of a host's name that are kept: those of the longest DNS name.
const MAX_HOST: usize = 253;

const KEYRING: &str = "keyring";
pub(super) const ARCHIVE: &str = "archive/";

/// Which record: its key below the state prefix, which is also what messages call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn keyring() -> Self {
        Self(KEYRING.to_owned())
    }

    pub(super) fn archived(fingerprint: Fingerprint) -> Self {
        Self(format!("{ARCHIVE}{fingerprint}"))
    }

    /// What lies under `key`.
    pub(super) fn of(state: &StatePrefix, key: &[u8]) -> Self {
        let rest = key.strip_prefix(state.as_bytes()).unwrap_or(key);
        Self::read(&String::from_utf8_lossy(rest))
    }

    /// As it stands in a backup.
    pub(super) fn read(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Whose document a record of the archive holds; `None` for any other name.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::parse(self.0.strip_prefix(ARCHIVE)?)
    }

    /// Its key in etcd.
    pub(super) fn key(&self, state: &StatePrefix) -> Vec<u8> {
        [state.as_bytes(), self.0.as_bytes()].concat()
    }

    /// Reads a record of this name.
    pub(super) fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        if bytes.len() > MAX_RECORD_BYTES {
            let why = format!("it has {} bytes, more than the {MAX_RECORD_BYTES} allowed", bytes.len());
            return Err(self.refused("the record", &why));
        }
        let Version { schema } = self.fields(bytes)?;
        if schema != SCHEMA {
            let why = format!("it is {schema}, and this version knows {SCHEMA}");
            return Err(self.refused("schema", &why));
        }
        self.fields(bytes)
    }

    fn fields<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        let mut text = serde_json::Deserializer::from_slice(bytes);
        let fields = serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let path = match error.path().to_string() {
                path if path == "." => "the record".to_owned(),
                path => path,
            };
            self.refused(&path, &error.inner().to_string())
        })?;
        match text.end() {
            Ok(()) => Ok(fields),
            Err(error) => Err(self.refused("the record", &error.to_string())),
        }
    }

    /// That `field` of it is refused.
    pub(super) fn refused(&self, field: &str, why: &str) -> Error {
        Error::Record {
            name: shown(&self.0),
            field: shown(field),
            why: shown(why),
        }
    }

    /// Reads a record of the archive.
    pub(super) fn parse_archived(&self, bytes: &[u8]) -> Result<ArchiveRecord, Error> {
        ArchiveRecord::parse(self, bytes)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> String {
        shown(&self.0)
    }
}

/// A record's bytes, if etcd will take them.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, Error> {
    // No map with keys that are not text, and nothing else that JSON cannot say.
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Error::TooLarge {
            bytes: bytes.len(),
            limit: MAX_RECORD_BYTES,
        });
    }
    Ok(bytes)
}

/// A host's name as a record keeps it.
pub(super) fn host(name: &str) -> String {
    name.chars().filter(|char| !char.is_control()).take(MAX_HOST).collect()
}

/// Whether a host's name is one that would have been written; else the field and what is wrong.
pub(super) fn check_host(name: &str) -> Result<(), (&'static str, String)> {
    if host(name) == name {
        return Ok(());
    }
    Err(("by", format!("it is no host's name of at most {MAX_HOST} characters")))
}

/// A fingerprint in a record.
pub(super) mod fingerprint {
    use super::{Deserialize, Deserializer, Fingerprint, Serializer};

    pub(in crate::managed) fn serialize<S: Serializer>(fingerprint: &Fingerprint, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(fingerprint)
    }

    pub(in crate::managed) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Fingerprint, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || serde::de::Error::custom("not `sha256:` and 64 hexadecimal digits");
        Fingerprint::parse(&text).ok_or_else(wrong)
    }
}
