//! What a command would do, for `--dry-run`: the first step as the machine decides it, and those that would follow. Pure.

use std::time::Duration;

use super::facts::Facts;
use super::machine::{Ask, Command, Session, Step, Stop, next, once_each, replaced};
use super::record::Record;
use super::recovery::Recovery;
use super::refusal::{Refusal, listed};
use super::stage::Stage;
use crate::config::{KeyId, KeyType, ProviderType};
use crate::sweep::{Latest, Uncovered};
use crate::types::KeyName;

/// How fast the last sweep was, its second look included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    values_per_second: f64,
}

impl Pace {
    /// Of the sweep that is on record, if it came to its end and met enough to tell anything.
    pub fn of(latest: &Latest) -> Option<Self> {
        let work = latest.work.as_ref().filter(|work| work.is_done)?;
        let [looked, _] = work.scanned;
        let is_telling = looked > 0 && work.spent_ms > 0;
        // Nobody stores so many values that a float could not count them.
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let values_per_second = looked as f64 * 1000.0 / work.spent_ms as f64;
        is_telling.then_some(Self { values_per_second })
    }

    /// How long so many values would take.
    fn estimate(self, objects: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = (objects as f64 / self.values_per_second).ceil().max(1.0);
        let rate = self.values_per_second;
        let Ok(time) = Duration::try_from_secs_f64(seconds) else {
            return String::new();
        };
        format!(
            ": about {} at the {rate:.0} values a second of the last sweep",
            humantime::format_duration(time)
        )
    }
}

/// The keys that would be removed in the end.
pub fn going(ask: &Ask, facts: &Facts) -> Vec<KeyId> {
    let record = &facts.record;
    match ask.command {
        _ if ask.how.skip => Vec::new(),
        Command::Abort => record.fresh.iter().chain(&record.recovered).cloned().collect(),
        Command::Reencrypt | Command::RotateKeys => {
            let is_new = record.retiring.is_empty() && record.fresh.is_empty() && ask.command == Command::RotateKeys;
            let old = if is_new {
                facts.config.writing_keys()
            } else {
                record.retiring.clone()
            };
            old.into_iter().chain(record.kept.iter().cloned()).collect()
        }
        Command::Migrate => {
            let noted = planned(ask, facts);
            let record = noted.as_ref().unwrap_or(record);
            once_each(record.retiring.iter().chain(&record.kept))
        }
        Command::Recover => record.recovered.clone(),
        Command::Prepare | Command::Rotate | Command::Enable | Command::Disable => Vec::new(),
    }
}

/// The record as a command that begins notes it, where that is its next step.
fn planned(ask: &Ask, facts: &Facts) -> Option<Record> {
    match next(ask, facts, &Session::default()) {
        Ok(Step::Note(record)) => Some(record),
        _ => None,
    }
}

/// Resources that `migrate` leaves in the clear, since their rule has nothing but identity beside rules that encrypt.
///
/// # Errors
/// It would be refused.
pub fn left_clear(ask: &Ask, facts: &Facts) -> Result<Vec<String>, Refusal> {
    if let Err(Stop::Refused(refusal)) = next(ask, facts, &Session::default()) {
        return Err(refusal);
    }
    Ok(left(ask, facts))
}

fn left(ask: &Ask, facts: &Facts) -> Vec<String> {
    let Some(to) = ask.how.to.as_ref().filter(|_| ask.command == Command::Migrate) else {
        return Vec::new();
    };
    let name = |provider: KeyType, _: &[KeyId]| KeyId {
        provider: provider.into(),
        name: KeyName::new(""),
    };
    to.migration(&facts.config, name)
        .map_or_else(|_| Vec::new(), |found| found.left)
}

/// The lines of the plan: for so many values, at that pace, where so much is `uncovered`.
///
/// # Errors
/// It would be refused.
pub fn outline(
    ask: &Ask,
    facts: &Facts,
    objects: Option<u64>,
    pace: Option<Pace>,
    uncovered: Option<&Uncovered>,
    recovery: Option<&Recovery>,
) -> Result<Vec<String>, Refusal> {
    if let Err(Stop::Refused(refusal)) = next(ask, facts, &Session::default()) {
        return Err(refusal);
    }
    let plan = Plan {
        ask,
        facts,
        objects,
        pace,
        uncovered: uncovered.and_then(Uncovered::in_the_way),
    };
    let stage = facts.record.stage;
    let mut lines = Vec::new();
    match ask.command {
        Command::Prepare => plan.prepare(&mut lines),
        Command::Rotate => plan.rotate(&mut lines),
        Command::Reencrypt => plan.reencrypt(&mut lines),
        Command::RotateKeys => {
            if stage.is_rest() {
                plan.prepare(&mut lines);
            }
            if stage.is_rest() || stage == Stage::Prepare {
                plan.rotate(&mut lines);
            }
            plan.reencrypt(&mut lines);
        }
        Command::Migrate => plan.migrate(&mut lines),
        Command::Abort => {
            let back: Vec<_> = replaced(facts).into_iter().map(|(old, _)| old).collect();
            if !back.is_empty() {
                lines.push(format!("have {} write again, in {}", listed(&back), facts.source));
                plan.wait(&mut lines);
            }
            if !ask.how.skip {
                plan.sweep(&mut lines);
                plan.uncovered(&mut lines);
                lines.push(format!("remove {}", listed(&going(ask, facts))));
                plan.wait(&mut lines);
            }
        }
        Command::Recover => {
            if let Some(recovery) = recovery {
                plan.recover(recovery, &mut lines);
            }
        }
        Command::Enable => {
            lines.push(format!(
                "move identity last in {}: new values are encrypted",
                facts.source
            ));
            plan.wait(&mut lines);
        }
        Command::Disable => {
            lines.push(format!(
                "move identity first in {}: new values are stored in the clear",
                facts.source
            ));
            plan.wait(&mut lines);
        }
    }
    Ok(lines)
}

struct Plan<'a> {
    ask: &'a Ask,
    facts: &'a Facts,
    objects: Option<u64>,
    pace: Option<Pace>,
    uncovered: Option<Uncovered>,
}

impl Plan<'_> {
    fn wait(&self, lines: &mut Vec<String>) {
        lines.push(match self.facts.roster.len() {
            0 => "wait for nobody: no member is there".to_owned(),
            1 => "wait for 1 member to load it".to_owned(),
            members => format!("wait for {members} members to load it"),
        });
    }

    fn sweep(&self, lines: &mut Vec<String>) {
        let what = self.objects.map_or_else(
            || "every stored value that is not under the key that writes".to_owned(),
            |objects| format!("up to {objects} stored values"),
        );
        let time = match (self.objects, self.pace) {
            (Some(objects), Some(pace)) => pace.estimate(objects),
            (_, None) => ": no sweep on record has come to its end, so how long that takes is not known".to_owned(),
            (None, Some(_)) => String::new(),
        };
        lines.push(format!("re-encrypt {what}, and look a second time to prove it{time}"));
    }

    fn uncovered(&self, lines: &mut Vec<String>) {
        lines.push("look at all that etcd holds for values that need an old key and that no rule covers".to_owned());
        if let Some(found) = &self.uncovered {
            lines.push(format!(
                "end there with code 7, unless something is done about {found}. {}",
                found.way_on()
            ));
        }
    }

    fn recover(&self, recovery: &Recovery, lines: &mut Vec<String>) {
        let mut keys = recovery.keys();
        let added = keys.len();
        let noted = self.facts.record.recovered.iter();
        keys.extend(
            noted
                .filter(|key| !recovery.keys().contains(key))
                .cloned()
                .collect::<Vec<_>>(),
        );
        lines.extend(recovery.plan(&self.facts.source));
        if added > 0 {
            self.wait(lines);
        }
        if !keys.is_empty() {
            self.sweep(lines);
            self.uncovered(lines);
            lines.push("wait until etcd's older history is compacted away".to_owned());
            lines.push(format!("take {} out again", listed(&keys)));
            self.wait(lines);
        }
        let left = recovery.left();
        if keys.is_empty() && left.is_empty() {
            lines.push("change nothing: a key of the configuration opens every value that is stored".to_owned());
        }
        lines.extend(left.iter().map(|left| format!("end with code 7: {left}")));
        lines.extend(
            recovery
                .caveat()
                .map(|caveat| format!("leave what it cannot see: {caveat}")),
        );
    }

    fn migrate(&self, lines: &mut Vec<String>) {
        let stage = self.facts.record.stage;
        let noted = planned(self.ask, self.facts);
        let record = noted.as_ref().filter(|_| stage.is_rest()).unwrap_or(&self.facts.record);
        let config = &self.facts.config;
        let mut said: Vec<&KeyId> = Vec::new();
        for (old, new) in record.pairs() {
            if !config.has_key(new) && !said.contains(&new) {
                said.push(new);
                let what = if new.key_type().is_some() { "a new " } else { "" };
                let to = self.ask.how.to.as_ref().filter(|_| new.key_type().is_none());
                let at = to.map_or_else(String::new, |to| format!(" ({to})"));
                lines.push(format!("list {what}{new}{at} behind {old} in {}", self.facts.source));
            }
        }
        if !said.is_empty() {
            self.wait(lines);
        }
        if !record.retiring.is_empty() && (stage.is_rest() || stage == Stage::Prepare) {
            let new = once_each(record.pairs().map(|(_, new)| new));
            if new.iter().any(|id| matches!(id.provider, ProviderType::Kms(_))) {
                lines.push("wait until each of them has had a key wrapped by the plugin and given back".to_owned());
            }
            lines.push(format!("move {} first: it writes", listed(&new)));
            self.wait(lines);
        }
        self.reencrypt(lines);
        let left = left(self.ask, self.facts);
        if !left.is_empty() {
            lines.push(format!(
                "leave {} in the clear, as their rule says nothing else",
                left.join(", ")
            ));
        }
    }

    fn prepare(&self, lines: &mut Vec<String>) {
        for key in self.facts.config.writing_keys() {
            let source = &self.facts.source;
            lines.push(match self.ask.how.key_type {
                Some(other) if other != key.provider => {
                    format!("add a {other} provider with a new key behind that of {key} in {source}")
                }
                _ => format!("add a new {} key behind {key} in {source}", key.provider),
            });
        }
        self.wait(lines);
    }

    fn rotate(&self, lines: &mut Vec<String>) {
        let keys = match &self.facts.record.fresh[..] {
            [] => "the new key".to_owned(),
            fresh => listed(fresh),
        };
        lines.push(format!("move {keys} first: new values are encrypted with it"));
        self.wait(lines);
    }

    fn reencrypt(&self, lines: &mut Vec<String>) {
        self.sweep(lines);
        let going = going(self.ask, self.facts);
        if !going.is_empty() {
            self.uncovered(lines);
            lines.push("wait until etcd's older history is compacted away".to_owned());
            lines.push(format!("remove {}", listed(&going)));
            self.wait(lines);
        }
    }
}
