//! What one process knows of the command that it carries out, beside the facts: what it has begun, waited for and seen.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use super::Outcome;
use super::decided::Decided;
use crate::config::KeyId;
use crate::etcd::REQUEST_TIMEOUT;
use crate::proxy::SEALED_FOR;
use crate::rotation::Error;
use crate::rotation::facts::Facts;
use crate::rotation::machine::{Ask, Change, Session};
use crate::rotation::recovery::Recovery;
use crate::types::Fingerprint;

/// How long a write without a fence is taken to be on its way to etcd after it was sealed. A bound by time: it holds only where
/// no clock, kernel or network stands still, which is why there is a fence.
const SETTLE: Duration = SEALED_FOR.saturating_add(REQUEST_TIMEOUT);

/// Changes of one command by which more can be read: each key that shares its name with another has one of its own.
const MAX_ROUNDS: u32 = 20;

/// One command's way.
pub(super) struct Run<'a> {
    pub(super) ask: &'a Ask,
    pub(super) session: Session,
    pub(super) outcome: Outcome,
    pub(super) lost: u32,
    rounds: u32,
    /// It has said that re-encryption starts.
    pub(super) has_started: bool,
    pub(super) waiting: RefCell<Option<Waiting>>,
    agreed: Option<Agreed>,
    /// Keys that the record says are going, and its revision when that was first seen.
    going: Option<(Vec<KeyId>, i64)>,
    /// What it was decided by that the command begins, where nobody has asked for it.
    decided: Option<Decided>,
}

/// What everybody who is there has loaded, as of which change of their records, and since when that is known.
struct Agreed {
    on: Fingerprint,
    as_of: i64,
    since: Instant,
}

/// What is waited for, since when, and when that was last said.
pub(super) struct Waiting {
    pub(super) what: &'static str,
    pub(super) since: Instant,
    pub(super) said: Option<(Instant, String)>,
}

impl<'a> Run<'a> {
    pub(super) fn new(ask: &'a Ask) -> Self {
        Self {
            ask,
            session: Session::default(),
            outcome: Outcome::default(),
            lost: 0,
            rounds: 0,
            has_started: false,
            waiting: RefCell::new(None),
            agreed: None,
            going: None,
            decided: None,
        }
    }

    /// The same, which begins only as long as that is what there is.
    pub(super) fn decided(self, decided: Decided) -> Self {
        let decided = Some(decided);
        Self { decided, ..self }
    }

    /// Whether it was decided by what is there no more, and has not begun.
    pub(super) fn is_outdated(&self, facts: &Facts, revision: i64) -> bool {
        let mut decided = self.decided.iter();
        self.session.begun.is_none() && decided.any(|decided| *decided != Decided::by(facts, revision))
    }

    /// Counts a change by which more can be read: what follows it is swept for anew.
    ///
    /// # Errors
    /// There is no end of them.
    pub(super) fn is_more_to_read(&mut self, change: &Change) -> Result<(), Error> {
        if matches!(change, Change::ReadWith(_)) {
            self.rounds += 1;
            self.session.sweeps = 0;
            if self.rounds > MAX_ROUNDS {
                return Err(Error::Unsettled);
            }
        }
        Ok(())
    }

    /// What no key at hand opens, by the last search.
    pub(super) fn left(&self) -> Vec<String> {
        self.session.recovery.as_ref().map_or_else(Vec::new, Recovery::left)
    }

    /// Notes what the record of `revision` says of keys that are going, and for how long everybody has agreed: that is of account
    /// where somebody writes without a fence. Where nobody is, nobody has anything on its way: a process is gone from the records
    /// only when it has ended its calls, or after a lease that is longer than any of them.
    pub(super) fn look(&mut self, facts: &Facts, revision: i64) {
        let record = &facts.record;
        let is_known = |(keys, _): &(Vec<KeyId>, i64)| record.dropping && *keys == record.removed;
        if !self.going.as_ref().is_some_and(is_known) {
            self.going = record.dropping.then(|| (record.removed.clone(), revision));
        }
        self.session.going_since = self.going.as_ref().map(|(_, since)| *since);
        let (on, as_of) = (facts.config.fingerprint, facts.roster.changed());
        if facts.dissent().is_some() {
            self.agreed = None;
        } else if !self
            .agreed
            .as_ref()
            .is_some_and(|agreed| agreed.on == on && agreed.as_of == as_of)
        {
            let since = Instant::now();
            self.agreed = Some(Agreed { on, as_of, since });
        }
        let agreed = self.agreed.as_ref();
        self.session.is_settled =
            facts.roster.is_fenced() || agreed.is_some_and(|agreed| agreed.since.elapsed() >= SETTLE);
    }
}
