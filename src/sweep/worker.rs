//! The sweep in the background of a process that serves: starts by itself when what is loaded makes stored values stale,
//! and only when everybody who is alive has loaded the same, since a value under a key that another member cannot read
//! yet would break that member's reads. Of all members one sweeps, whoever gets the owner's key first.
//!
//! Whether there is anything to do stands in the checkpoint in etcd, for all members alike: a finished sweep of the same
//! work need not be done again by whoever starts next. Never lays bare what is sealed: a configuration that writes in the
//! clear may be a slip, and what it would do cannot be undone. That takes the verb `sweep`.

mod meters;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::pin;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::checkpoint::{self, Checkpoint, Stage, peek};
use super::report::finding;
use super::tally::{Row, State};
use super::{Error, Finding, Limits, Options, Scope, Tally, sweep};
use crate::config::KmsApiVersion;
use crate::election::Owner;
use crate::etcd::Store;
use crate::keyring::{Keyring, KeyringHandle, Permit, Writing};
use crate::kms::Plugin;
use crate::members::{Loaded, MemberId, Roster};
use crate::types::{Backoff, Epoch, Fingerprint, KeyName, StatePrefix, with_causes};

pub use meters::FAMILIES;
pub use status::{Activity, WorkerStatus};

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_secs(2);
/// How long the members' records may be unknown while values are written: whoever comes meanwhile is not seen.
const UNSEEN: Duration = Duration::from_secs(10);
/// Between two looks while there is nothing to do: somebody may have begun anew, or restored an older snapshot, or write with
/// something else. Shorter than the record of a member that was killed outlives it.
const IDLE: Duration = Duration::from_secs(10);
/// After a failure, and what it doubles to.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// After a sweep that left stale values behind, and what it doubles to.
const FIRST_REPEAT: Duration = Duration::from_secs(60);
const LONGEST_REPEAT: Duration = Duration::from_secs(3_600);
/// How long etcd (or a KMS) may be unable to go on before the sweep lets go of it, and is taken up by whoever is next.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// How long what is under way may take to end once the process is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Where a worker finds what it may write with.
pub trait InUse {
    /// The keyring in use, and its permit.
    fn writing(&self) -> Arc<Writing>;
    /// `epoch` is over: a permit for it is worth nothing.
    fn is_over(&self, epoch: &Epoch);
}

impl InUse for Arc<KeyringHandle> {
    fn writing(&self) -> Arc<Writing> {
        Arc::clone(&KeyringHandle::writing(self))
    }

    fn is_over(&self, epoch: &Epoch) {
        KeyringHandle::is_over(self, epoch);
    }
}

/// What a worker is made of.
pub struct Worker<K> {
    /// The keyring in use.
    pub keyring: K,
    /// This process among the members.
    pub id: MemberId,
    /// The proxy's own keys.
    pub state: StatePrefix,
    /// The key of the process that takes a rotation's steps: it sweeps by itself, and two would only wait for each other.
    pub rotating: Vec<u8>,
    /// How fast.
    pub limits: Limits,
    /// Told what it is doing.
    pub status: Arc<WorkerStatus>,
    /// Sees a change when another keyring is in use.
    pub replaced: watch::Receiver<()>,
    /// Set when the process is to end.
    pub stop: watch::Receiver<bool>,
}

/// What came of one turn.
enum Turn {
    /// Look again at once.
    Again,
    /// Nothing to do as long as nothing changes.
    Settled,
    /// Something is waited for.
    Wait,
    /// Values were left stale, and are tried again then.
    Repeat(Instant),
    /// It did not work.
    Failed(String),
}

/// Whether a sweep can begin.
enum Way {
    /// One that writes everything again up to this revision, if that was begun.
    Free { written_until: Option<i64> },
    /// What is done in its place.
    Not(Turn),
}

/// The sweep that left stale values behind, and when it is repeated.
struct Repeat {
    revision: i64,
    due: Instant,
    delays: Backoff,
}

/// What a worker remembers from turn to turn.
#[derive(Default)]
struct Memory {
    repeat: Option<Repeat>,
    /// Since which keyring, and how many values under retired keys clients had read when a sweep was last begun for that.
    late: Option<(Fingerprint, u64)>,
    /// Since when which plugins are well.
    well: BTreeMap<KeyName, SystemTime>,
    /// The proof that is made anew because a plugin has come back, by the revision of its record.
    recount: Option<i64>,
}

impl Memory {
    /// Whether clients have read values under retired keys since a sweep was begun for that: they came after the proof, or are
    /// where it did not look.
    fn has_met_late(&self, keyring: &Keyring) -> bool {
        let now = (keyring.fingerprint(), keyring.retired_reads());
        now.1 > 0 && self.late != Some(now)
    }
}

impl Memory {
    /// Whether a plugin is well again that was not when this was last asked.
    fn has_recovered(&mut self, plugins: &[Plugin]) -> bool {
        let mut has_recovered = false;
        for report in plugins
            .iter()
            .map(Plugin::report)
            .filter(|report| report.ailment.is_none())
        {
            let before = self.well.insert(report.provider, report.since);
            has_recovered |= before.is_some_and(|since| since != report.since);
        }
        has_recovered
    }

    /// When the proof of `revision` is made anew: it has found values that no plugin of `plugins` unwraps, which may have been
    /// the plugin's fault and not theirs. At once where one has come back since, else now and then. `None`: there are no such.
    fn recount(&mut self, plugins: &[Plugin], proof: &Tally, revision: i64) -> Option<Instant> {
        let has_recovered = self.has_recovered(plugins);
        let is_of = |row: &Row, plugin: &Plugin| {
            row.under.provider.starts_with("kms") && row.under.key == plugin.name().as_str()
        };
        let is_theirs =
            |row: &Row| row.state == State::Undecryptable && plugins.iter().any(|plugin| is_of(row, plugin));
        if !proof.rows().any(|(row, _)| is_theirs(row)) {
            return None;
        }
        if has_recovered {
            self.recount = Some(revision);
        }
        let due = due(&mut self.repeat, revision);
        Some(if self.recount == Some(revision) {
            Instant::now()
        } else {
            due
        })
    }
}

impl<K: InUse> Worker<K> {
    /// Works until it is told to stop.
    pub async fn run<S: Store>(mut self, store: &S) {
        let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut memory = Memory::default();
        while !self.stops() {
            let writing = self.keyring.writing();
            let loaded = Loaded::of(&writing.keyring);
            let turn = self.turn(store, &writing, &loaded, &mut memory).await;
            if !matches!(turn, Turn::Failed(_)) {
                retry.reset();
            }
            let until = match turn {
                Turn::Again => continue,
                Turn::Settled => Instant::now() + IDLE,
                Turn::Wait => Instant::now() + POLL,
                Turn::Repeat(due) => due.min(Instant::now() + IDLE),
                Turn::Failed(why) => {
                    self.status.set(Activity::Failing(why));
                    Instant::now() + retry.step()
                }
            };
            self.pause(until, &loaded).await;
        }
    }

    fn stops(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Waits until `until`, or until something else than `loaded` is in use, or clients read values under retired keys, or it is
    /// to stop.
    async fn pause(&mut self, until: Instant, loaded: &Loaded) {
        let reads = self.keyring.writing().keyring.retired_reads();
        let is_as_before = |keyring: &Keyring| Loaded::of(keyring) == *loaded && keyring.retired_reads() == reads;
        while Instant::now() < until && !self.stops() && is_as_before(&self.keyring.writing().keyring) {
            tokio::select! {
                // KMS plugins tell nobody that their key ID has changed.
                () = sleep_until(until.min(Instant::now() + POLL)) => {}
                Ok(()) = self.replaced.changed() => {}
                _ = self.stop.changed() => {}
            }
        }
    }

    async fn turn<S: Store>(&mut self, store: &S, writing: &Writing, loaded: &Loaded, memory: &mut Memory) -> Turn {
        let (epoch, obstacle) = match &writing.permit {
            Permit::Fenced { epoch, .. } => (epoch.clone(), None),
            // The last answer as to what is there to be done is looked at all the same.
            Permit::Unknown => (
                Epoch::FIRST,
                Some("whether this process may write is not known yet".to_owned()),
            ),
            Permit::Refused(why) => (Epoch::FIRST, Some(why.to_string())),
            Permit::Unfenced => (Epoch::FIRST, Some("this store takes no fence".to_owned())),
        };
        let scope = Scope {
            keyring: Arc::clone(&writing.keyring),
            epoch,
            state: self.state.clone(),
            resources: Vec::new(),
            prefixes: Vec::new(),
            lays_bare: false,
            written_until: None,
        };
        if scope.ranges().iter().next().is_none() {
            self.status.set(Activity::Idle);
            return Turn::Settled;
        }
        match self.obstacle(store, &scope, loaded, memory).await {
            Ok(Way::Free { written_until }) => match obstacle {
                None => {
                    let scope = Scope { written_until, ..scope };
                    self.sweep(store, &scope, loaded).await
                }
                Some(why) => {
                    self.status.set(Activity::Waiting(why));
                    Turn::Wait
                }
            },
            Ok(Way::Not(turn)) => turn,
            Err(error) => Turn::Failed(with_causes(&error)),
        }
    }

    /// Why there is nothing to do, or nothing can be done yet. Writes nothing but that a proof does not hold any more.
    async fn obstacle<S: Store>(
        &self,
        store: &S,
        scope: &Scope,
        loaded: &Loaded,
        memory: &mut Memory,
    ) -> Result<Way, Error> {
        let wait = |activity| {
            self.status.set(activity);
            Ok(Way::Not(Turn::Wait))
        };
        let mut plugins = scope.keyring.plugins().iter().map(Plugin::report);
        let silent = plugins.find(|report| report.api_version == KmsApiVersion::V2 && report.writing.is_none());
        if let Some(report) = silent {
            let why = format!("KMS plugin {} has not told its key ID", report.provider);
            return wait(Activity::Waiting(why));
        }
        // In this order: a sweep that ends between the two is not taken for one that has never been.
        let holder = Owner::holder(store, &scope.owner_key()).await.map_err(Error::Call)?;
        let found = peek(store, &scope.checkpoint_key()).await?;
        let roster = Roster::read(store, &self.state).await.map_err(Error::Call)?;
        WorkerStatus::members(&roster, loaded);
        // Somebody has begun to write everything again, and is gone: that is gone on with.
        let written_until = found.as_ref().and_then(|(_, found)| found.unfinished_until());
        let of_this = |found: &Checkpoint| found.work == scope.fingerprint() && found.stage != Stage::Rewrite;
        let proof = found.filter(|(_, found)| of_this(found));
        if let Some((revision, _)) = &proof
            && let Some(dissent) = roster.others_write(loaded)
        {
            // What they write is not as it is proven, also once they are gone and nobody who saw them is left.
            checkpoint::begin_anew(store, scope, *revision).await?;
            return wait(Activity::Waiting(dissent.to_string()));
        }
        if let Some((revision, found)) = proof.filter(|(_, found)| found.stage == Stage::Done) {
            let met = (scope.keyring.fingerprint(), scope.keyring.retired_reads());
            if memory.has_met_late(&scope.keyring) && checkpoint::begin_anew(store, scope, revision).await? {
                tracing::warn!(
                    "clients have read values under keys that are retired: they are looked for and written again"
                );
                memory.late = Some(met);
                return Ok(Way::Not(Turn::Again));
            }
            self.status.proven(revision, &found.after);
            let finding = finding(&found.after);
            let recount = memory.recount(scope.keyring.plugins(), &found.after, revision);
            let due = match (finding, recount) {
                (Finding::Stale, _) => due(&mut memory.repeat, revision),
                (_, Some(due)) => due,
                (_, None) => {
                    memory.repeat = None;
                    self.status.set(Activity::Done(finding));
                    return Ok(Way::Not(Turn::Settled));
                }
            };
            if Instant::now() < due {
                if finding != Finding::Stale {
                    self.status.set(Activity::Done(finding));
                    return Ok(Way::Not(Turn::Repeat(due)));
                }
                let left = found.after.objects(State::Stale) + found.after.objects(State::Plaintext);
                self.status.set(Activity::Left(left));
                return Ok(Way::Not(Turn::Repeat(due)));
            }
        }
        if let Some(holder) = holder {
            return wait(Activity::Elsewhere(holder.to_string()));
        }
        if let Some(holder) = Owner::holder(store, &self.rotating).await.map_err(Error::Call)? {
            return wait(Activity::Waiting(format!(
                "a command rotates, and sweeps by itself: {holder}"
            )));
        }
        if !roster.has(&self.id) {
            return wait(Activity::Waiting(
                "this process's own record is not in etcd yet".to_owned(),
            ));
        }
        match roster.dissent(loaded) {
            Some(dissent) => wait(Activity::Waiting(dissent.to_string())),
            None => Ok(Way::Free { written_until }),
        }
    }

    async fn sweep<S: Store>(&mut self, store: &S, scope: &Scope, loaded: &Loaded) -> Turn {
        let options = Options {
            limits: self.limits,
            max_wait: MAX_WAIT,
            restart: false,
            dry_run: false,
        };
        let (stop, stopped) = watch::channel(false);
        let status = Arc::clone(&self.status);
        let sweeping = sweep(store, scope, &options, status.observer(), stopped);
        pin!(sweeping);
        let outcome = tokio::select! {
            outcome = &mut sweeping => outcome,
            why = self.until_it_must_stop(store, loaded) => {
                tracing::info!(why, "the sweep is interrupted");
                stop.send_replace(true);
                // Whatever is not answered by then is as if the process had been killed: the sweep is taken up again.
                match timeout(GRACE, sweeping).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Error::Stopped),
                }
            }
        };
        match outcome {
            Ok(report) => {
                WorkerStatus::finished(&report);
                Turn::Again
            }
            Err(Error::Stopped) => Turn::Again,
            Err(Error::Fenced) => {
                self.keyring.is_over(&scope.epoch);
                Turn::Wait
            }
            Err(Error::Held(holder)) => {
                self.status.set(Activity::Elsewhere(holder.to_string()));
                Turn::Wait
            }
            Err(error) => Turn::Failed(with_causes(&error)),
        }
    }

    /// Ends when the sweep has to, and says why: values should not be written with what is loaded any more.
    async fn until_it_must_stop<S: Store>(&mut self, store: &S, loaded: &Loaded) -> String {
        let mut seen = Instant::now();
        loop {
            tokio::select! {
                () = sleep(POLL) => {}
                Ok(()) = self.replaced.changed() => {}
                _ = self.stop.changed() => {}
            }
            if self.stops() {
                return "the process ends".to_owned();
            }
            if Loaded::of(&self.keyring.writing().keyring) != *loaded {
                return "another configuration, or another key ID of a KMS plugin, is in use".to_owned();
            }
            let asked = Instant::now();
            match timeout_at(seen + UNSEEN, Roster::read(store, &self.state)).await {
                Ok(Ok(roster)) => {
                    seen = asked;
                    WorkerStatus::members(&roster, loaded);
                    if let Some(dissent) = roster.dissent(loaded) {
                        return dissent.to_string();
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "the members' records were not read"),
                Err(_) => tracing::debug!("the members' records were not read in time"),
            }
            if seen.elapsed() >= UNSEEN {
                return format!("the members' records cannot be read for {} s", UNSEEN.as_secs());
            }
        }
    }
}

/// When the sweep that ended at `revision` and left stale values behind is to be repeated.
fn due(repeat: &mut Option<Repeat>, revision: i64) -> Instant {
    match repeat {
        Some(known) if known.revision == revision => known.due,
        known => {
            let mut delays = known
                .take()
                .map_or_else(|| Backoff::new(FIRST_REPEAT, LONGEST_REPEAT), |known| known.delays);
            let due = Instant::now() + delays.step();
            *known = Some(Repeat { revision, due, delays });
            due
        }
    }
}
