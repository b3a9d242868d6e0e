//! `prepare`, `rotate`, `reencrypt` and `rotate-keys`; `migrate` takes the same steps.

use super::migrate::want_again;
use super::{Change, Command, Context, Step, Stop, Turn};
use crate::config::{KeyId, KeyType, Writer};
use crate::rotation::proof::{NoProof, Proof};
use crate::rotation::record::{Proved, Record};
use crate::rotation::refusal::{self, Refusal};
use crate::rotation::stage::Stage;
use crate::rotation::stores::Beside;
use crate::sweep::Report;

/// Sweeps of one command that may find stale values at their end. One that takes up where another was left does not go back
/// to what was written there meanwhile; the next one does.
pub(super) const STALE_SWEEPS: u32 = 3;

impl Context<'_> {
    pub(super) fn rotation(self) -> Result<Step, Stop> {
        match self.turn()? {
            Turn::Begin => match self.ask.command {
                Command::Rotate => self.begin_rotate(),
                Command::Reencrypt => self.begin_reencrypt(),
                Command::Abort => self.begin_abort(),
                Command::Migrate => self.begin_migrate(),
                _ => self.begin_prepare(),
            },
            Turn::Over => Ok(Step::Finish(None)),
            Turn::Continue if self.is_of_other_type() => match &self.record().fresh[..] {
                // The one that was killed had nothing left to do but to say so.
                [] => self.begin_prepare(),
                fresh => Err(Refusal::OtherType(fresh.to_vec()).into()),
            },
            Turn::Continue if self.is_of_other_target() => match (&self.record().fresh[..], &self.record().how.to) {
                ([], _) | (_, None) => self.begin_migrate(),
                (_, Some(to)) => Err(Refusal::OtherTarget(to.to_string()).into()),
            },
            Turn::Continue => match self.ask.command {
                Command::Prepare => self.prepare(),
                Command::Rotate => self.rotate(),
                Command::Reencrypt => self.reencrypt(),
                Command::Abort => self.abort(),
                _ => self.all(),
            },
        }
    }

    /// What was begun in another process brings in, or has brought in, keys of another type than is asked for now.
    fn is_of_other_type(self) -> bool {
        let makes_keys = matches!(self.ask.command, Command::Prepare | Command::RotateKeys);
        let Some(wanted) = self.ask.how.key_type.filter(|_| makes_keys) else {
            return false;
        };
        let fresh = &self.record().fresh;
        let is_other = |key: &KeyId| key.provider != wanted;
        let is_over = fresh.is_empty() && self.session.sweeps == 0;
        fresh.iter().any(is_other) || (is_over && self.facts.config.writing_keys().iter().any(is_other))
    }

    /// It is this command's turn, and everybody has loaded the same.
    pub(super) fn admit(self, is_turn: bool) -> Result<(), Stop> {
        if self.ask.how.force {
            return Ok(());
        }
        if !is_turn {
            return Err(self.not_its_turn());
        }
        self.refuse_mismatch()
    }

    fn not_its_turn(self) -> Stop {
        let record = self.record();
        let node = if record.by.is_empty() {
            &self.ask.host
        } else {
            &record.by
        };
        Refusal::Stage {
            found: record.stage,
            node: node.clone(),
            next: refusal::next(record),
        }
        .into()
    }

    fn begin_prepare(self) -> Result<Step, Stop> {
        let record = self.record();
        // A rotation whose first key is not yet in the configuration is one that may begin again.
        self.admit(record.stage.is_rest() && record.underway != Some(Command::Abort))?;
        let retiring = self.rotatable()?;
        let mut fresh: Vec<KeyId> = Vec::new();
        for key in &retiring {
            fresh.push(self.new_key(
                self.ask.how.key_type.or(key.key_type()).unwrap_or(KeyType::AesCbc),
                &fresh,
            ));
        }
        Ok(self.begin(|record| self.renew(record, fresh, retiring)))
    }

    /// A rotation begins in which each of `fresh` follows one of `retiring`.
    pub(super) fn renew(self, record: &mut Record, fresh: Vec<KeyId>, retiring: Vec<KeyId>) {
        leave_behind(record, &retiring);
        record.kept.retain(|key| !fresh.contains(key));
        if record.stage.is_rest() {
            record.origin = record.stage;
        }
        // By force out of another rotation: its keys have no part in this one.
        record.stage = record.origin;
        record.started.clone_from(&self.ask.now);
        record.remember(&fresh);
        // A key that was just made is one that never wrote. A plugin may have, and identity.
        record.unused = fresh.iter().all(|key| key.key_type().is_some());
        (record.fresh, record.retiring, record.proved) = (fresh, retiring, None);
    }

    /// The keys that write and can be rotated.
    fn rotatable(self) -> Result<Vec<KeyId>, Stop> {
        let keys = self.facts.config.writing_keys();
        if !keys.is_empty() {
            return Ok(keys);
        }
        let writers = self.facts.config.writers().into_iter();
        let kms = writers.into_iter().find_map(|writer| match writer {
            Writer::Kms(name) => Some(name.as_str().to_owned()),
            Writer::Key(_) | Writer::Identity => None,
        });
        Err(match (kms, self.ask.how.key_type) {
            (None, _) => Refusal::Disabled,
            (Some(name), None) => Refusal::Kms(name),
            (Some(name), Some(wanted)) => Refusal::FromKms { name, wanted },
        }
        .into())
    }

    fn prepare(self) -> Result<Step, Stop> {
        Ok(match self.prepared()? {
            Some(step) => step,
            None => self.end(|_| {}),
        })
    }

    /// What is left to do until the new keys are listed, and the stage says so.
    fn prepared(self) -> Result<Option<Step>, Stop> {
        let record = self.record();
        let config = &self.facts.config;
        let missing = |key: &&KeyId| !config.has_key(key);
        let pairs: Vec<_> = record.pairs().filter(|(_, fresh)| missing(fresh)).collect();
        if !pairs.is_empty() {
            if record.stage == Stage::Prepare {
                return Err(missing_key(&record.fresh, missing));
            }
            // Somebody has changed what writes since the names were noted.
            if let Some((gone, _)) = pairs.iter().find(|(old, _)| !config.writing().contains(old)) {
                return Err(Refusal::KeyMissing((*gone).clone()).into());
            }
            let pairs = pairs.into_iter().map(|(old, new)| (old.clone(), new.clone()));
            return Ok(Some(Step::Change(self.introduction(pairs.collect()))));
        }
        let is_noted = record.stage == Stage::Prepare;
        Ok((!is_noted).then(|| {
            Step::Note(self.note(|record| {
                record.stage = Stage::Prepare;
                let fresh = record.fresh.clone();
                want_again(record, |key| fresh.contains(key));
            }))
        }))
    }

    fn begin_rotate(self) -> Result<Step, Stop> {
        let record = self.record();
        self.admit(record.stage == Stage::Prepare && record.underway != Some(Command::Abort))?;
        let config = &self.facts.config;
        let writing = self.rotatable()?;
        if !record.fresh.is_empty() && record.fresh.iter().all(|key| config.has_key(key)) {
            return Ok(self.begin(|_| {}));
        }
        if !self.ask.how.force {
            return Err(missing_key(&record.fresh, |key| !config.has_key(key)));
        }
        // As k3s does it: the last key of the list, whoever put it there.
        let pairs: Vec<_> = writing
            .into_iter()
            .filter_map(|old| Some((self.last_beside(&old)?, old)))
            .collect();
        if pairs.is_empty() {
            return Err(Refusal::NoOtherKey.into());
        }
        let (fresh, retiring): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        Ok(self.begin(|record| {
            leave_behind(record, &retiring);
            record.started.clone_from(&self.ask.now);
            record.unused = false;
            (record.fresh, record.retiring, record.proved) = (fresh, retiring, None);
        }))
    }

    /// The last key of the provider that writes with `key`, if it is another.
    fn last_beside(self, key: &KeyId) -> Option<KeyId> {
        let providers = self
            .facts
            .config
            .entries
            .iter()
            .filter_map(|entry| entry.providers.first());
        let mut lasts = providers.filter(|provider| provider.key_ids().next().as_ref() == Some(key));
        lasts.find_map(|provider| provider.key_ids().last().filter(|last| last.name != key.name))
    }

    fn rotate(self) -> Result<Step, Stop> {
        Ok(match self.rotated()? {
            Some(step) => step,
            None => self.end(|_| {}),
        })
    }

    /// What is left to do until the new keys write, and the stage says so.
    fn rotated(self) -> Result<Option<Step>, Stop> {
        let record = self.record();
        let config = &self.facts.config;
        if let Some(gone) = record.fresh.iter().find(|key| !config.has_key(key)) {
            return Err(Refusal::KeyMissing(gone.clone()).into());
        }
        let behind = record.pairs().filter(|(old, new)| !config.leads(new, old));
        let behind: Vec<_> = behind.map(|(old, new)| (new.clone(), old.clone())).collect();
        if !behind.is_empty() {
            // From here on somebody writes with them.
            let keys: Vec<KeyId> = behind.iter().map(|(new, _)| new.clone()).collect();
            if let Some(step) = self.until_round_trip(&keys) {
                return Ok(Some(step));
            }
            return match self.facts.cannot_read(&keys) {
                // From the note on the keys count as ones that have written.
                None if (self.ask.how.force || self.all_loaded()) && record.unused => {
                    Ok(Some(Step::Note(self.note(|record| record.unused = false))))
                }
                None if self.ask.how.force || self.all_loaded() => Ok(Some(Step::Change(Change::Promote(behind)))),
                Some(member) if self.ask.how.force => Err(Refusal::Unreadable { member, keys }.into()),
                _ => Ok(Some(Step::Await)),
            };
        }
        let is_noted = record.stage == Stage::Rotate;
        Ok((!is_noted).then(|| Step::Note(self.note(|record| record.stage = Stage::Rotate))))
    }

    fn begin_reencrypt(self) -> Result<Step, Stop> {
        let record = self.record();
        let has_begun = matches!(record.stage, Stage::ReencryptRequest | Stage::ReencryptActive);
        // Where only a KMS writes, nothing is prepared or rotated here.
        let is_kms = record.stage.is_rest() && matches!(self.rotatable(), Err(Stop::Refused(Refusal::Kms(_))));
        let is_aborting = record.underway == Some(Command::Abort);
        if record.is_recovering() {
            // By force neither: it would forget which keys are to be taken out again.
            return Err(self.not_its_turn());
        }
        self.admit((has_begun || is_kms || record.stage == Stage::Rotate) && !is_aborting)?;
        self.can_be_read()?;
        Ok(self.begin(|record| {
            if !has_begun {
                record.stage = Stage::ReencryptRequest;
                record.proved = None;
            }
        }))
    }

    /// A sweep writes with what this configuration writes with.
    fn can_be_read(self) -> Result<(), Stop> {
        let keys = self.facts.config.writing();
        match self.facts.cannot_read(&keys) {
            None => Ok(()),
            Some(member) => Err(Refusal::Unreadable { member, keys }.into()),
        }
    }

    fn reencrypt(self) -> Result<Step, Stop> {
        let record = self.record();
        match record.stage {
            Stage::ReencryptRequest | Stage::ReencryptActive => self.reencrypted(),
            Stage::ReencryptFinished => Ok(self.end(|_| {})),
            // Taken back, or begun anew, by somebody who has not said so.
            _ => Err(Stop::Overtaken(None)),
        }
    }

    /// What is left to do until everything is under the new keys, and the old ones are gone.
    fn reencrypted(self) -> Result<Step, Stop> {
        let record = self.record();
        if record.stage == Stage::ReencryptRequest {
            return Ok(Step::Note(self.note(|record| record.stage = Stage::ReencryptActive)));
        }
        let writing = self.facts.config.writing();
        let finished = |skip: bool| {
            Step::Note(self.note(|record| {
                record.stage = Stage::ReencryptFinished;
                if skip {
                    record.kept.append(&mut record.retiring);
                } else {
                    record.kept.clear();
                }
                // By force before it ever wrote.
                let idle = record.fresh.iter().filter(|key| !writing.contains(key));
                record.kept.extend(idle.cloned().collect::<Vec<_>>());
                settle(record);
            }))
        };
        let is_going = |key: &&KeyId| !writing.contains(key) && self.facts.config.is_beside(key, &record.fresh);
        let old = record.retiring.iter().chain(&record.kept);
        let going = once_each(old.filter(is_going));
        if record.dropping && going.is_empty() {
            return Ok(finished(false));
        }
        let goes_on = self.all_loaded() || (self.ask.how.force && self.ask.how.skip);
        if !goes_on {
            return Ok(Step::Await);
        }
        if self.ask.how.skip || going.is_empty() {
            return match self.swept()? {
                Ok(()) => Ok(finished(self.ask.how.skip)),
                Err(step) => Ok(step),
            };
        }
        self.removed(going, Some(record.fresh.clone()))
    }

    /// Whether everything was written again under this configuration, or the step until then. Values that do not open are
    /// nobody's to write.
    pub(super) fn swept(self) -> Result<Result<(), Step>, Stop> {
        let Some(report) = &self.session.report else {
            return Ok(Err(Step::Sweep));
        };
        match Proof::of(report, self.facts) {
            Ok(_) | Err(NoProof::Undecryptable(_) | NoProof::Nothing) => Ok(Ok(())),
            Err(NoProof::MemberDiffers) if self.ask.how.force => Ok(Ok(())),
            Err(NoProof::KmsDiffers(dissent)) => Ok(Err(Step::AwaitKms(dissent))),
            Err(NoProof::OtherWork | NoProof::MemberChanged | NoProof::MemberDiffers | NoProof::Before) => {
                Ok(Err(Step::Sweep))
            }
            Err(NoProof::Stale) if self.session.sweeps < STALE_SWEEPS => Ok(Err(Step::Sweep)),
            Err(why @ NoProof::Stale) => Err(Stop::NotProved(why)),
        }
    }

    /// The steps until `keys` are gone from beside `others`, or from wherever they read where there are none.
    ///
    /// In this order: it is noted that they are going; the epoch is replaced, which the sweep does before it proves; nothing that
    /// is stored needs them, by a proof of the time after that. So a process that may write after the proof has read an epoch
    /// that began behind the note, and looks at the note after it has read the epoch: it does not write with them.
    ///
    /// A process reads the epoch and the note of its own store alone. So each store has a note and an epoch of its own, and that
    /// order holds in each of them.
    pub(super) fn removed(self, keys: Vec<KeyId>, others: Option<Vec<KeyId>>) -> Result<Step, Stop> {
        let record = self.record();
        let is_noted = |key: &KeyId| record.dropped.contains(key) && record.removed.contains(key);
        if !record.dropping || !keys.iter().all(is_noted) {
            return Ok(Step::Note(self.note(|record| record.drop_keys(&keys))));
        }
        if !self.session.is_settled {
            return Ok(Step::Settle);
        }
        let Some(report) = &self.session.report else {
            return Ok(Step::Sweep);
        };
        let proof = match Proof::after(report, self.facts, self.session.going_since) {
            Ok(proof) => proof,
            Err(NoProof::KmsDiffers(dissent)) => return Ok(Step::AwaitKms(dissent)),
            Err(NoProof::OtherWork | NoProof::MemberChanged | NoProof::MemberDiffers | NoProof::Before) => {
                return Ok(Step::Sweep);
            }
            Err(NoProof::Stale) if self.session.sweeps < STALE_SWEEPS => return Ok(Step::Sweep),
            Err(why @ (NoProof::Stale | NoProof::Nothing | NoProof::Undecryptable(_))) => {
                return Err(Stop::NotProved(why));
            }
        };
        if !self.is_after_notes_beside() {
            // The sweep notes what is not noted there.
            return Ok(Step::Sweep);
        }
        if let Some(step) = self.uncovered(report, &keys)? {
            return Ok(step);
        }
        let earlier = record.proved.as_ref().filter(|proved| {
            // What was true then, needed no write since, and nobody new was there, has been true all the while.
            let is_same = proved.configuration == report.configuration && report.counts.rewritten == 0;
            is_same && self.facts.roster.changed() <= proved.revision
        });
        let revision = earlier.map_or(report.revisions.proof_to, |proved| proved.revision);
        let proved = Some(Proved {
            configuration: report.configuration.clone(),
            revision,
        });
        if record.proved != proved {
            return Ok(Step::Note(self.note(|record| record.proved = proved)));
        }
        // Keys that were never put first, and that nothing bears, stand in no history either.
        let is_nowhere =
            record.unused && report.counts.rewritten == 0 && keys.iter().all(|key| record.fresh.contains(key));
        if !self.facts.is_history_gone && !is_nowhere {
            return Ok(Step::AwaitHistory(revision));
        }
        // From here on nobody takes it back: whoever would, sees this, or has written the record since this process read it.
        if !record.removing {
            return Ok(Step::Note(self.note(|record| record.removing = true)));
        }
        Ok(Step::Remove {
            proof,
            keys,
            beside: others,
        })
    }

    /// Whether in each other store, too, the epoch was replaced after it was noted there which keys are going. It may not have
    /// been: a sweep that a process there had left at its proof replaced it earlier.
    fn is_after_notes_beside(self) -> bool {
        let (stores, reports) = (&self.facts.beside, &self.session.beside);
        let mut both = stores.iter().zip(reports);
        let is_after = |(beside, report): (&Beside, &Report)| {
            let noted = beside.noted(&self.record().removed);
            noted.is_some_and(|noted| Proof::is_after(report, noted))
        };
        stores.len() == reports.len() && both.all(is_after)
    }

    /// `rotate-keys` and `migrate`: each of the three, with waiting between them.
    fn all(self) -> Result<Step, Stop> {
        let record = self.record();
        match record.stage {
            Stage::ReencryptFinished if record.fresh.is_empty() => Ok(self.end(|_| {})),
            Stage::Start | Stage::ReencryptFinished => self.prepared()?.ok_or(Stop::Overtaken(None)),
            Stage::Prepare | Stage::Rotate if !self.all_loaded() => Ok(Step::Await),
            Stage::Prepare => self.rotated()?.ok_or(Stop::Overtaken(None)),
            Stage::Rotate => Ok(Step::Note(self.note(|record| {
                record.stage = Stage::ReencryptRequest;
                record.proved = None;
            }))),
            Stage::ReencryptRequest | Stage::ReencryptActive => self.reencrypted(),
        }
    }
}

/// The same without repetitions.
pub(in crate::rotation) fn once_each<'a>(keys: impl Iterator<Item = &'a KeyId>) -> Vec<KeyId> {
    let mut found: Vec<KeyId> = Vec::new();
    for key in keys {
        if !found.contains(key) {
            found.push(key.clone());
        }
    }
    found
}

/// What an earlier rotation, which was not brought to its end, leaves to be removed with the next keys.
fn leave_behind(record: &mut Record, retiring: &[KeyId]) {
    let (fresh, old) = (std::mem::take(&mut record.fresh), std::mem::take(&mut record.retiring));
    let recovered = std::mem::take(&mut record.recovered);
    for key in fresh.into_iter().chain(old).chain(recovered) {
        if !retiring.contains(&key) && !record.kept.contains(&key) {
            record.kept.push(key);
        }
    }
    record.kept.retain(|key| !retiring.contains(key));
    record.listed.clear();
    (record.dropping, record.removing) = (false, false);
}

/// Nothing is rotating any more.
pub(super) fn settle(record: &mut Record) {
    record.fresh.clear();
    record.listed.clear();
    record.retiring.clear();
    (record.dropping, record.removing) = (false, false);
}

fn missing_key(keys: &[KeyId], is_missing: impl FnMut(&&KeyId) -> bool) -> Stop {
    let missing = keys.iter().find(is_missing).cloned();
    missing.map_or(Refusal::NoOtherKey, Refusal::KeyMissing).into()
}
