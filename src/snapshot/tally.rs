//! How many values are of which kind. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::judge::{Free, Judgement};
use crate::inventory::{Left, MAX_LISTED, Under};

/// Rows at most. Names of keys are read out of stored values, so whoever can write to etcd could make as many rows as there
/// are values; beyond this they are counted in one for each state and source.
const MAX_ROWS: usize = 1_000;

/// How a value stands to the keys at hand, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It opens, or is in the clear and may be.
    Opens,
    /// It opens, but to nothing that Kubernetes stores: aescbc cannot tell a wrong key for certain.
    Doubtful,
    /// A KMS would have to open it, and could not be asked.
    Unasked,
    /// A key of that name is at hand and does not open it, or its KMS refuses to.
    Undecryptable,
    /// It is sealed, and no rule covers it: kube-apiserver would refuse it, whatever keys there are.
    Uncovered,
    /// No key of that name is at hand.
    Missing,
}

impl State {
    /// Those that would be lost in a restore.
    pub(super) const LOST: [Self; 4] = [Self::Doubtful, Self::Undecryptable, Self::Uncovered, Self::Missing];
}

/// One row of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) resource: String,
    pub(super) state: State,
    pub(super) under: Under,
    /// For KMS v2: which key of the KMS.
    pub(super) key_id: Option<String>,
    /// The source that opens them, or that has a key of that name.
    pub(super) source: Option<usize>,
}

/// How many values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// That are what is stored.
    pub objects: u64,
    /// That were stored before, and can still be read at an earlier revision.
    pub history: u64,
}

impl Objects {
    /// Counts one.
    pub(super) fn add(&mut self, is_history: bool) {
        let count = if is_history {
            &mut self.history
        } else {
            &mut self.objects
        };
        *count += 1;
    }

    /// Counts those of `other` as well.
    pub(super) fn join(&mut self, other: Self) {
        self.objects += other.objects;
        self.history += other.history;
    }
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: BTreeMap<Row, Objects>,
    /// By source, the keys that values are under, and how many each opens. No more than the configurations have, so that
    /// none is lost where rows are: keys are thrown away by what is said of them.
    pub(super) keys: BTreeMap<usize, BTreeMap<Under, Objects>>,
    /// In the clear, and no rule covers them.
    pub(super) no_rule: Objects,
    /// Outside of Kubernetes' prefixes.
    pub(super) outside: Objects,
    /// The proxy's own records.
    pub(super) own: Objects,
    /// Values of now that do not open, the first of them by etcd key.
    pub(super) left: BTreeMap<Vec<u8>, Left>,
}

impl Tally {
    /// Counts the value under `key`.
    pub(super) fn add(&mut self, key: &[u8], is_history: bool, judgement: Judgement) {
        let (mut row, why) = match judgement {
            Judgement::Own => return self.own.add(is_history),
            Judgement::Free(Free::NoRule) => return self.no_rule.add(is_history),
            Judgement::Free(Free::Outside) => return self.outside.add(is_history),
            Judgement::Ruled { row, why } => (row, why),
        };
        if !is_history && row.state != State::Opens {
            self.list(key, &row, why);
        }
        if let Some(source) = row.source {
            self.note(source, &row, is_history);
        }
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&row) {
            row = Row {
                resource: "(others)".to_owned(),
                state: row.state,
                under: Under::others(),
                key_id: None,
                source: row.source,
            };
        }
        self.rows.entry(row).or_default().add(is_history);
    }

    /// Notes that a value is under a key of `source`, whether that opens it or not.
    fn note(&mut self, source: usize, row: &Row, is_history: bool) {
        let keys = self.keys.entry(source).or_default();
        if !keys.contains_key(&row.under) {
            keys.insert(row.under.clone(), Objects::default());
        }
        if let Some(opens) = keys.get_mut(&row.under).filter(|_| row.state == State::Opens) {
            opens.add(is_history);
        }
    }

    fn list(&mut self, key: &[u8], row: &Row, why: String) {
        if self.left.len() >= MAX_LISTED {
            // The walk is not in the order of keys; the first of them are kept all the same.
            match self.left.last_entry() {
                Some(last) if last.key().as_slice() > key => drop(last.remove()),
                _ => return,
            }
        }
        let left = Left::new(key, row.resource.clone(), row.under.clone(), why);
        self.left.insert(key.to_vec(), left);
    }

    /// How many values are in `state`.
    pub(super) fn in_state(&self, state: State) -> Objects {
        let mut all = Objects::default();
        for (_, objects) in self.rows.iter().filter(|(row, _)| row.state == state) {
            all.join(*objects);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(key: String) -> Judgement {
        Judgement::Ruled {
            row: Row {
                resource: "secrets".to_owned(),
                state: State::Missing,
                under: Under {
                    provider: "aescbc".into(),
                    key,
                },
                key_id: None,
                source: None,
            },
            why: "no".to_owned(),
        }
    }

    #[test]
    fn what_values_claim_bounds_nothing() {
        let mut tally = Tally::default();
        for index in (0..3_000u32).rev() {
            let key = format!("/registry/secrets/{index:04}").into_bytes();
            tally.add(&key, false, missing(index.to_string()));
            tally.add(&key, true, missing(index.to_string()));
        }
        let all = Objects {
            objects: 3_000,
            history: 3_000,
        };
        assert_eq!(tally.in_state(State::Missing), all);
        assert_eq!(tally.rows.len(), MAX_ROWS + 1);
        let listed: Vec<_> = tally.left.values().map(|left| left.etcd_key.clone()).collect();
        let expected: Vec<_> = (0..MAX_LISTED)
            .map(|index| format!("/registry/secrets/{index:04}"))
            .collect();
        assert_eq!(listed, expected);
    }
}
