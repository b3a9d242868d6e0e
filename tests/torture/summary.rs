//! What a run came to, in words and numbers. Its last line is `N passed, N failed`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::edited::Edited;
use super::restored::Restored;
use super::verdict::Verdict;

/// Keys that are named for each finding; the others are counted.
const NAMED: usize = 5;

/// A run.
#[derive(Debug, Default)]
pub struct Summary {
    pub again: String,
    pub took: Duration,
    pub rounds: Vec<Round>,
    pub restored: Vec<Restored>,
    pub edited: Vec<Edited>,
    pub faults: BTreeMap<&'static str, usize>,
    pub commands: BTreeMap<(String, String), usize>,
    /// Without kube-apiserver's reader and without porcupine.
    pub lacks_checker: bool,
    pub lacks_namespaces: bool,
    /// Why clocks cannot be stepped.
    pub lacks_clocks: Option<String>,
}

/// One round of it.
#[derive(Debug)]
pub struct Round {
    pub name: String,
    /// Since the run's start, when it was judged.
    pub at: Duration,
    pub verdict: Verdict,
}

impl Round {
    /// Each check, and whether it passed.
    pub fn checks(&self) -> Vec<(&'static str, bool)> {
        let verdict = &self.verdict;
        let mut checks = vec![
            ("nothing acknowledged is lost", verdict.lost.is_empty()),
            (
                "every value reads back through every proxy",
                verdict.unreadable.is_empty(),
            ),
            ("no client was given ciphertext", verdict.ciphertext == 0),
            (
                "rotations and checks come to an end, and no proxy does",
                verdict.other.is_empty(),
            ),
        ];
        if let Some(wrong) = &verdict.unreadable_by_others {
            checks.push(("kube-apiserver's code reads every value", wrong.is_empty()));
            checks.push(("what clients saw is linearizable", verdict.illegal.is_empty()));
        }
        checks
    }
}

impl Summary {
    pub fn is_good(&self) -> bool {
        !self.rounds.is_empty() && self.counts().1 == 0
    }

    /// Checks passed and failed.
    fn counts(&self) -> (usize, usize) {
        let all: Vec<bool> = self
            .rounds
            .iter()
            .flat_map(Round::checks)
            .map(|(_, passed)| passed)
            .chain(self.restored.iter().map(|restored| restored.wrong.is_empty()))
            .chain(self.edited.iter().map(|edited| edited.wrong.is_empty()))
            .collect();
        let passed = all.iter().filter(|passed| **passed).count();
        (passed, all.len() - passed)
    }

    fn sum(&self, of: impl Fn(&Verdict) -> usize) -> usize {
        self.rounds.iter().map(|round| of(&round.verdict)).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "torture: {}", self.again)?;
        writeln!(f, "  {} rounds in {:.0} s", self.rounds.len(), self.took.as_secs_f64())?;
        let faults: Vec<_> = self
            .faults
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        writeln!(f, "  faults: {}", faults.join(", "))?;
        if self.lacks_namespaces {
            writeln!(
                f,
                "  left out: dropped packets (network namespaces take root and iproute2)"
            )?;
        }
        if let Some(why) = &self.lacks_clocks {
            writeln!(f, "  left out: stepped clocks ({why})")?;
        }
        if self.lacks_checker {
            writeln!(
                f,
                "  left out: kube-apiserver's reader and porcupine (TORTURE_CHECKER=none)"
            )?;
        }
        for ((command, how), count) in &self.commands {
            writeln!(f, "  {count:4} × {command}: {how}")?;
        }
        writeln!(
            f,
            "  writes: {} acknowledged, {} ambiguous, {} failed",
            self.sum(|verdict| verdict.acknowledged),
            self.sum(|verdict| verdict.ambiguous),
            self.sum(|verdict| verdict.failed)
        )?;
        let others = |verdict: &Verdict| verdict.unreadable_by_others.as_ref().map_or(0, BTreeMap::len);
        writeln!(
            f,
            "  of {} keys: {} lost, {} unreadable by proxies, {} by kube-apiserver's code; {} linearizable, {} not, {} unknown",
            self.sum(|verdict| verdict.keys),
            self.sum(|verdict| verdict.lost.len()),
            self.sum(|verdict| verdict.unreadable.len()),
            self.sum(others),
            self.sum(|verdict| verdict.linearizable),
            self.sum(|verdict| verdict.illegal.len()),
            self.sum(|verdict| verdict.unknown)
        )?;
        writeln!(
            f,
            "  {} snapshots put back beneath running proxies, with {} values: {} that no command brought back",
            self.restored.len(),
            self.restored.iter().map(|restored| restored.values).sum::<usize>(),
            self.restored.iter().map(|restored| restored.wrong.len()).sum::<usize>()
        )?;
        for restored in &self.restored {
            for wrong in restored.wrong.iter().take(NAMED) {
                writeln!(f, "  FAILED after a snapshot was put back: {wrong}")?;
            }
        }
        let edits: Vec<_> = self.edited.iter().map(|edited| format!("{:?}", edited.edit)).collect();
        if !edits.is_empty() {
            writeln!(f, "  files edited by hand: {}", edits.join(", "))?;
        }
        for edited in &self.edited {
            for wrong in edited.wrong.iter().take(NAMED) {
                writeln!(f, "  FAILED after a file was edited by hand: {wrong}")?;
            }
        }
        if let Some(round) = self.rounds.iter().find(|round| round.verdict.has_loss()) {
            writeln!(f, "  first loss: {}, after {:.0} s", round.name, round.at.as_secs_f64())?;
        }
        for round in &self.rounds {
            for (check, _) in round.checks().iter().filter(|(_, passed)| !passed) {
                writeln!(f, "  FAILED in {}: {check}", round.name)?;
            }
            round.verdict.fmt(f)?;
        }
        let (passed, failed) = self.counts();
        writeln!(f, "{passed} passed, {failed} failed")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nobody = BTreeMap::new();
        let others = self.unreadable_by_others.as_ref().unwrap_or(&nobody);
        for (what, keys) in [
            ("lost", &self.lost),
            ("unreadable", &self.unreadable),
            ("by kube-apiserver's code", others),
        ] {
            for (key, why) in keys.iter().take(NAMED) {
                writeln!(f, "    {what}: {key}: {why}")?;
            }
        }
        for key in self.illegal.iter().take(NAMED) {
            writeln!(f, "    not linearizable: {key}")?;
        }
        for other in &self.other {
            writeln!(f, "    {other}")?;
        }
        Ok(())
    }
}
