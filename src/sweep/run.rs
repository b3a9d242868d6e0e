//! A sweep from its start to its report: becomes the owner, takes up the checkpoint, rewrites, proves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Error;
use super::apply::Tools;
use super::checkpoint::{self, Checkpoint, Keeper};
use super::pace::{Limits, Pace};
use super::pass::Pass;
use super::report::Report;
use super::scan::Scan;
use super::scope::{self, Scope};
use crate::election::{Owner, Term};
use crate::etcd::{CallError, Patience, Store, epoch, renewal};
use crate::types::{Epoch, StatePrefix};

/// What the operator asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How fast.
    pub limits: Limits,
    /// How long trouble may last before the sweep is given up.
    pub max_wait: Duration,
    /// Forget how far an earlier sweep came.
    pub restart: bool,
    /// Look and count only. Writes nothing at all.
    pub dry_run: bool,
}

/// Told how it goes.
pub trait Observer: Send + Sync {
    /// Something that an operator should read.
    fn notice(&self, text: &str);
    /// How far it is; often.
    fn progress(&self, progress: &Progress);
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Values are read, and written again where they should be.
    Rewrite,
    /// Values are read and counted.
    Look,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Values that are done in this stage.
    pub done: u64,
    /// Values that the stage is expected to have.
    pub total: u64,
    /// Values that were written.
    pub rewritten: u64,
}

/// Sweeps everything in `scope`, or looks at it. Ends early, and resumably, once `stop` is true.
///
/// # Errors
/// It did not come to its proof; the [`Error`] says whether starting it again would take it up.
pub async fn sweep<S: Store>(
    store: &S,
    scope: &Scope,
    options: &Options,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<Report, Error> {
    let patience = |what| {
        let observer = Arc::clone(&observer);
        Patience::new(what, options.max_wait, move |text| observer.notice(text))
    };
    let job = Job {
        store,
        scope,
        options,
        pace: Pace::new(options.limits),
        reads: patience("reading"),
        writes: patience("writing"),
        observer,
        stop,
    };
    if options.dry_run {
        return job.look().await;
    }
    let owner = Owner::acquire(store, scope.owner_key(), &job.writes).await?;
    let outcome = tokio::select! {
        // Looked at first, so that a process that slept through its lease writes nothing when it wakes.
        biased;
        lost = owner.keep(store, options.max_wait) => Err(lost.into()),
        outcome = job.work(&owner) => outcome,
    };
    owner.release(store).await;
    outcome
}

/// Up to which revision everything is written again by a sweep that writes everything again: where one is unfinished, that one's,
/// else the store's. For [`Scope::written_until`].
///
/// # Errors
/// etcd gave no usable answer.
pub async fn written_until<S: Store>(store: &S, scope: &Scope) -> Result<i64, CallError> {
    let (revision, found) = store.get(&scope.checkpoint_key()).await?;
    // One that cannot be read is told of when the sweep takes it up.
    let found = found.and_then(|kv| checkpoint::parse(&kv.value).ok());
    Ok(found.and_then(|found| found.unfinished_until()).unwrap_or(revision))
}

/// The same, for a sweep that is about to begin and writes. Where `has_plugins`, every process is to write under data keys that its
/// KMS plugins wrap from now on: that is ordered first, and the epoch is replaced then, so that whatever is written behind it was
/// sealed by who had seen the order. What was written before that is what is written again.
///
/// # Errors
/// etcd gave no usable answer.
pub async fn begin_everything<S: Store>(store: &S, state: &StatePrefix, has_plugins: bool) -> Result<i64, CallError> {
    let (revision, found) = store.get(&scope::checkpoint_key(state)).await?;
    let found = found.and_then(|kv| checkpoint::parse(&kv.value).ok());
    if let Some(until) = found.and_then(|found| found.unfinished_until()) {
        return Ok(until);
    }
    if !has_plugins {
        return Ok(revision);
    }
    renewal::order(store, state).await?;
    let epoch = epoch::replace(store, state, &[]).await?;
    Ok(epoch.map_or(revision, |epoch| epoch.revision()))
}

struct Job<'a, S> {
    store: &'a S,
    scope: &'a Scope,
    options: &'a Options,
    pace: Pace,
    reads: Patience,
    writes: Patience,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
}

impl<S: Store> Job<'_, S> {
    /// Counts what there is.
    async fn look(self) -> Result<Report, Error> {
        let mut record = Checkpoint::begun(self.scope);
        let term = Term::open();
        self.pass(&term, None, false, &mut record, Instant::now()).await?;
        Ok(Report::inventory(&record, self.scope))
    }

    /// Rewrites and proves.
    async fn work(&self, owner: &Owner) -> Result<Report, Error> {
        let began = Instant::now();
        let key = self.scope.checkpoint_key();
        let (keeper, found) = Keeper::load(self.store, owner, &self.writes, key, self.options.restart).await?;
        let mut record = self.taken_up(found);
        let began = began
            .checked_sub(Duration::from_millis(record.spent_ms))
            .unwrap_or(began);
        if self.scope.written_until.is_some() {
            // From its first moment somebody else can go on with it: nothing else says that fresh values are to be written again.
            keeper.save(&record).await?;
        }
        if record.stage == checkpoint::Stage::Rewrite {
            self.pass(owner.term(), Some(&keeper), true, &mut record, began).await?;
            record.begin_proof(self.replace_epoch(owner).await?);
            keeper.save(&record).await?;
        } else if record.epoch == 0 {
            // Begun by a version that replaced no epoch: what was sealed before may have arrived behind it.
            record.begin_proof(self.replace_epoch(owner).await?);
            keeper.save(&record).await?;
        }
        self.pass(owner.term(), Some(&keeper), false, &mut record, began)
            .await?;
        record.stage = checkpoint::Stage::Done;
        keeper.save(&record).await?;
        let is_compacted = self.is_compacted_before(record.prove_to).await?;
        Ok(Report::sweep(&record, self.scope, is_compacted))
    }

    /// Has etcd refuse, from now on, whatever was sealed before and is on its way: what the proof finds is final then. At which
    /// revision.
    async fn replace_epoch(&self, owner: &Owner) -> Result<i64, Error> {
        owner.term().passed().await;
        let guards = [owner.guard()];
        let replace = || epoch::replace(self.store, &self.scope.state, &guards);
        match self.writes.call(replace).await? {
            Some(epoch) => Ok(epoch.revision()),
            None => Err(Error::LostOwnership {
                why: "somebody else became the owner".to_owned(),
            }),
        }
    }

    async fn pass(
        &self,
        term: &Term,
        keeper: Option<&Keeper<'_, S>>,
        writes: bool,
        record: &mut Checkpoint,
        began: Instant,
    ) -> Result<(), Error> {
        let epoch_key = Epoch::key(&self.scope.state);
        let tools = Tools {
            store: self.store,
            scope: self.scope,
            epoch_key: &epoch_key,
            pace: &self.pace,
            reads: &self.reads,
            writes: &self.writes,
            term,
            observer: &*self.observer,
        };
        let total = self.total().await?;
        let position = record.key_position().unwrap_or_default();
        let scan = Scan::new(&self.scope.ranges(), &position);
        let pass = Pass {
            tools: &tools,
            writes,
            keeper,
            total,
            stop: self.stop.clone(),
            began,
        };
        pass.run(scan, record).await
    }

    /// Keys in the ranges of the scope, as a goal for the progress.
    async fn total(&self) -> Result<u64, Error> {
        let mut total = 0;
        for range in self.scope.ranges().iter() {
            let count = || self.store.count(&range.start, range.end.as_deref());
            total += self.reads.call(count).await?.1;
        }
        Ok(total)
    }

    async fn is_compacted_before(&self, revision: i64) -> Result<bool, Error> {
        Ok(self.reads.call(|| self.store.is_compacted_before(revision)).await?)
    }

    /// Where to go on: at the checkpoint if it is of the same work and not at its end, else at the beginning.
    fn taken_up(&self, found: Option<Checkpoint>) -> Checkpoint {
        let new = Checkpoint::begun(self.scope);
        match found {
            Some(found) if found.stage == checkpoint::Stage::Done => new,
            Some(found) if found.work == new.work => {
                let text = format!(
                    "going on with the sweep of {}, which has looked at {} values so far",
                    found.started, found.before.scanned
                );
                self.observer.notice(&text);
                found
            }
            Some(found) => {
                let text = format!(
                    "an unfinished sweep of {} was for another configuration, another key ID of a KMS, or other resources ({}): beginning anew",
                    found.started, found.configuration
                );
                self.observer.notice(&text);
                new
            }
            None => new,
        }
    }
}
