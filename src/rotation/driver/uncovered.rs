//! The look at everything that etcd holds, before a key goes, as a step. Ended where another command takes over.

use tokio::sync::watch;

use super::run::Run;
use super::{Audience, Driver, Site};
use crate::config::{EncryptionConfiguration, KeyId};
use crate::rotation::facts::Facts;
use crate::rotation::{Error, Source};
use crate::sweep::{Uncovered, Wanted};

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    pub(super) async fn look(&self, run: &mut Run<'_>, facts: &Facts, keys: Vec<KeyId>) -> Result<(), Error> {
        let wanted = Wanted { keys, others: false };
        let (stop, stops) = watch::channel(false);
        let looking = self.uncovered(&facts.config, &wanted, &stops);
        tokio::pin!(looking);
        let found = tokio::select! {
            found = &mut looking => found?,
            is_stopped = self.interrupted(run) => {
                stop.send_replace(true);
                if is_stopped {
                    return Err(Error::Stopped);
                }
                // Whoever took over is met at the next turn.
                return Ok(());
            }
        };
        run.session.uncovered = Some(found);
        Ok(())
    }

    /// What is found here, and in each other store: a key of the configuration may be needed in any of them.
    ///
    /// # Errors
    /// It did not come to its end.
    pub async fn uncovered(
        &self,
        config: &EncryptionConfiguration,
        wanted: &Wanted,
        stop: &watch::Receiver<bool>,
    ) -> Result<Uncovered, Error> {
        let mut found = self.site.uncovered(config, wanted.clone(), stop.clone()).await?;
        for other in self.site.beside() {
            let theirs = other.uncovered(config, wanted.clone(), stop.clone()).await?;
            found.join(&other.name(), theirs);
        }
        Ok(found)
    }
}
