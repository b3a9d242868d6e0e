//! Re-encryption as a step: a sweep of this process's own, or that of another one which is at it already. Ended where another
//! command takes over: nobody waits for a long sweep to take something back.

use tokio::sync::watch;

use super::run::Run;
use super::{Audience, Driver, POLL, Site};
use crate::election::Holder;
use crate::rotation::facts::Facts;
use crate::rotation::machine::Command;
use crate::rotation::record::Record;
use crate::rotation::{Error, Source};
use crate::sweep::{self, Latest, Report};

/// Sweeps of one command, each because somebody had loaded something since the last one began.
const MAX_SWEEPS: u32 = 20;

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    pub(super) async fn sweep(&self, run: &mut Run<'_>, facts: &Facts, revision: i64) -> Result<(), Error> {
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
        self.note_beside(&facts.record, revision, &facts.config).await?;
        let first = self.sweep_site(run, self.site, facts).await?;
        run.session.report = self.sweep_beside(run, facts, first).await?;
        Ok(())
    }

    /// Sweeps one store to the end, or has another process do it and looks afterwards; none where another command took over.
    pub(super) async fn sweep_site(&self, run: &Run<'_>, site: &S, facts: &Facts) -> Result<Option<Report>, Error> {
        let mut is_told = false;
        loop {
            match self.sweep_once(run, site, facts).await? {
                Ok(report) => return Ok(report),
                Err(holder) => {
                    if !is_told {
                        is_told = true;
                        self.audience.notice(&format!("following the sweep at work: {holder}"));
                    }
                    self.follow(run, site).await?;
                }
            }
            if self.is_overtaken(run).await? {
                return Ok(None);
            }
        }
    }

    /// A sweep; none where another command took over meanwhile. Or who else sweeps.
    async fn sweep_once(
        &self,
        run: &Run<'_>,
        site: &S,
        facts: &Facts,
    ) -> Result<Result<Option<Report>, Box<Holder>>, Error> {
        let (stop, stops) = watch::channel(false);
        let sweeping = site.sweep(&facts.config, stops);
        tokio::pin!(sweeping);
        let outcome = tokio::select! {
            outcome = &mut sweeping => outcome,
            is_stopped = self.interrupted(run) => {
                stop.send_replace(true);
                let outcome = sweeping.await;
                if !is_stopped {
                    return Ok(Ok(None));
                }
                outcome
            }
        };
        match outcome {
            Err(Error::Sweep(sweep::Error::Held(holder))) if holder.is_leaseless => Err(Error::Leaseless(holder)),
            Err(Error::Sweep(sweep::Error::Held(holder))) => Ok(Err(holder)),
            // Somebody else has begun to prove something: with the facts as they are by now, again.
            Err(Error::Sweep(sweep::Error::Fenced)) => Ok(Ok(None)),
            outcome => outcome.map(|report| Ok(Some(report))),
        }
    }

    /// Until this process is to stop (true), or another command took over (false).
    pub(super) async fn interrupted(&self, run: &Run<'_>) -> bool {
        loop {
            if self.pause(POLL).await.is_err() {
                return true;
            }
            // What cannot be seen now is seen later.
            if let Ok(true) = self.is_overtaken(run).await {
                return false;
            }
        }
    }

    async fn is_overtaken(&self, run: &Run<'_>) -> Result<bool, Error> {
        let record = Record::load(self.site.store(), self.site.state()).await?;
        let (record, _) = record?;
        Ok(record.underway != Some(run.ask.command) || run.session.begun.is_some_and(|begun| begun != record.begun))
    }

    /// Until nobody sweeps, or another command took over.
    async fn follow(&self, run: &Run<'_>, site: &S) -> Result<(), Error> {
        loop {
            self.pause(POLL).await?;
            let latest = Latest::read(site.store(), site.state()).await?;
            if let Some(work) = &latest.work {
                self.audience.follows(work);
            }
            if let Some(holder) = latest.holder.clone().filter(|holder| holder.is_leaseless) {
                return Err(Error::Leaseless(Box::new(holder)));
            }
            if latest.holder.is_none() || self.is_overtaken(run).await? {
                return Ok(());
            }
        }
    }
}
