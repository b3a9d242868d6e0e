//! `abort`: the old keys write again, everything is stored under them, and the new ones go. As long as no old key is gone.

use super::rotation::settle;
use super::{Change, Context, Step, Stop};
use crate::config::KeyId;
use crate::rotation::record::Record;
use crate::rotation::refusal::Refusal;
use crate::rotation::stage::Stage;

impl Context<'_> {
    pub(super) fn begin_abort(self) -> Result<Step, Stop> {
        let record = self.record();
        if record.fresh.is_empty() {
            return Err(Refusal::NothingToAbort(record.stage).into());
        }
        let going = record.removed.first().filter(|_| record.removing).cloned();
        match going.or_else(|| self.gone()) {
            Some(gone) => Err(Refusal::Dropped(gone).into()),
            None => Ok(self.begin(|record| (record.dropping, record.proved) = (false, None))),
        }
    }

    /// An old key that is gone from where the one that follows it is.
    fn gone(self) -> Option<KeyId> {
        let config = &self.facts.config;
        // The new key may be listed elsewhere as ever, if it came first by force.
        let writing = config.writing_keys();
        let is_gone = |(old, new): &(&KeyId, &KeyId)| {
            config.has_key(new) && !writing.contains(old) && !config.is_beside(old, std::slice::from_ref(*new))
        };
        self.record().pairs().find(is_gone).map(|(old, _)| old.clone())
    }

    pub(super) fn abort(self) -> Result<Step, Stop> {
        let record = self.record();
        let config = &self.facts.config;
        if record.fresh.is_empty() {
            return Ok(self.end(|_| {}));
        }
        let back = |record: &mut Record| {
            record.stage = record.origin;
            settle(record);
        };
        if let Some(gone) = self.gone() {
            return Err(Refusal::Dropped(gone).into());
        }
        let is_listed = |key: &&KeyId| config.is_beside(key, &record.retiring);
        let listed: Vec<KeyId> = record.fresh.iter().filter(is_listed).cloned().collect();
        if listed.is_empty() {
            return Ok(Step::Note(self.note(back)));
        }
        let behind = record.pairs().filter(|(old, new)| !config.leads(old, new));
        let behind: Vec<_> = behind.map(|(old, new)| (old.clone(), new.clone())).collect();
        if !behind.is_empty() {
            // Everybody could read with the old keys all the while, or the rotation could not have begun.
            return match self.facts.cannot_read(&record.retiring) {
                None => Ok(Step::Change(Change::Promote(behind))),
                Some(_) => Ok(Step::Await),
            };
        }
        if record.stage != Stage::Prepare {
            return Ok(Step::Note(self.note(|record| record.stage = Stage::Prepare)));
        }
        if !self.all_loaded() {
            return Ok(Step::Await);
        }
        if self.ask.how.skip {
            return Ok(Step::Note(self.note(|record| {
                record.kept.append(&mut record.fresh);
                back(record);
            })));
        }
        // By force, a key may have come first that writes elsewhere as ever: it stays.
        let writing = config.writing_keys();
        let going: Vec<KeyId> = listed.into_iter().filter(|key| !writing.contains(key)).collect();
        if going.is_empty() {
            return Ok(Step::Note(self.note(back)));
        }
        self.removed(going, &record.retiring)
    }
}
