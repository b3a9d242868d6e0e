//! One step after the other, each by the facts as they are then.

use tokio::time::sleep;

use super::change::changed;
use super::run::Run;
use super::{Audience, Driver, Outcome, POLL, Site};
use crate::config::{Draft, KeyId};
use crate::etcd::CallError;
use crate::rotation::facts::Facts;
use crate::rotation::machine::{self, Change, Command, Step, Stop};
use crate::rotation::record::Record;
use crate::rotation::{Error, Source};

/// Lost compare-and-swaps of one command.
const MAX_LOST: u32 = 100;

/// What comes after a turn.
pub(super) enum After {
    /// Another one.
    Another,
    /// A step that takes the right to take it.
    Right,
    /// Nothing: this came of it all.
    End(Box<Outcome>),
}

/// Why there is no step, as an error of the command.
fn stopped(stop: Stop, run: &Run<'_>, facts: &Facts) -> Error {
    match stop {
        Stop::Refused(refusal) => Error::Refused(refusal),
        Stop::Overtaken(by) => Error::Overtaken(by),
        Stop::NotProved(why) if facts.record.is_recovering() => Error::not_recovered(why, run.session.report.clone()),
        Stop::NotProved(why) => Error::not_proved(why, run.session.report.clone()),
        Stop::Uncovered(found) => Error::uncovered(&found),
    }
}

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// One step. Without the right to take one, a command is begun, or found to be over.
    pub(super) async fn turn(&self, run: &mut Run<'_>, has_right: bool) -> Result<After, Error> {
        if *self.stop.borrow() {
            return Err(Error::Stopped);
        }
        let (mut facts, revision) = self.facts().await?;
        if self.look_beside(run, &mut facts).await? {
            return Ok(After::Another);
        }
        run.look(&facts, revision);
        if run.is_outdated(&facts, revision) {
            return Err(Error::Overtaken(facts.record.underway));
        }
        if facts.record.underway == Some(run.ask.command) {
            // Begun by another process, or here by a write whose answer got lost.
            run.session.begun.get_or_insert(facts.record.begun);
        }
        let step = machine::next(run.ask, &facts, &run.session).map_err(|stop| stopped(stop, run, &facts))?;
        let needs_right = match &step {
            Step::Note(_) => run.session.begun.is_some(),
            Step::Finish(record) => record.is_some(),
            Step::Search => false,
            _ => true,
        };
        if needs_right && !has_right {
            return Ok(After::Right);
        }
        if !matches!(
            step,
            Step::Await | Step::AwaitKms(_) | Step::AwaitRoundTrip(_) | Step::AwaitHistory(_) | Step::Settle
        ) {
            run.waiting.replace(None);
        }
        match step {
            Step::Note(record) => {
                if let Some((record, revision)) = self.note(run, record, revision).await? {
                    self.note_beside(&record, revision, &facts.config).await?;
                }
            }
            Step::Search => self.seek(run, &facts).await?,
            Step::Change(change) => {
                self.explain(&change);
                run.is_more_to_read(&change)?;
                let draft = changed(&facts.config, change)?;
                self.replace(run, &facts, &draft).await?;
            }
            Step::Await => self.await_members(run, &facts).await?,
            Step::Settle => {
                let text = "everybody has loaded it; waiting for writes that were under way before, as not every member's are fenced";
                self.wait(run, "writes", text, || Error::Unsettled).await?;
            }
            Step::AwaitKms(dissent) => self.await_kms(run, &facts, dissent).await?,
            Step::AwaitRoundTrip(dissent) => self.await_round_trip(run, &facts, dissent).await?,
            Step::Sweep => self.sweep(run, &facts, revision).await?,
            Step::Look(keys) => self.look(run, &facts, keys).await?,
            Step::AwaitHistory(needed) => self.await_history(run, needed).await?,
            Step::Remove { proof, keys, beside } => {
                // The records say that nobody has taken the rotation back since the facts were looked at, nor taken back in another
                // store that these keys are going.
                if self.is_unchanged(&facts, revision).await? {
                    let draft = proof
                        .remove(&facts, &keys, beside.as_deref())
                        .map_err(|why| Error::not_proved(why, None))?;
                    self.replace(run, &facts, &draft).await?;
                    run.outcome.needed_before = facts.record.proved.map(|proved| proved.revision);
                    run.outcome.removed = keys;
                }
            }
            Step::Finish(Some(mut record)) => {
                if self.save(run, &mut record, revision).await?.is_none() {
                    self.again(run).await?;
                    return Ok(After::Another);
                }
                run.outcome.report = run.session.report.take();
                run.outcome.members = facts.roster.len();
                run.outcome.recovered = facts.record.recovered;
                run.outcome.left = run.left();
                return Ok(After::End(Box::new(std::mem::take(&mut run.outcome))));
            }
            // Another process has done it.
            Step::Finish(None) => {
                let record = facts.record;
                // What the record says of removed keys is an earlier command's where this one had nothing to begin.
                let has_begun = run.session.begun.is_some();
                let is_gone = |key: &KeyId| has_begun && !facts.config.has_key(key);
                let removed: Vec<_> = record.removed.into_iter().filter(is_gone).collect();
                let proved = record.proved.filter(|_| !removed.is_empty());
                return Ok(After::End(Box::new(Outcome {
                    report: None,
                    needed_before: proved.map(|proved| proved.revision),
                    recovered: match run.ask.command {
                        Command::Recover => removed.clone(),
                        _ => Vec::new(),
                    },
                    removed,
                    members: facts.roster.len(),
                    left: run.left(),
                })));
            }
        }
        Ok(After::Another)
    }

    /// Writes the record: as which, and at which revision; `None` where somebody else was first.
    async fn note(&self, run: &mut Run<'_>, mut record: Record, revision: i64) -> Result<Option<(Record, i64)>, Error> {
        let Some(revision) = self.save(run, &mut record, revision).await? else {
            self.again(run).await?;
            return Ok(None);
        };
        run.session.begun = Some(record.begun);
        Ok(Some((record, revision)))
    }

    async fn save(&self, run: &Run<'_>, record: &mut Record, revision: i64) -> Result<Option<i64>, CallError> {
        record.generation += 1;
        record.updated = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        record.by.clone_from(&run.ask.host);
        record.save(self.site.store(), self.site.state(), revision).await
    }

    async fn replace(&self, run: &Run<'_>, facts: &Facts, draft: &Draft) -> Result<(), Error> {
        // The record was written since the last change that could be taken back, so no two changes share its generation.
        let comment = format!(
            "Written by etcd-encryption-proxy secrets-encrypt {}, {}, generation {}.",
            run.ask.command.as_str(),
            run.ask.now,
            facts.record.generation
        );
        if let Some(kept) = self.source.replace(&facts.config, draft, &comment).await? {
            self.audience.notice(&format!(
                "{} is changed; what it was is kept in {}",
                self.source.name(),
                kept.display()
            ));
        }
        Ok(())
    }

    fn explain(&self, change: &Change) {
        match change {
            Change::Append(pairs) => {
                for (_, key) in pairs {
                    self.audience.notice(&format!("a new {key}, to read with"));
                }
            }
            Change::Introduce(pairs, _) => {
                let mut said: Vec<&KeyId> = Vec::new();
                for (_, new) in pairs {
                    if !said.contains(&new) {
                        let what = if new.key_type().is_some() { "a new " } else { "" };
                        self.audience.notice(&format!("{what}{new}, to read with"));
                        said.push(new);
                    }
                }
            }
            Change::ReadWith(readers) => {
                for reader in readers {
                    self.audience.notice(&format!(
                        "{} of {}, to read {} with",
                        reader.id, reader.from, reader.rule
                    ));
                }
            }
            _ => {}
        }
    }

    /// Loses a race: a short pause, and not for ever.
    pub(super) async fn again(&self, run: &mut Run<'_>) -> Result<(), Error> {
        run.lost += 1;
        if run.lost > MAX_LOST {
            return Err(Error::Contended);
        }
        sleep(POLL / 10).await;
        Ok(())
    }
}
