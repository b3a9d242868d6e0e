//! What etcd notes of its store beside the keys: bucket `meta`.

use serde::Serialize;

use super::revision::Revision;
use crate::bbolt::{Database, Error, Source};

/// Where the store stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// The store's revision.
    pub revision: i64,
    /// Everything older than what stood at this revision has been compacted away; 0 if nothing has.
    pub compacted: i64,
    /// A compaction to this revision has begun and not ended: etcd ends it when it starts on the restored store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compacting: Option<i64>,
    /// The last entry of etcd's log that the store has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_index: Option<u64>,
    /// And the term that it is of, since 3.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The version of the store's format, since 3.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// Bytes of the database, free pages included.
    pub bytes: u64,
}

impl Store {
    /// Reads what is noted; all but the revision, which only the keys tell.
    pub(super) fn read<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<Self, Error> {
        let mut store = Self {
            bytes: database.pages() * database.page_size(),
            ..Self::default()
        };
        let Some(bucket) = database.bucket(b"meta")? else {
            return Ok(store);
        };
        let number = |value: &[u8]| value.try_into().ok().map(u64::from_be_bytes);
        let revision = |value: &[u8]| Revision::parse(value).map(|revision| revision.main);
        let mut scheduled = None;
        let mut entries = database.backwards(&bucket);
        while let Some(entry) = entries.next()? {
            match entry.key {
                b"consistent_index" => store.consistent_index = number(entry.value),
                b"term" => store.term = number(entry.value),
                b"finishedCompactRev" => store.compacted = revision(entry.value).unwrap_or(0),
                b"scheduledCompactRev" => scheduled = revision(entry.value),
                b"storageVersion" => store.storage_version = Some(entry.value.escape_ascii().to_string()),
                _ => {}
            }
        }
        store.compacting = scheduled.filter(|&scheduled| scheduled > store.compacted);
        Ok(store)
    }
}
