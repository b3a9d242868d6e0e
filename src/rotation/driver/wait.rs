//! What a command waits for that others do: members that load, writes that arrive, history that goes. Said now and then,
//! and given up after a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::run::{Run, Waiting};
use super::{Audience, Driver, Site, poll};
use crate::etcd::Trouble;
use crate::members::Dissent;
use crate::rotation::error::advice;
use crate::rotation::facts::Facts;
use crate::rotation::{Error, Source};

/// Between two words about what is waited for.
const NOTICE_EVERY: Duration = Duration::from_secs(30);

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    pub(super) async fn await_members(&self, run: &Run<'_>, facts: &Facts) -> Result<(), Error> {
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

    /// A member asks its plugin each minute which key there is.
    pub(super) async fn await_kms(&self, run: &Run<'_>, facts: &Facts, dissent: Dissent) -> Result<(), Error> {
        let source_name = "the key that the KMS has now".to_owned();
        if !run.ask.wait {
            let dissent = Some(dissent);
            return Err(Error::NotWaited { source_name, dissent });
        }
        let what = format!("waiting for members to see {source_name}: {dissent}");
        let advice = advice(facts.record.stage, facts.record.underway);
        self.wait(run, "kms key", &what, || Error::NotLoaded {
            after: self.limits.timeout,
            source_name,
            dissent,
            advice,
        })
        .await
    }

    /// A member asks a plugin that is new in its configuration before it takes that into use, and says what came of it.
    pub(super) async fn await_round_trip(&self, run: &Run<'_>, facts: &Facts, dissent: Dissent) -> Result<(), Error> {
        let source_name = format!("{} and have a key wrapped by the KMS plugin", facts.source);
        if !run.ask.wait {
            let dissent = Some(dissent);
            return Err(Error::NotWaited { source_name, dissent });
        }
        let what = format!("waiting for members to have a key wrapped by the KMS plugin and given back: {dissent}");
        let advice = advice(facts.record.stage, facts.record.underway);
        self.wait(run, "round trip", &what, || Error::NotLoaded {
            after: self.limits.timeout,
            source_name,
            dissent,
            advice,
        })
        .await
    }

    pub(super) async fn await_history(&self, run: &Run<'_>, revision: i64) -> Result<(), Error> {
        if run.ask.how.compact {
            match self.site.compact(revision).await {
                // Somebody else has compacted further.
                Err(error) if error.trouble() == Trouble::Compacted => {}
                outcome => outcome?,
            }
            return self.compact_beside(run).await;
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
    pub(super) async fn wait(
        &self,
        run: &Run<'_>,
        what: &'static str,
        text: &str,
        end: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        let waited = self.say(run, what, text);
        if waited >= self.limits.timeout {
            return Err(end());
        }
        self.pause(poll(waited)).await
    }

    /// Says what is waited for, unless that was just said; for how long it has been waited for.
    pub(super) fn say(&self, run: &Run<'_>, what: &'static str, text: &str) -> Duration {
        let now = Instant::now();
        let mut waiting = run.waiting.borrow_mut();
        let state = match &mut *waiting {
            Some(state) if state.what == what => state,
            other => other.insert(Waiting {
                what,
                since: now,
                said: None,
            }),
        };
        let is_said = |(at, said): &(Instant, String)| said == text && now - *at < NOTICE_EVERY;
        if !state.said.as_ref().is_some_and(is_said) {
            self.audience.notice(text);
            state.said = Some((now, text.to_owned()));
        }
        now - state.since
    }

    /// Until it is worth looking again, or the command is to end.
    pub(super) async fn pause(&self, time: Duration) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = sleep(time) => Ok(()),
            Ok(_) = stop.wait_for(|stops| *stops) => Err(Error::Stopped),
        }
    }
}
