//! A command that nobody has asked for: decided by how things stood, and begun only if they still stand so. Between the decision and
//! the beginning a process may be held up for as long as somebody else takes for a whole rotation.

use super::run::Run;
use super::{Audience, Driver, Outcome, Site};
use crate::rotation::facts::Facts;
use crate::rotation::machine::Ask;
use crate::rotation::{Error, Source};
use crate::types::Fingerprint;

/// What was decided by. No rotation is begun, goes on or ends without writing the record, so none has where that is of the same
/// revision; and it is of that revision when the beginning is noted, which etcd compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The revision at which the record was written; 0 where there was none.
    revision: i64,
    /// The configuration.
    configuration: Fingerprint,
}

impl Decided {
    /// By these facts, of the record of `revision`.
    pub fn by(facts: &Facts, revision: i64) -> Self {
        Self {
            revision,
            configuration: facts.config.fingerprint,
        }
    }
}

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// Carries out what is asked for, if that is still what was `decided`.
    ///
    /// # Errors
    /// As [`Driver::run`]; [`Error::Overtaken`] where nothing was begun, since things are no longer as they were.
    pub async fn run_decided(&self, ask: &Ask, decided: Decided) -> Result<Outcome, Error> {
        self.run_from(Run::new(ask).decided(decided)).await
    }
}
