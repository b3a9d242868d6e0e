//! What etcd's own records tell of the last sweep, or of the one at work, to whoever does not sweep. Reads only.

use super::checkpoint::{self, Checkpoint};
use super::report::{Finding, finding};
use super::scope::{OWNER, Scope};
use super::tally::Row;
use crate::election::{Holder, Owner};
use crate::etcd::{CallError, Store};
use crate::types::StatePrefix;

/// The last sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// Who is at work on it.
    pub holder: Option<Holder>,
    /// How far it has come; `None` where there was none, or its record cannot be read.
    pub work: Option<Work>,
    /// Why its record cannot be read: no sweep goes on until it is begun anew.
    pub damaged: Option<String>,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// SHA-256 of the configuration.
    pub configuration: String,
    /// Whether its proof is complete.
    pub is_done: bool,
    /// When it was first started, RFC 3339.
    pub started: String,
    /// Values that it has looked at in its first pass, and in its proof.
    pub scanned: [u64; 2],
    /// Values that it has written.
    pub rewritten: u64,
    /// Milliseconds that were spent on it.
    pub spent_ms: u64,
    /// What was found: by the proof where that is complete.
    pub rows: Vec<(Row, u64)>,
}

impl Latest {
    /// Reads both records.
    ///
    /// # Errors
    /// What etcd said.
    pub async fn read<S: Store>(store: &S, state: &StatePrefix) -> Result<Self, CallError> {
        let key = |name: &str| [state.as_bytes(), name.as_bytes()].concat();
        let holder = Owner::holder(store, &key(OWNER)).await?;
        let (_, found) = store.get(&key("sweep/checkpoint")).await?;
        let (work, damaged) = match found.map(|kv| checkpoint::parse(&kv.value)) {
            None => (None, None),
            Some(Ok(found)) => (Some(Work::of(&found)), None),
            Some(Err(why)) => (None, Some(why)),
        };
        Ok(Self { holder, work, damaged })
    }
}

/// From which revision on everything under the rules of `scope` is as they write it, by the last proof; `None` if that is of
/// anything else, or found anything else.
///
/// # Errors
/// What etcd said.
pub async fn proved_from<S: Store>(store: &S, scope: &Scope) -> Result<Option<i64>, CallError> {
    let (_, found) = store.get(&scope.checkpoint_key()).await?;
    let found = found.and_then(|kv| checkpoint::parse(&kv.value).ok());
    Ok(found
        .filter(|found| found.stage == checkpoint::Stage::Done && found.work == scope.fingerprint())
        .filter(|found| finding(&found.after) == Finding::Clean)
        .map(|found| found.prove_from))
}

impl Work {
    fn of(found: &Checkpoint) -> Self {
        let is_done = found.stage == checkpoint::Stage::Done;
        let tally = if is_done { &found.after } else { &found.before };
        Self {
            configuration: found.configuration.clone(),
            is_done,
            started: found.started.clone(),
            scanned: [found.before.scanned, found.after.scanned],
            rewritten: found.before.rewritten,
            spent_ms: found.spent_ms,
            rows: tally.rows().map(|(row, objects)| (row.clone(), objects)).collect(),
        }
    }
}
