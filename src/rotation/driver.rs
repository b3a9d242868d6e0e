//! Carries a command out: takes the steps that the machine decides, one by one, and looks at the facts anew before each. What
//! another process, an operator or a crash has done meanwhile is a fact like any other. Prints nothing, and decides nothing
//! of its own but when to give up waiting.
//!
//! Anybody may note a command in the record, and so take back what is under way. The steps are taken by one process at a time;
//! others that were asked for the same follow it, and go on where it dies.

mod beside;
mod change;
mod decided;
mod forget;
mod recover;
mod resweep;
mod run;
mod turn;
mod uncovered;
mod wait;

use std::future::ready;
use std::time::Duration;

use tokio::sync::watch;

use super::facts::Facts;
use super::machine::{Ask, Command};
use super::record::Record;
use super::stores::Beside;
use super::{Error, Source, Status};
use crate::config::{EncryptionConfiguration, KeyId};
use crate::election::{self, Holder, Owner};
use crate::etcd::{CallError, Patience, Store, WaitError};
use crate::members::{Roster, StoreId};
use crate::sweep::{self, Latest, Report, Spare, Uncovered, Unopenable, Wanted};
use crate::types::{StatePrefix, with_causes};
pub use decided::Decided;
pub use forget::Standing;
use run::Run;

/// Between two looks at what is waited for, at first and at most.
const FIRST_POLL: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(500);

/// Between two looks at what has been waited for that long: what comes soon is seen soon, and what takes long is asked for rarely.
fn poll(waited: Duration) -> Duration {
    (waited / 4).clamp(FIRST_POLL, POLL)
}

/// Where the right to take steps lies below the state prefix.
pub(super) const RIGHT: &str = "driver";

/// The key of the process that takes a rotation's steps.
pub fn right(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), RIGHT.as_bytes()].concat()
}

/// How long etcd may be in trouble when the right is asked for, before that is said and waited for as everywhere.
const RIGHT_WAIT: Duration = Duration::from_secs(2);

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
    /// Where resources of `config` lie, as far as not every process knows it: as [`crate::keyring::paths`] of it.
    fn paths(&self, config: &EncryptionConfiguration) -> Vec<String>;
    /// What operators call it.
    fn name(&self) -> String {
        String::new()
    }
    /// Which store it is; `None` where no process has ever said so.
    fn identity(&self) -> impl Future<Output = Result<Option<StoreId>, CallError>> {
        ready(Ok(None))
    }
    /// The other stores that are served with the same configuration, as far as the command was told of them.
    fn beside(&self) -> &[Self]
    where
        Self: Sized,
    {
        &[]
    }
    /// Writes every value as `config` says, and looks whether all are; until it is to `stop`.
    fn sweep(
        &self,
        config: &EncryptionConfiguration,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<Report, Error>>;
    /// Looks at everything that etcd holds for values that bear the keys that are `wanted`, by the rules of `config`; until it
    /// is to `stop`.
    fn uncovered(
        &self,
        config: &EncryptionConfiguration,
        wanted: Wanted,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<Uncovered, Error>>;
    /// Whether a sweep begins anew, whatever an earlier one has left.
    fn restarts(&self) -> bool {
        false
    }
    /// Looks at everything that etcd holds for values that no key of `config` opens, and which of `spares` does; until it is to
    /// `stop`.
    fn unopenable(
        &self,
        config: &EncryptionConfiguration,
        spares: &[Spare],
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<Unopenable, Error>>;
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
    /// How things stand at this moment, for whoever watches.
    fn stands(&self, _: Result<&Status, &Error>) {}
}

/// How long, and by what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long one wait for members, for history or for etcd may last.
    pub timeout: Duration,
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
    /// Keys of kept configurations that opened what no other key did.
    pub recovered: Vec<KeyId>,
    /// What does not open with any key at hand, each with the way on.
    pub left: Vec<String>,
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

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// Carries out what is asked for, until nothing is left to do, here or by another process.
    ///
    /// # Errors
    /// It was refused, or ended before its end.
    pub async fn run(&self, ask: &Ask) -> Result<Outcome, Error> {
        self.run_from(Run::new(ask)).await
    }

    async fn run_from(&self, mut run: Run<'_>) -> Result<Outcome, Error> {
        let ask = run.ask;
        if ask.command != Command::Reencrypt {
            // Before anything is begun that would end there. Re-encryption alone changes no configuration.
            self.source.read().await?;
            self.source.check().await?;
        }
        if ask.command.sweeps() && !ask.how.skip {
            // And before anything is waited for.
            self.refuse_checkpoint().await?;
        }
        loop {
            if let Some(outcome) = self.advance(&mut run, false).await? {
                return Ok(outcome);
            }
            let owner = match self.acquire().await {
                Ok(Ok(owner)) => owner,
                Ok(Err(holder)) => {
                    if let Err(error) = self.attend(&run, &holder).await {
                        self.mend(&mut run, error).await?;
                    }
                    continue;
                }
                Err(error) => {
                    self.mend(&mut run, error).await?;
                    continue;
                }
            };
            let ended = tokio::select! {
                ended = self.advance(&mut run, true) => Some(ended),
                why = owner.keep(self.site.store(), self.limits.timeout) => {
                    self.audience.notice(&format!("the right to go on was lost: {why}; asking for it again"));
                    None
                }
            };
            owner.release(self.site.store()).await;
            match ended {
                Some(Ok(Some(outcome))) => return Ok(outcome),
                Some(Err(error)) => return Err(error),
                Some(Ok(None)) | None => {}
            }
        }
    }

    /// Step by step, to the end; `None` where the next step takes a right that this process does not have.
    async fn advance(&self, run: &mut Run<'_>, has_right: bool) -> Result<Option<Outcome>, Error> {
        loop {
            match self.turn(run, has_right).await {
                Ok(turn::After::Another) => {}
                Ok(turn::After::Right) => return Ok(None),
                Ok(turn::After::End(outcome)) => return Ok(Some(*outcome)),
                Err(error) => self.mend(run, error).await?,
            }
        }
    }

    /// Waits for trouble to pass that does.
    async fn mend(&self, run: &mut Run<'_>, error: Error) -> Result<(), Error> {
        match error {
            Error::Call(error) if error.trouble().is_passing() => {
                self.wait(run, "etcd", &error.to_string(), || Error::Call(error.clone()))
                    .await
            }
            Error::Managed(error) if error.is_passing() => {
                let text = with_causes(&error);
                self.wait(run, "kms", &text, || Error::Managed(error)).await
            }
            // Somebody else was first: a fact like any other.
            Error::Changed => self.again(run).await,
            error => Err(error),
        }
    }

    /// The right to take steps, or who has it.
    async fn acquire(&self) -> Result<Result<Owner, Holder>, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let key = right(state);
        let patience = Patience::new("asking for the right to rotate", RIGHT_WAIT, |_| {});
        match Owner::acquire(store, key, &patience).await {
            Ok(owner) => Ok(Ok(owner)),
            Err(election::Error::Held(holder)) => Ok(Err(*holder)),
            Err(election::Error::Etcd(WaitError::Call(error))) => Err(Error::Call(error)),
            // It is asked for again; what is wrong with etcd is seen and said when the facts are looked at.
            Err(election::Error::LostOwnership { .. } | election::Error::Etcd(WaitError::GaveUp { .. })) => {
                Err(Error::Changed)
            }
        }
    }

    /// While another process takes the steps.
    async fn attend(&self, run: &Run<'_>, holder: &Holder) -> Result<(), Error> {
        if holder.is_leaseless {
            return Err(Error::Leaseless(Box::new(holder.clone())));
        }
        if !run.ask.wait {
            return Err(Error::Driven(holder.to_string()));
        }
        let waited = self.say(run, "right", &format!("following {holder}, which carries it out"));
        let latest = Latest::read(self.site.store(), self.site.state()).await?;
        if let Some(work) = latest.work.as_ref().filter(|_| latest.holder.is_some()) {
            self.audience.follows(work);
        }
        self.pause(poll(waited)).await
    }

    /// The facts as they are, and the revision of the record among them.
    ///
    /// # Errors
    /// They cannot be had.
    pub async fn facts(&self) -> Result<(Facts, i64), Error> {
        let (record, revision) = Record::load(self.site.store(), self.site.state()).await??;
        let config = self.source.read().await?;
        let beside = self.beside().await?;
        let facts = self.facts_of(record, config, beside).await?;
        Ok((facts, revision))
    }

    async fn facts_of(
        &self,
        record: Record,
        config: EncryptionConfiguration,
        mut beside: Vec<Beside>,
    ) -> Result<Facts, Error> {
        let store = self.site.store();
        let store_id = self.site.identity().await?;
        let strangers = self.strangers(store_id.as_ref(), &beside).await?;
        // Last, since nothing else here changes by itself.
        let mut roster = Roster::read(store, self.site.state()).await?;
        self.join_rosters(&mut roster, &mut beside).await?;
        let is_history_gone = match &record.proved {
            Some(proved) if record.dropping => store.is_compacted_before(proved.revision).await?,
            _ => false,
        };
        Ok(Facts {
            record,
            source: self.source.name(),
            prefixes: self.site.prefixes(),
            paths: self.site.paths(&config),
            config,
            roster,
            store: store_id,
            servers: self.site.name(),
            beside,
            strangers,
            is_history_gone,
        })
    }
}
