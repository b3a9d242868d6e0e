//! `recover`: keys of kept configurations read what no key of the present one opens, everything is stored under what writes, and
//! they are taken out again: in the order, and with the guards, with which a rotation removes a key.
//!
//! What is missing is searched for anew whenever the configuration is another one than it was searched with: after a crash, after
//! keys were listed, and in the end. So it does not matter who listed a key, and a name that stands for other bytes in two files is
//! gone through once for each.

use super::rotation::settle;
use super::{Change, Command, Context, Step, Stop, Turn};
use crate::config::KeyId;
use crate::rotation::record::Record;
use crate::rotation::recovery::Recovery;
use crate::rotation::stage::Stage;

impl Context<'_> {
    pub(super) fn recovery(self) -> Result<Step, Stop> {
        match self.turn()? {
            Turn::Begin => self.begin_recover(),
            Turn::Over if self.searched().is_none() => Ok(Step::Search),
            Turn::Over => Ok(Step::Finish(None)),
            Turn::Continue => self.recover(),
        }
    }

    fn begin_recover(self) -> Result<Step, Stop> {
        let record = self.record();
        let is_listed = |key: &KeyId| self.facts.config.has_key(key);
        let is_at_rest = record.stage.is_rest() && !record.fresh.iter().any(is_listed);
        // One that another command, such as `disable`, came in between of goes on.
        self.admit(record.is_recovering() || (is_at_rest && record.underway != Some(Command::Abort)))?;
        let Some(found) = self.searched() else {
            return Ok(Step::Search);
        };
        if found.readers.is_empty() && !record.is_recovering() {
            return Ok(Step::Finish(None));
        }
        Ok(self.begin(|record| {
            if record.stage.is_rest() {
                record.origin = record.stage;
                settle(record);
            }
            record.stage = Stage::ReencryptActive;
            record.started.clone_from(&self.ask.now);
            take_in(record, found);
        }))
    }

    /// What a search with this configuration has found.
    fn searched(&self) -> Option<&Recovery> {
        let found = self.session.recovery.as_ref();
        found.filter(|found| found.configuration == self.facts.config.fingerprint)
    }

    fn recover(self) -> Result<Step, Stop> {
        let record = self.record();
        let Some(found) = self.searched() else {
            return Ok(Step::Search);
        };
        if !found.readers.is_empty() {
            let is_noted = |key: &KeyId| record.recovered.contains(key);
            if record.dropping || !found.keys().iter().all(is_noted) {
                return Ok(Step::Note(self.note(|record| take_in(record, found))));
            }
            if !self.all_loaded() {
                return Ok(Step::Await);
            }
            return Ok(Step::Change(Change::ReadWith(found.readers.clone())));
        }
        let listed = self.listed();
        if listed.is_empty() {
            return Ok(self.end(back));
        }
        if !self.all_loaded() {
            return Ok(Step::Await);
        }
        self.removed(listed, None)
    }

    /// The keys that were listed, and are still. One that somebody has put first meanwhile is an operator's.
    fn listed(self) -> Vec<KeyId> {
        let config = &self.facts.config;
        let writing = config.writing_keys();
        let listed = self.record().recovered.iter();
        let listed = listed.filter(|key| config.has_key(key) && !writing.contains(key));
        listed.cloned().collect()
    }

    /// `abort` in a recovery: what its keys open comes under what writes all the same, or would be unreadable again; nothing is
    /// searched for any more.
    pub(super) fn abort_recovery(self) -> Result<Step, Stop> {
        let listed = self.listed();
        if listed.is_empty() {
            return Ok(Step::Note(self.note(back)));
        }
        if !self.all_loaded() {
            return Ok(Step::Await);
        }
        if self.ask.how.skip {
            return Ok(Step::Note(self.note(|record| {
                record.kept.retain(|key| !listed.contains(key));
                record.kept.extend(listed);
                back(record);
            })));
        }
        self.removed(listed, None)
    }
}

/// These keys are to read; whatever was proved without them is of no account.
fn take_in(record: &mut Record, found: &Recovery) {
    for key in found.keys() {
        if !record.recovered.contains(&key) {
            record.recovered.push(key);
        }
    }
    (record.dropping, record.removing, record.proved) = (false, false, None);
}

/// Nothing is recovered any more.
fn back(record: &mut Record) {
    record.stage = record.origin;
    record.recovered.clear();
    settle(record);
}
