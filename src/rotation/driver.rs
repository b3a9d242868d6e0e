//! Takes the steps that the machine decides, one by one, and looks at the facts anew before each: what another process, an
//! operator or a crash has done meanwhile is a fact like any other. Prints nothing, and decides nothing of its own but when
//! to give up waiting.

use std::cell::RefCell;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::error::advice;
use super::facts::Facts;
use super::machine::{self, Ask, Change, Command, Session, Step, Stop};
use super::record::Record;
use super::{Error, Source};
use crate::config::{Draft, EncryptionConfiguration, Key, KeyId};
use crate::etcd::{CallError, Store};
use crate::members::Roster;
use crate::sweep::{self, Latest, Report};
use crate::types::{Fingerprint, SecretBytes, StatePrefix};

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(500);
/// Between two words about what is waited for.
const NOTICE_EVERY: Duration = Duration::from_secs(30);
/// How long a write may be on its way to etcd after it was sealed: etcd itself gives a request up after 7 s.
const SETTLE: Duration = Duration::from_secs(10);
/// Bytes of a new key: those of AES-256 and of secretbox.
const KEY_BYTES: usize = 32;
/// Sweeps of one command, each because somebody had loaded something since the last one began.
const MAX_SWEEPS: u32 = 20;
/// Lost compare-and-swaps of one command.
const MAX_LOST: u32 = 100;

/// etcd, and what is done on it.
pub trait Site {
    /// Where the records are.
    type Store: Store;
    /// The store.
    fn store(&self) -> &Self::Store;
    /// The proxy's own keys.
    fn state(&self) -> &StatePrefix;
    /// Where Kubernetes' keys begin.
    fn prefixes(&self) -> Vec<String>;
    /// Writes every value as `config` says, and looks whether all are.
    fn sweep(&self, config: &EncryptionConfiguration) -> impl Future<Output = Result<Report, Error>>;
    /// Lets go of etcd's history before `revision`.
    fn compact(&self, revision: i64) -> impl Future<Output = Result<(), CallError>>;
}

/// Told how it goes.
pub trait Audience {
    /// What the command prints.
    fn says(&self, line: &str);
    /// Something that an operator should read meanwhile.
    fn notice(&self, text: &str);
    /// How far somebody else's sweep is.
    fn follows(&self, work: &sweep::Work);
}

/// How long, and by what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long one wait for members, for history or for etcd may last.
    pub timeout: Duration,
    /// Compact etcd's history rather than wait until somebody does.
    pub compact: bool,
}

/// What came of a command.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The last sweep.
    pub report: Option<Report>,
    /// Keys that were removed.
    pub removed: Vec<KeyId>,
    /// From this revision on they are not needed.
    pub needed_before: Option<i64>,
    /// How many members have loaded the configuration.
    pub members: usize,
}

/// Carries out commands.
pub struct Driver<'a, S, C, A> {
    /// etcd.
    pub site: &'a S,
    /// The configuration.
    pub source: &'a C,
    /// Who is told.
    pub audience: &'a A,
    /// How long, and by what.
    pub limits: Limits,
    /// Set when the command is to end.
    pub stop: watch::Receiver<bool>,
}

/// One command's way.
struct Run<'a> {
    ask: &'a Ask,
    session: Session,
    outcome: Outcome,
    lost: u32,
    has_started: bool,
    waiting: RefCell<Option<Waiting>>,
    agreed: Option<Agreed>,
}

/// What everybody who is there has loaded, as of which change of their records, and since when that is known.
struct Agreed {
    on: Fingerprint,
    as_of: i64,
    since: Instant,
}

/// What is waited for, since when, and when that was last said.
struct Waiting {
    what: &'static str,
    since: Instant,
    said: Option<(Instant, String)>,
}

impl Run<'_> {
    /// Notes for how long everybody has agreed. Where nobody is, nobody has anything on its way: a process is gone from the
    /// records only when it has ended its calls, or after a lease that is longer than any of them.
    fn look(&mut self, facts: &Facts) {
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
            facts.roster.is_empty() || agreed.is_some_and(|agreed| agreed.since.elapsed() >= SETTLE);
    }
}

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// Carries out what is asked for, until nothing is left to do.
    ///
    /// # Errors
    /// It was refused, or ended before its end.
    pub async fn run(&self, ask: &Ask) -> Result<Outcome, Error> {
        let mut run = Run {
            ask,
            session: Session::default(),
            outcome: Outcome::default(),
            lost: 0,
            has_started: false,
            waiting: RefCell::new(None),
            agreed: None,
        };
        if ask.command != Command::Reencrypt {
            // Before anything is begun that would end there. Re-encryption alone changes no file.
            self.source.read().await?;
            self.source.check().await?;
        }
        loop {
            match self.turn(&mut run).await {
                Ok(None) => {}
                Ok(Some(outcome)) => return Ok(outcome),
                Err(Error::Call(error)) if error.trouble().is_passing() => {
                    self.wait(&run, "etcd", &error.to_string(), || Error::Call(error.clone()))
                        .await?;
                }
                // Somebody else was first: a fact like any other.
                Err(Error::Changed) => self.again(&mut run).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The facts as they are, and the revision of the record among them.
    ///
    /// # Errors
    /// They cannot be had.
    pub async fn facts(&self) -> Result<(Facts, i64), Error> {
        let store = self.site.store();
        let loaded = Record::load(store, self.site.state()).await?;
        let (record, revision) = loaded.map_err(|why| Error::Record { why })?;
        let config = self.source.read().await?;
        // Last, since nothing else here changes by itself.
        let roster = Roster::read(store, self.site.state()).await?;
        let is_history_gone = match &record.proved {
            Some(proved) if record.dropping => store.is_compacted_before(proved.revision).await?,
            _ => false,
        };
        let facts = Facts {
            record,
            config,
            source: self.source.name(),
            prefixes: self.site.prefixes(),
            roster,
            is_history_gone,
        };
        Ok((facts, revision))
    }

    /// One step. The outcome if it was the last one.
    async fn turn(&self, run: &mut Run<'_>) -> Result<Option<Outcome>, Error> {
        if *self.stop.borrow() {
            return Err(Error::Stopped);
        }
        let (facts, revision) = self.facts().await?;
        run.look(&facts);
        if facts.record.underway == Some(run.ask.command) {
            // Begun by another process, or here by a write whose answer got lost.
            run.session.begun.get_or_insert(facts.record.begun);
        }
        let step = machine::next(run.ask, &facts, &run.session).map_err(|stop| match stop {
            Stop::Refused(refusal) => Error::Refused(refusal),
            Stop::Overtaken(by) => Error::Overtaken(by),
            Stop::NotProved(why) => Error::not_proved(why, run.session.report.clone()),
        })?;
        if !matches!(step, Step::Await | Step::AwaitHistory(_) | Step::Settle) {
            run.waiting.replace(None);
        }
        match step {
            Step::Note(record) => self.note(run, record, revision).await?,
            Step::Change(change) => {
                self.explain(&change);
                let draft = changed(&facts.config, change)?;
                self.replace(run, &facts, &draft).await?;
            }
            Step::Await => self.await_members(run, &facts).await?,
            Step::Settle => {
                let text = "everybody has loaded it; waiting for writes that were under way before";
                self.wait(run, "writes", text, || Error::Unsettled).await?;
            }
            Step::Sweep => self.sweep(run, &facts).await?,
            Step::AwaitHistory(needed) => self.await_history(run, needed).await?,
            Step::Remove { proof, keys, beside } => {
                // The record says that nobody has taken the rotation back since the facts were looked at.
                let loaded = Record::load(self.site.store(), self.site.state()).await?;
                if loaded.is_ok_and(|(_, now)| now == revision) {
                    let draft = proof
                        .remove(&facts, &keys, &beside)
                        .map_err(|why| Error::not_proved(why, None))?;
                    self.replace(run, &facts, &draft).await?;
                    run.outcome.needed_before = facts.record.proved.map(|proved| proved.revision);
                    run.outcome.removed = keys;
                }
            }
            Step::Finish(record) => {
                if let Some(record) = record
                    && self.save(run, record, revision).await?.is_none()
                {
                    self.again(run).await?;
                    return Ok(None);
                }
                run.outcome.report = run.session.report.take();
                run.outcome.members = facts.roster.len();
                return Ok(Some(std::mem::take(&mut run.outcome)));
            }
        }
        Ok(None)
    }

    async fn note(&self, run: &mut Run<'_>, record: Record, revision: i64) -> Result<(), Error> {
        let begun = record.begun;
        if self.save(run, record, revision).await?.is_none() {
            return self.again(run).await;
        }
        run.session.begun = Some(begun);
        Ok(())
    }

    async fn save(&self, run: &Run<'_>, mut record: Record, revision: i64) -> Result<Option<i64>, CallError> {
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
        if let Change::Append(pairs) = change {
            for (_, key) in pairs {
                self.audience.notice(&format!("a new {key}, to read with"));
            }
        }
    }

    /// Loses a race: a short pause, and not for ever.
    async fn again(&self, run: &mut Run<'_>) -> Result<(), Error> {
        run.lost += 1;
        if run.lost > MAX_LOST {
            return Err(Error::Contended);
        }
        sleep(POLL / 10).await;
        Ok(())
    }

    async fn await_members(&self, run: &Run<'_>, facts: &Facts) -> Result<(), Error> {
        let Some(dissent) = facts.dissent() else {
            return Ok(());
        };
        let source_name = facts.source.clone();
        if !run.ask.wait {
            return Err(Error::NotWaited {
                source_name,
                dissent: Some(dissent),
            });
        }
        let what = format!("waiting for members to load {source_name}: {dissent}");
        let advice = advice(facts.record.stage, facts.record.underway);
        self.wait(run, "members", &what, || Error::NotLoaded {
            after: self.limits.timeout,
            source_name,
            dissent,
            advice,
        })
        .await
    }

    async fn await_history(&self, run: &Run<'_>, revision: i64) -> Result<(), Error> {
        if self.limits.compact {
            match self.site.compact(revision).await {
                // Somebody else has compacted further.
                Err(error) if error.trouble() == crate::etcd::Trouble::Compacted => {}
                outcome => outcome?,
            }
            return Ok(());
        }
        if !run.ask.wait {
            return Err(Error::History { revision });
        }
        let what = format!(
            "waiting until etcd's history before revision {revision} is compacted away, which kube-apiserver does every five \
             minutes (--compact does it at once)"
        );
        self.wait(run, "history", &what, || Error::History { revision }).await
    }

    /// Waits a little, says now and then for what, and gives up with `end` when it has been too long.
    async fn wait(
        &self,
        run: &Run<'_>,
        what: &'static str,
        text: &str,
        end: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        let now = Instant::now();
        {
            let mut waiting = run.waiting.borrow_mut();
            let state = match &mut *waiting {
                Some(state) if state.what == what => state,
                other => other.insert(Waiting {
                    what,
                    since: now,
                    said: None,
                }),
            };
            if now - state.since >= self.limits.timeout {
                return Err(end());
            }
            let is_said = |(at, said): &(Instant, String)| said == text && now - *at < NOTICE_EVERY;
            if !state.said.as_ref().is_some_and(is_said) {
                self.audience.notice(text);
                state.said = Some((now, text.to_owned()));
            }
        }
        let mut stop = self.stop.clone();
        tokio::select! {
            () = sleep(POLL) => Ok(()),
            Ok(_) = stop.wait_for(|stops| *stops) => Err(Error::Stopped),
        }
    }

    async fn sweep(&self, run: &mut Run<'_>, facts: &Facts) -> Result<(), Error> {
        if run.ask.command == Command::Reencrypt && !run.has_started {
            self.audience.says("reencryption started");
        }
        run.has_started = true;
        if !run.ask.wait && !facts.roster.is_empty() {
            return Err(Error::LeftToMembers);
        }
        run.session.sweeps += 1;
        if run.session.sweeps > MAX_SWEEPS {
            return Err(Error::Unsettled);
        }
        let mut is_told = false;
        loop {
            match self.site.sweep(&facts.config).await {
                Err(Error::Sweep(sweep::Error::Held(holder))) => {
                    if !is_told {
                        is_told = true;
                        self.audience.notice(&format!("following the sweep at work: {holder}"));
                    }
                    self.follow().await?;
                }
                outcome => {
                    run.session.report = Some(outcome?);
                    return Ok(());
                }
            }
        }
    }

    /// Until nobody sweeps.
    async fn follow(&self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                () = sleep(POLL) => {}
                Ok(_) = stop.wait_for(|stops| *stops) => return Err(Error::Stopped),
            }
            let latest = Latest::read(self.site.store(), self.site.state()).await?;
            if let Some(work) = &latest.work {
                self.audience.follows(work);
            }
            if latest.holder.is_none() {
                return Ok(());
            }
        }
    }
}

/// The configuration with `change` made to it.
fn changed(config: &EncryptionConfiguration, change: Change) -> Result<Draft, Error> {
    let mut draft = Draft::of(config);
    match change {
        Change::Append(pairs) => {
            for (writer, key) in pairs {
                draft.append(&writer, &drawn(&key)?);
            }
        }
        Change::Promote { keys, beside } => {
            for key in &keys {
                draft.promote(key, &beside);
            }
        }
        Change::Restore { first, last } => {
            for key in &first {
                draft.promote(key, &last);
            }
            for key in &last {
                draft.demote(key, &first);
            }
        }
        Change::AddProvider(key) => draft.add_provider(key.provider, &drawn(&key)?),
        Change::AddIdentity => draft.add_identity(),
        Change::IdentityFirst => draft.identity_first(),
        Change::IdentityLast => draft.identity_last(),
    }
    Ok(draft)
}

/// A key of that name, drawn from the operating system.
fn drawn(key: &KeyId) -> Result<Key, Error> {
    let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Error::Random)?;
    Ok(Key {
        name: key.name.clone(),
        secret: SecretBytes::new(std::mem::take(&mut bytes)),
    })
}
