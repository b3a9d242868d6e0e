//! That no stored value needs any key but those that write: only a complete, clean report says so, and only if everybody
//! who could write had loaded the same before it was taken.

use thiserror::Error;

use super::facts::Facts;
use crate::config::{Draft, KeyId};
use crate::members::{Dissent, Loaded};
use crate::sweep::{Finding, Report};
use crate::types::Fingerprint;

/// The proof, of one configuration. Nothing else lets a key be removed.
#[derive(Debug)]
pub struct Proof {
    configuration: Fingerprint,
}

/// Why a report proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoProof {
    /// It is of something else, or of a part.
    #[error("the configuration has changed since the sweep")]
    OtherWork,
    /// Somebody could still have written with another configuration when it was taken.
    #[error("a member has loaded its configuration only since the sweep began to look")]
    MemberChanged,
    /// What was sealed before it was noted that keys are going could still have arrived when it was taken.
    #[error("the sweep began to look before it was noted which keys are going")]
    Before,
    /// Not all members have loaded the configuration.
    #[error("not every member has loaded the configuration")]
    MemberDiffers,
    /// Some values are not as their rules write them.
    #[error("values were found that are not as their rules write them")]
    Stale,
    /// Somebody writes under another key of a KMS.
    #[error("{0}")]
    KmsDiffers(Dissent),
    /// There is no value at all, and nobody who could say that this is the right place to look.
    #[error("no value was found under any rule")]
    Nothing,
    /// Some values do not open.
    #[error("{0} values do not open")]
    Undecryptable(u64),
}

impl Proof {
    /// What `report` proves, as the facts are now.
    ///
    /// # Errors
    /// Nothing, and why.
    pub fn of(report: &Report, facts: &Facts) -> Result<Self, NoProof> {
        let configuration = facts.config.fingerprint;
        if report.configuration != configuration.to_string() || report.is_dry_run || report.is_partial {
            return Err(NoProof::OtherWork);
        }
        if facts.dissent().is_some() {
            return Err(NoProof::MemberDiffers);
        }
        // A member may not have seen yet that the KMS has another key, and write under the one before.
        let loaded = Loaded {
            configuration: report.configuration.clone(),
            prefixes: facts.prefixes.clone(),
            kms: report.kms.clone(),
        };
        if let Some(dissent) = facts.roster.others_write(&loaded) {
            return Err(NoProof::KmsDiffers(dissent));
        }
        // Whoever is here has loaded just this since before the proof's first page was read.
        if facts.roster.changed() > report.revisions.proof_from {
            return Err(NoProof::MemberChanged);
        }
        match report.finding {
            Finding::Clean if report.counts.scanned == 0 && facts.roster.is_empty() => Err(NoProof::Nothing),
            Finding::Clean => Ok(Self { configuration }),
            Finding::Stale => Err(NoProof::Stale),
            Finding::Undecryptable => Err(NoProof::Undecryptable(report.counts.undecryptable)),
        }
    }

    /// The same, of the time after the revision `noted`, at which etcd said which keys are going: what was sealed before the
    /// sweep replaced the epoch is refused, and what is sealed behind that is not sealed with one of these.
    ///
    /// # Errors
    /// Nothing, and why.
    pub fn after(report: &Report, facts: &Facts, noted: Option<i64>) -> Result<Self, NoProof> {
        let is_after = |noted| report.revisions.epoch.is_some_and(|epoch| epoch > noted);
        if !noted.is_some_and(is_after) {
            return Err(NoProof::Before);
        }
        Self::of(report, facts)
    }

    /// The configuration that `facts` have, without `keys` wherever one of `beside` is listed too.
    ///
    /// # Errors
    /// The proof is of another configuration.
    pub fn remove(self, facts: &Facts, keys: &[KeyId], beside: &[KeyId]) -> Result<Draft, NoProof> {
        if facts.config.fingerprint != self.configuration {
            return Err(NoProof::OtherWork);
        }
        let writing = facts.config.writing_keys();
        let removable: Vec<_> = keys.iter().filter(|key| !writing.contains(key)).cloned().collect();
        let mut draft = Draft::of(&facts.config);
        draft.remove(&removable, beside);
        Ok(draft)
    }
}
