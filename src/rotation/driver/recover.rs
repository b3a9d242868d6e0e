//! The search for what no key of the configuration opens, and for keys that do, as a step. Ended where another command takes over.

use tokio::sync::watch;

use super::run::Run;
use super::{Audience, Driver, Site};
use crate::rotation::facts::Facts;
use crate::rotation::recovery::{AtHand, Recovery, left_out, plugins};
use crate::rotation::{Error, Source};

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    pub(super) async fn seek(&self, run: &mut Run<'_>, facts: &Facts) -> Result<(), Error> {
        let (stop, stops) = watch::channel(false);
        let searching = self.search(facts, &stops);
        tokio::pin!(searching);
        let found = tokio::select! {
            found = &mut searching => found?,
            is_stopped = self.ended(run) => {
                stop.send_replace(true);
                if is_stopped {
                    return Err(Error::Stopped);
                }
                // The command that took over is met at the next turn.
                return Ok(());
            }
        };
        run.session.recovery = Some(found);
        Ok(())
    }

    /// Until this process is to stop (true), or another command took over from what this one has begun (false).
    async fn ended(&self, run: &Run<'_>) -> bool {
        if run.session.begun.is_some() {
            return self.interrupted(run).await;
        }
        let mut stop = self.stop.clone();
        // Nothing is left that could tell to stop: that is one way to tell.
        let _ = stop.wait_for(|stops| *stops).await;
        true
    }

    /// What no key of the configuration opens, here and in each other store, and what can be done about it.
    ///
    /// # Errors
    /// It did not come to its end.
    pub async fn search(&self, facts: &Facts, stop: &watch::Receiver<bool>) -> Result<Recovery, Error> {
        let (config, kept) = (&facts.config, self.source.kept().await?);
        let at_hand = AtHand::of(config, &kept);
        let mut found = vec![(
            None,
            self.site.unopenable(config, at_hand.spares(), stop.clone()).await?,
        )];
        for other in self.site.beside() {
            let theirs = other.unopenable(config, at_hand.spares(), stop.clone()).await?;
            found.push((Some(other.name()), theirs));
        }
        let recovery = Recovery::of(config, &at_hand, &facts.record.recovered, found);
        if let Some(text) = left_out(&plugins(config, &kept)).filter(|_| recovery.needs_kms()) {
            self.audience.notice(&text);
        }
        Ok(recovery)
    }
}
