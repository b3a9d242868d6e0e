//! Runs one sweep, straight on etcd, with no proxy and no kube-apiserver.

use std::sync::Arc;

use thiserror::Error;

use super::build::Dialers;
use super::defragment::{Work, defragment};
use super::offline::{self, Hands, load_keyring};
use super::place::{self, About, Misplaced};
use super::run::examine;
use super::store::must_be_etcd;
use super::{Common, Error};
use crate::config::ResourceSelector;
use crate::etcd::{self, CallError, Client, Patience, Pool, Reachability, epoch};
use crate::keyring::Keyring;
use crate::members::{Dissent, Loaded, Roster};
use crate::rotation::{Barred, barred};
use crate::sweep::{self, Finding, Observer, Report, Scope, quota_warning};
use crate::transport::Flusher;
use crate::types::Epoch;

/// Flow-control window of each call, bytes: a page is read as fast as it comes.
const WINDOW: u32 = 2 * 1024 * 1024;

/// Settings of `sweep`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
pub struct SweepSettings {
    /// The cluster, and what is encrypted in it.
    pub common: Common,
    /// Whether something has to be stored.
    pub about: About,
    /// How the sweep goes.
    pub options: sweep::Options,
    /// Write everything again that is there, not only what is stale.
    pub rewrite_all: bool,
    /// Only these resources; empty for all that the rules cover.
    pub resources: Vec<ResourceSelector>,
    /// Only keys that begin with one of these; empty for all.
    pub key_prefixes: Vec<Vec<u8>>,
    /// Rewrite also while some process that serves has loaded another configuration.
    pub force: bool,
    /// Compact etcd's history to the proof's revision, if it is clean.
    pub compact: bool,
    /// And have each member give free space back.
    pub defragment: bool,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum SweepError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] Error),
    /// Some process could not read what would be written.
    #[error(
        "not every proxy of this cluster has loaded this very configuration file: {0}. What is written with it they could \
         not read, or would write again with another key. Give all the same file and wait until they have loaded it (the record of one that was killed is gone after \
         15 s), or pass --force"
    )]
    Dissent(Dissent),
    /// What this configuration would write nobody else could read.
    #[error("nothing is written with this configuration: {0}")]
    Barred(Barred),
    /// It did not come to its proof.
    #[error(transparent)]
    Sweep(#[from] sweep::Error),
    /// The proof is complete, but the disks of some members are as they were.
    #[error(
        "the sweep is complete, but not every member of etcd was defragmented: {members}. What was overwritten is still in free \
         pages of theirs. Name them in --etcd-servers and run this again, or run `etcdctl defrag` where each can be reached"
    )]
    NotDefragmented {
        /// Which.
        members: String,
        /// The report all the same.
        report: Box<Report>,
    },
    /// The proof is complete, but what was to come after it failed.
    #[error("the sweep is complete, but etcd could not be {what}")]
    Afterwards {
        /// What was to be done.
        what: &'static str,
        /// The report all the same.
        report: Box<Report>,
        /// What etcd said.
        source: CallError,
    },
}

/// Sweeps, or looks, and blocks the calling thread meanwhile.
///
/// The first SIGTERM or SIGINT lets what is under way end, for ten seconds, and keeps the checkpoint; a second one ends at once.
pub fn sweep(settings: &SweepSettings, observer: &Arc<dyn Observer>) -> Result<Report, SweepError> {
    let (settings, told) = (settings.clone(), Arc::clone(observer));
    let common = settings.common.clone();
    let stopped = || SweepError::Sweep(sweep::Error::Stopped);
    offline::run(
        &common,
        &|text| observer.notice(text),
        stopped,
        async move |mut hands| {
            hands.on_etcd.client = hands.on_etcd.client.waiting(settings.options.max_wait);
            let (client, state) = (&hands.on_etcd.client, &settings.common.state_prefix);
            let heard = Arc::clone(&told);
            let patience = Patience::new("reading", settings.options.max_wait, move |text| heard.notice(text));
            let called = |error: etcd::WaitError| SweepError::Sweep(error.into());
            place::look(client, &settings.common, settings.about, &patience)
                .await
                .map_err(|error| match error {
                    Misplaced::Etcd(error) => called(error),
                    error => Error::from(error).into(),
                })?;
            let known = patience.call(async || client.kind().await).await;
            known.map_err(called)?;
            must_be_etcd(client, "a sweep").await?;
            // Before the configuration is read, and that before it is asked whether a key of it was dropped: who drops one notes that
            // first and replaces the epoch then, so that one of the two is seen.
            let is_dry_run = settings.options.dry_run;
            let written_until = if settings.rewrite_all && !is_dry_run {
                let roster = Roster::read(client, state).await.map_err(sweep::Error::Call)?;
                if let Some(text) = roster.renews_not() {
                    told.notice(&text);
                }
                // Before the epoch is read, which it replaces.
                let begin = patience.call(async || sweep::begin_everything(client, state, true).await);
                Some(begin.await.map_err(called)?)
            } else {
                None
            };
            let epoch = if is_dry_run {
                Epoch::FIRST
            } else {
                patience
                    .call(async || epoch::read(client, state).await)
                    .await
                    .map_err(called)?
            };
            let keyring = Arc::new(load_keyring(&settings.common, &hands).await?);
            if !is_dry_run {
                let asked = patience.call(async || barred(client, state, &keyring).await);
                if let Some(why) = asked.await.map_err(called)? {
                    return Err(SweepError::Barred(why));
                }
            }
            examine(keyring.plugins()).await;
            let job = Job {
                settings,
                keyring,
                epoch,
                written_until,
                observer: told,
            };
            job.sweep(hands).await
        },
    )
}

struct Job {
    settings: SweepSettings,
    keyring: Arc<Keyring>,
    epoch: Epoch,
    /// Up to which revision everything is written again, where that is asked for.
    written_until: Option<i64>,
    observer: Arc<dyn Observer>,
}

impl Job {
    async fn sweep(self, hands: Hands) -> Result<Report, SweepError> {
        let client = hands.on_etcd.client.clone();
        let mut scope = Scope {
            keyring: Arc::clone(&self.keyring),
            epoch: self.epoch.clone(),
            state: self.settings.common.state_prefix.clone(),
            resources: self.settings.resources.clone(),
            prefixes: self.settings.key_prefixes.clone(),
            lays_bare: true,
            written_until: self.written_until,
        };
        if self.settings.rewrite_all && self.settings.options.dry_run {
            let until = sweep::written_until(&client, &scope).await;
            scope.written_until = Some(until.map_err(sweep::Error::Call)?);
        }
        if !self.settings.options.dry_run {
            self.check_members(&client, &scope).await?;
            warn_of_quota(&client, &scope, &*self.observer).await;
        }
        let options = &self.settings.options;
        let mut report = sweep::sweep(
            &client,
            &scope,
            options,
            Arc::clone(&self.observer),
            hands.stopped.clone(),
        )
        .await?;
        let observer = Arc::clone(&self.observer);
        let patience = Patience::new("reading", options.max_wait, move |text| observer.notice(text));
        let looked = patience.call(async || sweep::survey(&client, &scope).await).await;
        report.survey = looked.map_err(sweep::Error::from)?;
        if report.finding != Finding::Clean || report.is_dry_run {
            if self.settings.compact || self.settings.defragment {
                self.observer
                    .notice("history is kept: the proof is not clean, or nothing was to be written");
            }
            return Ok(report);
        }
        let afterwards = |what, report: &Report, source| SweepError::Afterwards {
            what,
            report: Box::new(report.clone()),
            source,
        };
        if self.settings.compact {
            self.observer
                .notice(&format!("compacting to revision {}", report.revisions.proof_to));
            match client.compact(report.revisions.proof_to, true).await {
                Ok(()) => report.revisions.is_compacted = Some(true),
                // Somebody else has compacted further.
                Err(error) if error.trouble() == etcd::Trouble::Compacted => report.revisions.is_compacted = Some(true),
                Err(error) => return Err(afterwards("compacted", &report, error)),
            }
        }
        if self.settings.defragment {
            let work = Work {
                hands: &hands,
                common: &self.settings.common,
                observer: &*self.observer,
                compacted: self.settings.compact.then_some(report.revisions.proof_to),
            };
            report.defragmented = defragment(&work).await;
            let left = report.defragmented.iter().filter(|one| one.why.is_some());
            let left: Vec<_> = left.map(|one| one.member.clone()).collect();
            if !left.is_empty() {
                return Err(SweepError::NotDefragmented {
                    members: left.join(", "),
                    report: Box::new(report),
                });
            }
        }
        Ok(report)
    }
}

impl Job {
    /// Whoever serves has to be able to read what is about to be written. Who starts later is not seen here.
    async fn check_members(&self, client: &Client, scope: &Scope) -> Result<(), SweepError> {
        let roster = Roster::read(client, &scope.state).await.map_err(sweep::Error::Call)?;
        match roster.dissent(&Loaded::of(&scope.keyring)) {
            Some(dissent) if self.settings.force => self.observer.notice(&format!("warning, going on: {dissent}")),
            Some(dissent) => return Err(SweepError::Dissent(dissent)),
            None => {}
        }
        Ok(())
    }
}

/// Of no consequence where it fails: the sweep itself will say what is wrong.
async fn warn_of_quota(client: &Client, scope: &Scope, observer: &dyn Observer) {
    let Ok(status) = client.status().await else { return };
    if let Ok(Some(warning)) = quota_warning(client, scope, &status).await {
        observer.notice(&format!("warning: {warning}"));
    }
}

/// A client of `members` on the runtime of the calling task.
pub(super) fn client(members: Dialers, flusher: &Flusher) -> Client {
    client_and_reachability(members, flusher).0
}

/// The same, and whether its members are reached.
pub(super) fn client_and_reachability(members: Dialers, flusher: &Flusher) -> (Client, Arc<Reachability>) {
    let reachability = Arc::new(Reachability::default());
    let config = etcd::Config {
        members,
        first: 0,
        reachability: Arc::clone(&reachability),
        kind: Arc::default(),
    };
    (Client::new(Pool::spawn(config, WINDOW, flusher.clone())), reachability)
}

pub(super) fn client_of_one(member: &crate::transport::Dialer, flusher: &Flusher) -> Client {
    client(std::iter::once(member.clone()).collect(), flusher)
}
