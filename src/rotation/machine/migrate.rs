//! `migrate`: another provider takes over, in the steps of a rotation. What is its own is the beginning, which names what follows
//! each writer, and that a plugin has to have given back to every member what it wrapped before anything is written with it.

use super::{Change, Command, Context, Step, Stop};
use crate::config::{Conflict, KeyId};
use crate::rotation::record::Record;
use crate::rotation::refusal::Refusal;

impl Context<'_> {
    pub(super) fn begin_migrate(self) -> Result<Step, Stop> {
        let record = self.record();
        self.admit(record.stage.is_rest() && record.underway != Some(Command::Abort))?;
        let Some(to) = &self.ask.how.to else {
            return Err(Refusal::NoTarget.into());
        };
        let config = &self.facts.config;
        let found = to.migration(config, |of, taken| self.new_key(of, taken));
        let found = found.map_err(Refusal::from)?;
        let listed = found.pairs.iter().map(|(_, new)| new).filter(|new| config.has_key(new));
        let listed: Vec<KeyId> = listed.chain(&found.already).cloned().collect();
        let (retiring, mut fresh): (Vec<_>, Vec<_>) = found.pairs.into_iter().unzip();
        // What writes already has no pair: what an earlier rotation left beside it goes too.
        fresh.extend(found.already);
        Ok(self.begin(|record| {
            self.renew(record, fresh, retiring);
            // What was listed before may have written.
            record.unused &= listed.is_empty();
            record.listed = listed;
        }))
    }

    /// The same command is under way, and goes over to something else.
    pub(super) fn is_of_other_target(self) -> bool {
        self.ask.command == Command::Migrate && self.record().how.to != self.ask.how.to
    }

    /// How the new ones that the configuration lacks come into it.
    pub(super) fn introduction(self, missing: Vec<(KeyId, KeyId)>) -> Change {
        match &self.ask.how.to {
            // A name of a plugin is one rule's, so that which one lacks it is told by all pairs.
            Some(to) => {
                let pairs = self.record().pairs().map(|(old, new)| (old.clone(), new.clone()));
                Change::Introduce(pairs.collect(), to.clone())
            }
            None => Change::Append(missing),
        }
    }

    /// Until every member has had a key wrapped by each plugin among `keys` and given back.
    pub(super) fn until_round_trip(self, keys: &[KeyId]) -> Option<Step> {
        self.facts.without_round_trip(keys).map(Step::AwaitRoundTrip)
    }

    /// Whether what the command takes back came with it: a key by its name, since names are not given twice; anything else
    /// unless it was listed before.
    pub(super) fn is_own(self, key: &KeyId) -> bool {
        let record = self.record();
        match key.key_type() {
            Some(_) => record.names.iter().any(|name| name == key.name.as_str()),
            None => !record.listed.contains(key),
        }
    }
}

/// What is listed, and about to write, is wanted again, whatever became of it before. Not earlier: a process that writes with it would
/// write what nobody reads.
pub(super) fn want_again(record: &mut Record, is_listed: impl Fn(&KeyId) -> bool) {
    if !record.removing {
        record.dropped.retain(|key| !is_listed(key));
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}
