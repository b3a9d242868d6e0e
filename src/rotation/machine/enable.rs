//! `enable` and `disable`: identity last or first. Each in two steps where members could not yet read what would be
//! written; the stage stays what it is.

use super::migrate::want_again;
use super::{Change, Command, Context, Step, Stop, Turn};
use crate::config::{Draft, KeyId, KeyType, Provider};

impl Context<'_> {
    pub(super) fn switch(self) -> Result<Step, Stop> {
        match self.turn()? {
            Turn::Begin => {
                self.refuse_mismatch()?;
                Ok(self.begin(|_| {}))
            }
            Turn::Over => Ok(Step::Finish(None)),
            Turn::Continue if self.ask.command == Command::Enable => Ok(self.enable()),
            Turn::Continue => Ok(self.disable()),
        }
    }

    fn enable(self) -> Step {
        if self.is_bare() {
            return Step::Change(Change::AddProvider(self.new_key(KeyType::AesCbc, &[])));
        }
        if self.is_changed(Draft::identity_last) {
            // What is read already may be written, once everybody reads it.
            return self.once_loaded(Change::IdentityLast);
        }
        self.end(|_| {})
    }

    fn disable(self) -> Step {
        if self.is_changed(Draft::add_identity) {
            return Step::Change(Change::AddIdentity);
        }
        if self.is_changed(Draft::identity_first) {
            // What an earlier command took out is wanted again; it is listed, so that whoever writes with it can be read.
            let is_listed = |key: &KeyId| self.facts.config.has_key(key);
            let mut dropped = self.record().dropped.iter();
            if !self.record().removing && dropped.any(is_listed) {
                return Step::Note(self.note(|record| want_again(record, is_listed)));
            }
            return self.once_loaded(Change::IdentityFirst);
        }
        self.end(|_| {})
    }

    /// Whether no entry has anything that it could encrypt with.
    fn is_bare(self) -> bool {
        let mut providers = self.facts.config.entries.iter().flat_map(|entry| &entry.providers);
        providers.all(|provider| *provider == Provider::Identity)
    }

    fn is_changed(self, change: impl FnOnce(&mut Draft)) -> bool {
        let mut draft = Draft::of(&self.facts.config);
        change(&mut draft);
        draft.differs_from(&self.facts.config)
    }

    fn once_loaded(self, change: Change) -> Step {
        if self.all_loaded() {
            Step::Change(change)
        } else {
            Step::Await
        }
    }
}
