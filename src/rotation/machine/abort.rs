//! `abort`: the old keys write again where the new ones write now, everything is stored under what writes then, and the new
//! keys go. As long as no old key is gone.
//!
//! A key writes again only where the configuration says that this rotation replaced it: where the new key of its pair writes.
//! The record may be older than the configuration (etcd was restored from a snapshot), or somebody has put another key first
//! by hand, because the old one has leaked. What writes there stays, and the rotation's keys are taken away all the same.

use super::rotation::{once_each, settle};
use super::{Change, Context, Step, Stop};
use crate::config::KeyId;
use crate::rotation::facts::Facts;
use crate::rotation::record::Record;
use crate::rotation::refusal::Refusal;
use crate::rotation::stage::Stage;

/// The old keys that are to write again, each with the new one that writes in its place now.
pub(in crate::rotation) fn replaced(facts: &Facts) -> Vec<(KeyId, KeyId)> {
    let pairs = facts.record.pairs();
    let is_replaced = |(old, new): &(&KeyId, &KeyId)| facts.config.writes_beside(new, old);
    pairs
        .filter(is_replaced)
        .map(|(old, new)| (old.clone(), new.clone()))
        .collect()
}

impl Context<'_> {
    pub(super) fn begin_abort(self) -> Result<Step, Stop> {
        let record = self.record();
        if record.is_recovering() {
            // Even while its keys are being removed: none of them writes, so that nothing could need them that was not looked at.
            return Ok(self.begin(|record| (record.dropping, record.removing, record.proved) = (false, false, None)));
        }
        if record.fresh.is_empty() {
            return Err(Refusal::NothingToAbort(record.stage).into());
        }
        if let Some(going) = record.removed.first().filter(|_| record.removing) {
            return Err(Refusal::Dropped(going.clone()).into());
        }
        self.refuse_gone()?;
        Ok(self.begin(|record| (record.dropping, record.proved) = (false, None)))
    }

    /// A new key writes where the old one that it follows is not listed: nothing could write there in its place.
    fn refuse_gone(self) -> Result<(), Stop> {
        let (record, config) = (self.record(), &self.facts.config);
        let is_gone = |(old, new): &(&KeyId, &KeyId)| {
            // By force, a key may have come first that writes elsewhere as ever.
            let is_own = self.is_own(new);
            let is_nowhere = !config.writing().contains(old) && !config.is_beside(old, std::slice::from_ref(*new));
            config.writes_without(new, old) && (is_own || is_nowhere)
        };
        match record.pairs().find(is_gone) {
            None => Ok(()),
            Some((old, _)) if record.dropped.contains(old) => Err(Refusal::Dropped(old.clone()).into()),
            Some((old, new)) => Err(Refusal::NoWayBack {
                old: old.clone(),
                new: new.clone(),
            }
            .into()),
        }
    }

    pub(super) fn abort(self) -> Result<Step, Stop> {
        let record = self.record();
        let config = &self.facts.config;
        if record.is_recovering() {
            return self.abort_recovery();
        }
        if record.fresh.is_empty() {
            return Ok(self.end(|_| {}));
        }
        self.refuse_gone()?;
        let writing = config.writing();
        let is_reader = |key: &&KeyId| config.has_key(key) && !writing.contains(key);
        let back = |record: &mut Record| {
            // What the rotation made and stands beside nothing that writes goes with a later one.
            let fresh = std::mem::take(&mut record.fresh).into_iter();
            let own = fresh.filter(|key| is_reader(&key) && self.is_own(key));
            for key in own {
                if !record.kept.contains(&key) {
                    record.kept.push(key);
                }
            }
            record.stage = record.origin;
            settle(record);
        };
        let replaced = replaced(self.facts);
        if !replaced.is_empty() {
            let old: Vec<KeyId> = replaced.iter().map(|(old, _)| old.clone()).collect();
            // Everybody could read with the old keys all the while, or the rotation could not have begun.
            return match self.facts.cannot_read(&old) {
                None => Ok(Step::Change(Change::Reinstate(replaced))),
                Some(_) => Ok(Step::Await),
            };
        }
        // A key that was made for this rotation may stand where somebody has taken the old one out by hand.
        let is_apart = |key: &&KeyId| is_reader(key) && !config.is_beside(key, &record.retiring);
        let mut beside = record.retiring.clone();
        if record.fresh.iter().any(|key| is_apart(&key)) {
            beside.extend(writing.iter().cloned());
        }
        let listed = record.fresh.iter().filter(|key| config.is_beside(key, &beside));
        // What of it read before goes on reading. What it wrote is brought under what writes now all the same.
        let is_left = |key: &&KeyId| key.key_type().is_none() && !self.is_own(key);
        let (left, listed): (Vec<_>, Vec<_>) = listed.partition(is_left);
        let listed = once_each(listed.into_iter());
        if listed.is_empty() && (left.is_empty() || self.ask.how.skip) {
            return Ok(Step::Note(self.note(back)));
        }
        if record.stage != Stage::Prepare {
            return Ok(Step::Note(self.note(|record| record.stage = Stage::Prepare)));
        }
        if !self.all_loaded() {
            return Ok(Step::Await);
        }
        if self.ask.how.skip {
            return Ok(Step::Note(self.note(|record| {
                let fresh = std::mem::take(&mut record.fresh);
                let is_left = |key: &KeyId| key.key_type().is_some() || self.is_own(key);
                record.kept.extend(fresh.into_iter().filter(is_left));
                back(record);
            })));
        }
        // By force, a key may have come first that writes elsewhere as ever: it stays.
        let going: Vec<KeyId> = listed.into_iter().filter(|key| !writing.contains(key)).collect();
        if going.is_empty() {
            return Ok(match self.swept()? {
                Err(step) if !left.is_empty() => step,
                _ => Step::Note(self.note(back)),
            });
        }
        self.removed(going, Some(beside))
    }
}
