//! What the worker is doing: for the log when it changes, for health checks and metrics at any time.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::meters::Meters;
use crate::members::{Loaded, Roster};
use crate::sweep::{Finding, Observer, Progress, Report, Tally};

/// What the worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has just begun.
    Starting,
    /// No rule encrypts anything.
    Idle,
    /// It would sweep, but for this.
    Waiting(String),
    /// Another process sweeps.
    Elsewhere(String),
    /// It sweeps.
    Sweeping,
    /// A proof has found everything as this, and nothing is to be done.
    Done(Finding),
    /// So many values were left stale or in the clear; they are tried again later.
    Left(u64),
    /// It failed, and tries again.
    Failing(String),
}

impl Activity {
    /// One word, for metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Waiting(_) => "waiting",
            Self::Elsewhere(_) => "elsewhere",
            Self::Sweeping => "sweeping",
            Self::Done(_) => "done",
            Self::Left(_) => "left",
            Self::Failing(_) => "failing",
        }
    }

    fn log(&self) {
        match self {
            Self::Starting => {}
            Self::Idle => tracing::debug!("no rule encrypts anything: nothing to sweep"),
            Self::Waiting(why) => tracing::warn!(why, "stored values may have to be written again; waiting"),
            Self::Elsewhere(holder) => tracing::info!(holder, "another process sweeps"),
            Self::Sweeping => tracing::info!("sweeping"),
            Self::Done(Finding::Undecryptable) => tracing::warn!(
                "stored values were proven to be as the rules write them, but for some that no key opens; `sweep \
                 --dry-run` names them"
            ),
            Self::Done(_) => tracing::info!("every stored value is proven to be as the rules write it"),
            Self::Left(values) => tracing::warn!(
                values,
                "values are still not as the rules write them; trying again later"
            ),
            Self::Failing(why) => tracing::warn!(why, "the sweep failed; trying again later"),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Idle => f.write_str("no rule encrypts anything"),
            Self::Waiting(why) => write!(f, "waiting: {why}"),
            Self::Elsewhere(holder) => write!(f, "another process sweeps: {holder}"),
            Self::Sweeping => f.write_str("sweeping"),
            Self::Done(Finding::Undecryptable) => f.write_str("done; some values are opened by no key"),
            Self::Done(_) => f.write_str("done: every value is as the rules write it"),
            Self::Left(values) => write!(f, "{values} values are not as the rules write them; trying again later"),
            Self::Failing(why) => write!(f, "failing: {why}"),
        }
    }
}

/// Shared by the worker and whoever asks.
#[derive(Debug)]
pub struct WorkerStatus {
    activity: Mutex<Activity>,
    done: AtomicU64,
    total: AtomicU64,
    /// Of the record whose inventory is exported.
    proven: AtomicI64,
    meters: Meters,
}

impl Default for WorkerStatus {
    fn default() -> Self {
        Self {
            activity: Mutex::new(Activity::Starting),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            proven: AtomicI64::new(0),
            meters: Meters::new(),
        }
    }
}

impl WorkerStatus {
    /// What it does now.
    pub fn activity(&self) -> Activity {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same for people, with how far it is.
    pub fn text(&self) -> String {
        match self.activity() {
            Activity::Sweeping => {
                let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
                format!("sweeping, {done} of {total} values looked at in this pass")
            }
            activity => activity.to_string(),
        }
    }

    pub(super) fn set(&self, activity: Activity) {
        let mut current = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != activity {
            self.meters.doing(&activity);
            activity.log();
            *current = activity;
        }
    }

    /// For a sweep of this worker.
    pub(super) fn observer(self: Arc<Self>) -> Arc<dyn Observer> {
        Arc::new(Narrator {
            status: self,
            last: Mutex::new(None),
        })
    }

    pub(super) fn finished(report: &Report) {
        Meters::finished(report);
        let counts = &report.counts;
        tracing::info!(
            finding = ?report.finding,
            seconds = report.seconds,
            scanned = counts.scanned,
            rewritten = counts.rewritten,
            raced = counts.raced,
            vanished = counts.vanished,
            refused = counts.refused,
            undecryptable = counts.undecryptable,
            old_keys_needed_before = report.revisions.old_keys_needed_before,
            "swept"
        );
    }

    /// What the proof in the record that was written at `revision` found.
    pub(super) fn proven(&self, revision: i64, tally: &Tally) {
        if self.proven.swap(revision, Ordering::Relaxed) != revision {
            self.meters.stored(tally);
        }
    }

    pub(super) fn members(roster: &Roster, loaded: &Loaded) {
        Meters::members(roster.agreeing(loaded), roster.len());
    }
}

/// Tells the log and the metrics of one sweep.
struct Narrator {
    status: Arc<WorkerStatus>,
    last: Mutex<Option<Progress>>,
}

impl Observer for Narrator {
    fn notice(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn progress(&self, progress: &Progress) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let status = &self.status;
        if last.is_none() {
            // Not before: whoever finds the sweep held by another never gets here.
            status.set(Activity::Sweeping);
        }
        // What was done before, by whoever had the sweep, is not this process's to count.
        let (looked_at, rewritten) = match &*last {
            Some(last) if last.stage == progress.stage => (last.done, last.rewritten),
            Some(last) => (0, last.rewritten),
            None => (progress.done, progress.rewritten),
        };
        status.meters.progressed(
            progress,
            progress.done.saturating_sub(looked_at),
            progress.rewritten.saturating_sub(rewritten),
        );
        status.done.store(progress.done, Ordering::Relaxed);
        status.total.store(progress.total, Ordering::Relaxed);
        *last = Some(*progress);
    }
}
