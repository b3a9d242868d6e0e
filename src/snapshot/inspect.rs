//! The walk itself: newest revision first, values in batches, one question to each KMS for all that a batch lacks.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::Error;
use super::file::SnapshotFile;
use super::judge::{Judgement, Pending, Silence, judge};
use super::record::Record;
use super::report::{Counts, Report};
use super::revision::Revision;
use super::scope::Scope;
use super::store::Store;
use super::tally::Tally;
use crate::bbolt::{self, Database, Source};
use crate::value::Deks;

/// Values of a batch at most, and bytes after which it is full.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// A value that is to be judged.
struct Stored {
    key: Vec<u8>,
    value: Vec<u8>,
    is_history: bool,
}

/// Reads all of `snapshot` and says what is in it, and which keys of `scope` open it. Blocks the thread but while it waits for
/// KMS plugins.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub async fn inspect(snapshot: &SnapshotFile, scope: &Scope) -> Result<Report, Error> {
    let failed = |source| Error::Database {
        path: snapshot.path.clone(),
        source,
    };
    let database = Database::open(&snapshot.file, snapshot.length).map_err(failed)?;
    let mut store = Store::read(&database).map_err(failed)?;
    let Some(bucket) = database.bucket(b"key").map_err(failed)? else {
        return Err(Error::NoBucket {
            path: snapshot.path.clone(),
            bucket: "key",
        });
    };
    let mut walk = Walk {
        snapshot,
        entries: database.backwards(&bucket),
        seen: HashSet::new(),
        hasher: RandomState::new(),
        counts: Counts::default(),
        newest: 0,
    };
    let mut tally = Tally::default();
    let mut silence = Silence::default();
    loop {
        let batch = walk.batch()?;
        if batch.is_empty() {
            break;
        }
        let judgements = judge_all(scope, &batch, &silence).await;
        silence.note(judgements.iter());
        for (stored, judgement) in batch.iter().zip(judgements) {
            tally.add(&stored.key, stored.is_history, judgement);
        }
    }
    // Compaction may have taken away all that was newest.
    store.revision = walk.newest.max(store.compacted).max(1);
    Ok(Report::new(snapshot, scope, store, walk.counts, &tally))
}

async fn judge_all(scope: &Scope, batch: &[Stored], silence: &Silence) -> Vec<Judgement> {
    let mut deks = Deks::default();
    let mut judged: Vec<Option<Judgement>> = batch.iter().map(|_| None).collect();
    loop {
        let mut is_pending = false;
        for (stored, slot) in batch.iter().zip(&mut judged).filter(|(_, slot)| slot.is_none()) {
            match judge(scope, &stored.key, &stored.value, &deks, silence) {
                Ok(judgement) => *slot = Some(judgement),
                Err(Pending) => is_pending = true,
            }
            if deks.is_full() {
                break;
            }
        }
        if !is_pending {
            return judged.into_iter().flatten().collect();
        }
        deks.fetch().await;
    }
}

/// One change of one key, as an entry of the bucket has it.
pub(super) fn change<'e>(snapshot: &SnapshotFile, entry: &bbolt::Entry<'e>) -> Result<(Revision, Record<'e>), Error> {
    let damaged = |what: String| Error::Entry {
        path: snapshot.path.clone(),
        page: entry.page,
        element: entry.index,
        what,
    };
    let revision = Revision::parse(entry.key).ok_or_else(|| damaged("under a key that is no revision".to_owned()))?;
    let record = Record::parse(entry.value).map_err(|error| damaged(format!("no mvccpb.KeyValue: {error}")))?;
    if record.key.is_empty() {
        return Err(damaged("a mvccpb.KeyValue without a key".to_owned()));
    }
    Ok((revision, record))
}

struct Walk<'s, S: ?Sized> {
    snapshot: &'s SnapshotFile,
    entries: bbolt::Backwards<'s, S>,
    /// Hashes of the keys that were met. Some 10 to 20 bytes a key, where the keys themselves would be a hundred. Two keys of
    /// ten million share one once in 300,000 snapshots, and then one value counts as history; the hash is keyed, so that
    /// nobody can choose such keys.
    seen: HashSet<u64>,
    hasher: RandomState,
    counts: Counts,
    newest: i64,
}

impl<S: Source + ?Sized> Walk<'_, S> {
    /// The next values, going back in time; none behind the oldest.
    fn batch(&mut self) -> Result<Vec<Stored>, Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let entry = self.entries.next().map_err(|source| Error::Database {
                path: self.snapshot.path.clone(),
                source,
            })?;
            let Some(entry) = entry else { break };
            let (revision, record) = change(self.snapshot, &entry)?;
            self.counts.revisions += 1;
            self.newest = self.newest.max(revision.main);
            let is_history = !self.seen.insert(self.hasher.hash_one(record.key));
            if revision.is_tombstone {
                self.counts.tombstones += 1;
                continue;
            }
            self.counts.keys += u64::from(!is_history);
            bytes += record.key.len() + record.value.len();
            batch.push(Stored {
                key: record.key.to_vec(),
                value: record.value.to_vec(),
                is_history,
            });
        }
        Ok(batch)
    }
}
