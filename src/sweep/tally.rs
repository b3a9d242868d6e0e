//! What a pass has found and done so far. Pure; it is what a checkpoint keeps, so that a sweep that is taken up again
//! reports as if it had never stopped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::decide::Verdict;
use super::seeds::Seeds;
use crate::inventory::{Left, MAX_LISTED, Under};

/// No store has so many values, or bytes; sums of them are far from overflowing.
const MAX_COUNT: u64 = 1 << 50;
/// Rows of an inventory at most. Names of keys are read out of stored values, so whoever can write to etcd could make as
/// many rows as there are values; beyond this they are counted in one.
const MAX_ROWS: usize = 1_000;
/// And bytes of names in them: two inventories stand in one checkpoint, which etcd takes up to 1.5 MiB of.
const MAX_ROWS_BYTES: usize = 256 * 1024;
/// Bytes of that list that a checkpoint keeps. It is written every few hundred keys, and etcd keeps each version until
/// compaction: the whole list would fill the backend.
const MAX_SAVED_BYTES: usize = 4 * 1024;

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What it was when the scan met it.
    pub(super) resource: String,
    pub(super) verdict: Verdict,
    pub(super) outcome: Outcome,
    /// How often somebody else wrote first.
    pub(super) races: u32,
    /// Tells the seed of KMS v2 that it was sealed with from others, if it was and stays.
    pub(super) seed: Option<u64>,
}

/// What was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing: it is fresh, does not open, or this pass only looks.
    Kept,
    /// It was written, at this revision.
    Rewritten(i64),
    /// Somebody else wrote it, and so that it is fresh.
    Overwritten,
    /// Somebody deleted it, or its lease ended.
    Vanished,
    /// Somebody wrote it each time that this was about to. It is as they wrote it.
    Contended,
    /// It cannot be written.
    Refused(String),
}

/// How a stored value stands to its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As the rule writes.
    Current,
    /// Under another provider or key.
    Stale,
    /// Not encrypted, and it should be.
    Plaintext,
    /// No provider of the rule opens it.
    Undecryptable,
}

/// One row of an inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// `secrets`, `deployments.apps`.
    pub resource: String,
    /// How the values stand to their rule.
    pub state: State,
    /// What they are sealed with.
    #[serde(flatten)]
    pub under: Under,
}

/// Counts and lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Values under a rule that were looked at.
    pub scanned: u64,
    /// Bytes of them, as they were stored.
    pub scanned_bytes: u64,
    /// Values that were written.
    pub rewritten: u64,
    /// Writes that lost against somebody else's, and were decided anew.
    pub raced: u64,
    /// Values that somebody else made fresh, or deleted, before they could be written.
    pub overwritten: u64,
    /// Keys that were deleted, or whose lease ended, before they could be written.
    pub vanished: u64,
    /// Values that were given up after too many lost races.
    pub contended: u64,
    /// Values that cannot be written.
    pub refused: u64,
    /// Values that no provider of their rule opens.
    pub undecryptable: u64,
    /// The revision of the first write, and of the last; 0 where there was none.
    pub first_write: i64,
    /// See `first_write`.
    pub last_write: i64,
    /// By KMS v2 plugin: seeds that values were sealed with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) seeds: BTreeMap<String, Seeds>,
    /// What was found. A list, because JSON's maps have text for keys.
    #[serde(with = "rows")]
    pub(super) inventory: BTreeMap<Row, u64>,
    /// Values that were left: undecryptable or refused; the first of them.
    #[serde(serialize_with = "saved")]
    pub left: Vec<Left>,
}

impl Tally {
    /// Counts one key of which `bytes` were stored.
    pub(super) fn add(&mut self, key: &[u8], bytes: usize, record: Record) {
        let (state, under) = match &record.verdict {
            Verdict::NotOurs => return,
            Verdict::Fresh(under) => (State::Current, under.clone()),
            Verdict::Stale(under) => (State::Stale, under.clone()),
            Verdict::Plaintext => (State::Plaintext, Under::identity()),
            Verdict::Undecryptable { needs, .. } => (State::Undecryptable, needs.clone()),
        };
        if let Some(seed) = record.seed
            && state != State::Undecryptable
        {
            self.seeds.entry(under.key.clone()).or_default().add(seed);
        }
        self.scanned += 1;
        self.scanned_bytes += bytes as u64;
        self.raced += u64::from(record.races);
        let why = match (record.outcome, record.verdict) {
            (Outcome::Refused(why), _) => {
                self.refused += 1;
                Some(why)
            }
            (Outcome::Kept, Verdict::Undecryptable { why, .. }) => {
                self.undecryptable += 1;
                Some(why)
            }
            (outcome, _) => {
                self.count(&outcome);
                None
            }
        };
        if let Some(why) = why
            && self.left.len() < MAX_LISTED
        {
            self.left
                .push(Left::new(key, record.resource.clone(), under.clone(), why));
        }
        let row = Row {
            resource: record.resource,
            state,
            under,
        };
        self.count_row(row);
    }

    fn count(&mut self, outcome: &Outcome) {
        match *outcome {
            Outcome::Kept | Outcome::Refused(_) => {}
            Outcome::Rewritten(revision) => {
                self.rewritten += 1;
                if self.first_write == 0 {
                    self.first_write = revision;
                }
                // Keys are counted in key order, and written in any.
                self.first_write = self.first_write.min(revision);
                self.last_write = self.last_write.max(revision);
            }
            Outcome::Overwritten => self.overwritten += 1,
            Outcome::Vanished => self.vanished += 1,
            Outcome::Contended => self.contended += 1,
        }
    }

    fn count_row(&mut self, mut row: Row) {
        if !self.inventory.contains_key(&row) && !self.has_room(&row) {
            row = Row {
                resource: "(others)".to_owned(),
                state: row.state,
                under: Under::others(),
            };
        }
        *self.inventory.entry(row).or_default() += 1;
    }

    fn has_room(&self, row: &Row) -> bool {
        let size = |row: &Row| row.resource.len() + row.under.provider.len() + row.under.key.len();
        let bytes: usize = self.inventory.keys().map(size).sum();
        self.inventory.len() < MAX_ROWS && bytes + size(row) <= MAX_ROWS_BYTES
    }

    /// Whether these are counts that a sweep could have come to. Others, in a record that somebody else wrote, would overflow.
    pub(super) fn is_plausible(&self) -> bool {
        let counts = [
            self.scanned,
            self.scanned_bytes,
            self.rewritten,
            self.raced,
            self.overwritten,
            self.vanished,
            self.contended,
            self.refused,
            self.undecryptable,
        ];
        let seeds = self.seeds.values().map(Seeds::count);
        let mut all = counts.into_iter().chain(self.inventory.values().copied()).chain(seeds);
        self.inventory.len() <= 2 * MAX_ROWS && all.all(|count| count <= MAX_COUNT)
    }

    /// What was found, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&Row, u64)> {
        self.inventory.iter().map(|(row, objects)| (row, *objects))
    }

    /// By KMS v2 plugin: how many seeds.
    pub fn seeds(&self) -> impl Iterator<Item = (&str, u64)> {
        self.seeds
            .iter()
            .map(|(plugin, seeds)| (plugin.as_str(), seeds.count()))
    }

    /// How many values were found in `state`.
    pub fn objects(&self, state: State) -> u64 {
        self.rows()
            .filter(|(row, _)| row.state == state)
            .map(|(_, objects)| objects)
            .sum()
    }
}

/// The first few of a list.
fn saved<S: Serializer>(left: &[Left], to: S) -> Result<S::Ok, S::Error> {
    let mut bytes = 0;
    to.collect_seq(left.iter().take_while(|one| {
        bytes += one.etcd_key.len() + one.resource.len() + one.under.key.len() + one.why.len();
        bytes <= MAX_SAVED_BYTES
    }))
}

/// An inventory as a list of rows with their counts.
pub(super) mod rows {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Row;

    #[derive(Serialize, Deserialize)]
    struct Counted {
        #[serde(flatten)]
        row: Row,
        objects: u64,
    }

    pub(in crate::sweep) fn serialize<S: Serializer>(rows: &BTreeMap<Row, u64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(rows.iter().map(|(row, &objects)| Counted {
            row: row.clone(),
            objects,
        }))
    }

    pub(in crate::sweep) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Row, u64>, D::Error> {
        let rows = Vec::<Counted>::deserialize(from)?;
        Ok(rows.into_iter().map(|counted| (counted.row, counted.objects)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verdict: Verdict, outcome: Outcome) -> Record {
        Record {
            resource: "secrets".to_owned(),
            verdict,
            outcome,
            races: 1,
            seed: None,
        }
    }

    fn unreadable(key: String) -> Verdict {
        Verdict::Undecryptable {
            needs: Under {
                provider: "aescbc".into(),
                key,
            },
            why: "no".to_owned(),
        }
    }

    #[test]
    fn a_tally_survives_being_written_down() {
        let mut tally = Tally::default();
        tally.add(b"/a", 10, record(Verdict::Plaintext, Outcome::Rewritten(9)));
        tally.add(b"/b", 10, record(Verdict::Plaintext, Outcome::Rewritten(7)));
        tally.add(b"/c", 10, record(Verdict::Plaintext, Outcome::Vanished));
        tally.add(b"/d\xff", 10, record(unreadable("k".to_owned()), Outcome::Kept));
        tally.add(b"/e", 10, record(Verdict::NotOurs, Outcome::Kept));
        assert_eq!((tally.scanned, tally.first_write, tally.last_write), (4, 7, 9));
        assert_eq!(
            (tally.objects(State::Plaintext), tally.objects(State::Undecryptable)),
            (3, 1)
        );
        assert_eq!(tally.left[0].etcd_key, "/d\\xff");
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    }

    #[test]
    fn what_values_claim_bounds_nothing() {
        let mut tally = Tally::default();
        for index in 0..3_000 {
            let key = format!("{index:0256}");
            tally.add(&[0xff; 10_000], 1, record(unreadable(key), Outcome::Kept));
        }
        assert_eq!(
            (tally.objects(State::Undecryptable), tally.undecryptable),
            (3_000, 3_000)
        );
        assert!(tally.rows().count() <= MAX_ROWS + 1);
        assert_eq!((tally.left.len(), tally.left[0].etcd_key.len()), (MAX_LISTED, 4 * 512));
        let record = serde_json::to_vec(&tally).unwrap();
        assert!(
            record.len() < 512 * 1024,
            "{} bytes, and two of them in one request",
            record.len()
        );
    }
}
