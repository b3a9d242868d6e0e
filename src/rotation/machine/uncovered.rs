//! Before keys go: that nothing needs them which no sweep brings under another key. A sweep proves it of what the rules of the
//! configuration cover. A resource that was taken out of the rules, or a prefix that is no longer given, keeps its values.

use super::rotation::STALE_SWEEPS;
use super::{Context, Step, Stop};
use crate::config::KeyId;
use crate::sweep::Report;

impl Context<'_> {
    /// What is left to do until it is known that nothing needs `keys`: beside the proof, which `report` is.
    ///
    /// # Errors
    /// Something does.
    pub(super) fn uncovered(self, report: &Report, keys: &[KeyId]) -> Result<Option<Step>, Stop> {
        let configuration = self.facts.config.fingerprint;
        // Nobody writes with these keys any more when the proof begins. So what is read later shows all that there will be.
        let proof_from = report.revisions.proof_from;
        let beside = self.session.beside.iter().map(|report| report.revisions.proof_from);
        let beside: Vec<i64> = beside.collect();
        let looked = self.session.uncovered.as_ref();
        let Some(looked) = looked.filter(|looked| looked.is_of(configuration, keys, proof_from, &beside)) else {
            return Ok(Some(Step::Look(keys.to_vec())));
        };
        let found = if self.record().is_recovering() {
            // Others may bear their names, and need other bytes: those are named in the end.
            looked.opened_in_the_way()
        } else {
            looked.in_the_way()
        };
        match found {
            None => Ok(None),
            // Written behind the proof: the next sweep takes it along.
            Some(found) if found.is_covered() && self.session.sweeps < STALE_SWEEPS => Ok(Some(Step::Sweep)),
            Some(found) => Err(Stop::Uncovered(Box::new(found))),
        }
    }
}
