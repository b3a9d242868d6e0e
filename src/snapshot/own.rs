//! Records of the proxy's own in a snapshot: what a restored etcd would have under the state prefix. Opens none, and knows none
//! of them.

use std::collections::HashSet;

use super::Error;
use super::file::SnapshotFile;
use super::inspect::change;
use crate::bbolt::Database;

/// So much of them is read, so that memory is bounded: what a whole archive may have.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// A record as it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRecord {
    /// Its key in etcd.
    pub key: Vec<u8>,
    /// All of it.
    pub value: Vec<u8>,
}

/// The records of `snapshot` whose keys are wanted, as they were last written; not those that were deleted. Reads all of the
/// file once. Blocks.
///
/// # Errors
/// The file cannot be read, is damaged, or has more of them than anybody needs.
pub fn own_records(snapshot: &SnapshotFile, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<OwnRecord>, Error> {
    let failed = |source| Error::Database {
        path: snapshot.path.clone(),
        source,
    };
    let database = Database::open(&snapshot.file, snapshot.length).map_err(failed)?;
    let Some(bucket) = database.bucket(b"key").map_err(failed)? else {
        // Whoever inspects it will say so.
        return Ok(Vec::new());
    };
    let mut entries = database.backwards(&bucket);
    let (mut seen, mut records, mut bytes) = (HashSet::new(), Vec::new(), 0_usize);
    while let Some(entry) = entries.next().map_err(failed)? {
        let (revision, record) = change(snapshot, &entry)?;
        // What is met of a key first is what counts.
        if !is_wanted(record.key) || !seen.insert(record.key.to_vec()) {
            continue;
        }
        bytes = bytes
            .saturating_add(record.key.len())
            .saturating_add(record.value.len());
        if bytes > MAX_BYTES {
            return Err(Error::TooMuchState {
                path: snapshot.path.clone(),
                limit: MAX_BYTES,
            });
        }
        if !revision.is_tombstone {
            records.push(OwnRecord {
                key: record.key.to_vec(),
                value: record.value.to_vec(),
            });
        }
    }
    Ok(records)
}
