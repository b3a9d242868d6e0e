//! That no stored value needs any key but those that write: only a complete, clean report says so, and only if everybody
//! who could write had loaded the same before it was taken.

use std::fmt;

use thiserror::Error;

use super::facts::Facts;
use super::machine::Command;
use crate::config::{Draft, KeyId, ProviderType};
use crate::inventory::Under;
use crate::members::{Dissent, Loaded};
use crate::sweep::{Finding, Report, State};
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
    /// Some values do not open, or cannot be written again, and no sweep changes that.
    #[error("{0}")]
    Undecryptable(Stuck),
}

/// Values that stay as they are, however often it is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// That do not open.
    pub undecryptable: u64,
    /// That cannot be written again: too large for etcd, say.
    pub refused: u64,
}

impl Stuck {
    /// Those of `report`, if there are any and nothing else is left to be written.
    fn of(report: &Report) -> Option<Self> {
        let objects = |wanted: &[State]| -> u64 {
            let lines = report.inventory.iter().filter(|line| wanted.contains(&line.row.state));
            lines.map(|line| line.objects).sum()
        };
        let stuck = Self {
            undecryptable: report.counts.undecryptable,
            refused: objects(&[State::Stale, State::Plaintext]),
        };
        // Whoever wrote others meanwhile, those can be written.
        let is_all = stuck.refused <= report.counts.refused;
        (is_all && stuck.undecryptable + stuck.refused > 0).then_some(stuck)
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unopened = match self.undecryptable {
            1 => "1 value does not open".to_owned(),
            count => format!("{count} values do not open"),
        };
        let unwritten = match self.refused {
            1 => "1 value cannot be written again".to_owned(),
            count => format!("{count} values cannot be written again"),
        };
        match (self.undecryptable, self.refused) {
            (_, 0) => f.write_str(&unopened),
            (0, _) => f.write_str(&unwritten),
            _ => write!(f, "{unopened} and {unwritten}"),
        }
    }
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
            paths: facts.paths.clone(),
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
            Finding::Stale | Finding::Undecryptable => match Stuck::of(report) {
                None => Err(NoProof::Stale),
                Some(stuck) if stuck.undecryptable == 0 && needs_none_of_the_new(report, facts) => {
                    Ok(Self { configuration })
                }
                Some(_) if needs_none_of_the_recovered(report, facts) => Ok(Self { configuration }),
                Some(stuck) => Err(NoProof::Undecryptable(stuck)),
            },
        }
    }

    /// The same, of the time after the revision `noted`, at which etcd said which keys are going: what was sealed before the
    /// sweep replaced the epoch is refused, and what is sealed behind that is not sealed with one of these.
    ///
    /// # Errors
    /// Nothing, and why.
    pub fn after(report: &Report, facts: &Facts, noted: Option<i64>) -> Result<Self, NoProof> {
        if !noted.is_some_and(|noted| Self::is_after(report, noted)) {
            return Err(NoProof::Before);
        }
        Self::of(report, facts)
    }

    /// Whether the sweep of `report` replaced the epoch of its store after that store's revision `noted`.
    pub(super) fn is_after(report: &Report, noted: i64) -> bool {
        report.revisions.epoch.is_some_and(|epoch| epoch > noted)
    }

    /// The configuration that `facts` have, without `keys` wherever one of `beside` is listed too, or they read.
    ///
    /// # Errors
    /// The proof is of another configuration.
    pub fn remove(self, facts: &Facts, keys: &[KeyId], beside: Option<&[KeyId]>) -> Result<Draft, NoProof> {
        if facts.config.fingerprint != self.configuration {
            return Err(NoProof::OtherWork);
        }
        let writing = facts.config.writing();
        let removable: Vec<_> = keys.iter().filter(|key| !writing.contains(key)).cloned().collect();
        let mut draft = Draft::of(&facts.config);
        match beside {
            Some(beside) => draft.remove(&removable, beside),
            None => draft.remove_readers(&removable),
        }
        Ok(draft)
    }
}

/// Whether keys that `recover` lists are to be taken out, and none of them opens a value that was found and left where it was. What
/// does not open needs none of them, whatever name it bears: they were tried for it.
fn needs_none_of_the_recovered(report: &Report, facts: &Facts) -> bool {
    let record = &facts.record;
    let is_recovered = |under: &Under| {
        let mut keys = record.recovered.iter();
        *under == Under::others()
            || keys.any(|key| key.provider.as_str() == under.provider && key.name.as_str() == under.key)
    };
    let opens = report
        .inventory
        .iter()
        .filter(|line| line.row.state != State::Undecryptable);
    let mut found = opens.filter(|line| line.objects > 0);
    record.is_recovering() && !found.any(|line| is_recovered(&line.row.under))
}

/// Whether a rotation is taken back, and no value that was found is under a key which that takes away. What cannot be written
/// again is then where it was before: in the clear, or under an older key.
fn needs_none_of_the_new(report: &Report, facts: &Facts) -> bool {
    let record = &facts.record;
    let is_new = |provider: &str, name: &str| {
        let mut fresh = record.fresh.iter();
        fresh.any(|key| {
            let is_it = key.name.as_str() == name || key.provider == ProviderType::Identity;
            key.provider.as_str() == provider && is_it
        })
    };
    // Where there are too many rows to tell them apart, one of those could be.
    let others = Under::others();
    let mut found = report.inventory.iter().filter(|line| line.objects > 0);
    let may_need = found.any(|line| {
        let under = &line.row.under;
        *under == others || is_new(&under.provider, &under.key)
    });
    record.underway == Some(Command::Abort) && !may_need
}
