//! The next step of a rotation, decided by the record, the configuration and what this driver's own sweep has seen. Between the
//! look and the step anything may happen, to this driver as well.
//!
//! It waits for nobody: neither for members to load a configuration nor for their records to end. So whatever holds here does
//! not depend on that, nor on any lease.

use crate::model::Protocol;
use crate::setup::Setup;
use crate::state::{Command, Config, Doing, Key, Record, State, Step, Sweep};

/// Reads the configuration and decides. Where nothing is left to do, it looks again.
pub fn decide(setup: &Setup, state: &mut State, index: usize, is_asked_to_abort: bool) -> Option<()> {
    let Doing::Read(record) = state.drivers[index].doing else {
        return None;
    };
    let newest = Protocol::newest(state);
    let facts = Facts {
        setup,
        record,
        fingerprint: newest.fingerprint,
        config: newest.config,
        sweep: state.drivers[index].sweep,
    };
    let step = if is_asked_to_abort {
        facts.begin_abort()?
    } else {
        facts.next()
    };
    let driver = &mut state.drivers[index];
    driver.doing = step.map_or(Doing::Nothing, Doing::Decided);
    if driver.sweep.is_none() && step.is_none() && !setup.rules.proof_follows_epoch {
        // With the order broken, the proof begins here.
        driver.sweep = facts.record.dropped.map(|key| facts.begun(key));
    }
    Some(())
}

/// The proof reads one object.
pub fn prove(setup: &Setup, state: &mut State, index: usize) -> Option<()> {
    let sweep = state.drivers[index].sweep.as_mut()?;
    let may_begin = sweep.has_moved || !setup.rules.proof_follows_epoch;
    if !may_begin || sweep.proved >= setup.bounds.objects {
        return None;
    }
    // One that needs the key still is rewritten first. A sweep that begins anew for it sees no less than one that waits.
    let value = state.store.values[usize::from(sweep.proved)];
    if value.key == sweep.key {
        return None;
    }
    sweep.proved += 1;
    Some(())
}

struct Facts<'a> {
    setup: &'a Setup,
    record: Record,
    fingerprint: u8,
    config: Config,
    sweep: Option<Sweep>,
}

impl Facts<'_> {
    /// The command is noted, and the old key may write again at once: it is listed, and nobody removes it on what the record
    /// said before.
    #[expect(clippy::option_option, reason = "refused, or nothing left to do")]
    fn begin_abort(&self) -> Option<Option<Step>> {
        let is_nothing = matches!(self.config, Config::OldOnly | Config::NewOnly);
        if is_nothing || self.record.removing {
            return None;
        }
        Some(self.note(|record| {
            record.command = Command::Abort;
            (record.dropped, record.proved) = (None, None);
        }))
    }

    fn next(&self) -> Option<Step> {
        match (self.record.command, self.config) {
            (Command::Rotate, Config::OldOnly) | (Command::Abort, Config::NewWrites) => self.replace(Config::OldWrites),
            (Command::Rotate, Config::OldWrites) => self.replace(Config::NewWrites),
            (Command::Rotate, Config::NewWrites) => self.drop_key(Key::Old),
            (Command::Abort, Config::OldWrites) => self.drop_key(Key::New),
            (_, Config::NewOnly) | (Command::Abort, Config::OldOnly) => None,
        }
    }

    /// The steps until `key` is gone.
    fn drop_key(&self, key: Key) -> Option<Step> {
        let rules = self.setup.rules;
        let is_of_record = |sweep: &Sweep| {
            let is_first = rules.drop_is_noted_first && rules.sweep_is_of_the_record;
            !is_first || sweep.noted == self.record.revision
        };
        let is_of_this = |sweep: &Sweep| sweep.fingerprint == self.fingerprint && sweep.key == key;
        let sweep = self.sweep.filter(|sweep| is_of_this(sweep) && is_of_record(sweep));
        let is_noted = self.record.dropped == Some(key);
        if !is_noted && (rules.drop_is_noted_first || sweep.is_some_and(|sweep| sweep.has_moved)) {
            return self.note(|record| (record.dropped, record.proved, record.removing) = (Some(key), None, false));
        }
        if self.record.proved == Some(self.fingerprint) || !rules.removal_needs_proof {
            return if self.record.removing || !rules.removal_is_noted_first {
                self.replace(Config::only(key.other()))
            } else {
                self.note(|record| record.removing = true)
            };
        }
        let sweep = sweep.unwrap_or_else(|| self.begun(key));
        let is_proved = sweep.proved == self.setup.bounds.objects;
        match sweep.has_moved {
            true if is_proved => self.note(|record| record.proved = Some(self.fingerprint)),
            false if is_proved || rules.proof_follows_epoch => Some(Step::Move(sweep)),
            // Objects are left to read.
            _ => None,
        }
    }

    fn begun(&self, key: Key) -> Sweep {
        Sweep {
            fingerprint: self.fingerprint,
            key,
            noted: self.record.revision,
            has_moved: false,
            proved: 0,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "a step, where there may be none")]
    fn replace(&self, next: Config) -> Option<Step> {
        Some(Step::Replace(self.fingerprint, next))
    }

    #[expect(clippy::unnecessary_wraps, reason = "a step, where there may be none")]
    fn note(&self, change: impl FnOnce(&mut Record)) -> Option<Step> {
        let mut record = self.record;
        change(&mut record);
        Some(Step::Note(self.record.revision, record))
    }
}
