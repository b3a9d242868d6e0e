//! Whether one plugin is well: checks that are never made twice at once nor more often than is of use, and what the last
//! one found. Knows no protocol.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Config, metrics};
use crate::types::KeyName;

/// How many plugins in use have a name: two, while one takes the place of another.
static IN_USE: LazyLock<std::sync::Mutex<HashMap<KeyName, usize>>> = LazyLock::new(std::sync::Mutex::default);

/// Why a plugin is not well, fit to be shown.
pub(super) type Ailment = Arc<str>;

/// Something whose health is checked again and again.
pub(super) trait Patient: Send + Sync + 'static {
    /// Where the findings are kept.
    fn pulse(&self) -> &Pulse;

    /// Checks, whatever was found before. Only [`probe`] calls this, and never twice at once.
    fn check(&self) -> impl Future<Output = Result<(), Ailment>> + Send;

    /// Whether somebody listens where it should be. Asks nothing of it.
    fn is_there(&self) -> impl Future<Output = bool> + Send;
}

/// The findings about one plugin.
pub(super) struct Pulse {
    provider: KeyName,
    config: Config,
    last: Mutex<Option<Last>>,
    state: ArcSwap<State>,
    examined: watch::Sender<bool>,
    /// Whether a configuration in use has it. Until then metrics say nothing of it: nobody's values depend on it, and it may
    /// have the name of one on which they do.
    is_in_use: AtomicBool,
}

/// One check.
struct Last {
    began: Instant,
    ended: Instant,
    outcome: Result<(), Ailment>,
}

/// The last finding, and since when it is so.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) ailment: Option<Ailment>,
    pub(super) since: SystemTime,
}

impl Pulse {
    pub(super) fn new(provider: KeyName, config: Config) -> Self {
        Self {
            provider,
            config,
            last: Mutex::new(None),
            state: ArcSwap::from_pointee(State {
                ailment: Some(Arc::from("the plugin has not been asked yet")),
                since: SystemTime::now(),
            }),
            examined: watch::Sender::new(false),
            is_in_use: AtomicBool::new(false),
        }
    }

    /// Has metrics tell of it from now on, until it is dropped.
    pub(super) fn put_in_use(&self) {
        if !self.is_in_use.swap(true, Ordering::Relaxed) {
            *in_use().entry(self.provider.clone()).or_default() += 1;
            if *self.examined.borrow() {
                metrics::health(&self.provider, Some(self.state().ailment.is_none()));
            }
        }
    }

    /// The last finding.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Waits for the first finding.
    pub(super) async fn examined(&self) {
        // The sender lives as long as this does.
        let _ = self.examined.subscribe().wait_for(|examined| *examined).await;
    }

    fn conclude(&self, outcome: &Result<(), Ailment>) {
        let before = self.state.load();
        let is_first = !*self.examined.borrow();
        let provider = self.provider.as_str();
        match (outcome, &before.ailment) {
            (Ok(()), Some(_)) => tracing::info!(provider, "the KMS plugin is well"),
            (Err(ailment), None) => tracing::warn!(provider, error = %ailment, "the KMS plugin is not well any more"),
            (Err(ailment), Some(_)) if is_first => {
                tracing::warn!(provider, error = %ailment, "the KMS plugin is not well");
            }
            (Err(ailment), Some(old)) if ailment != old => {
                tracing::debug!(provider, error = %ailment, "the KMS plugin is still not well");
            }
            _ => {}
        }
        let ailment = outcome.as_ref().err().cloned();
        let is_turn = is_first || ailment.is_some() != before.ailment.is_some();
        self.state.store(Arc::new(State {
            since: if is_turn { SystemTime::now() } else { before.since },
            ailment,
        }));
        self.examined.send_replace(true);
        if self.is_in_use.load(Ordering::Relaxed) {
            metrics::health(&self.provider, Some(outcome.is_ok()));
        }
    }
}

/// A plugin that no configuration has any more is neither well nor ill, and must not go on to raise an alarm.
impl Drop for Pulse {
    fn drop(&mut self) {
        if !*self.is_in_use.get_mut() {
            return;
        }
        let mut in_use = in_use();
        let Some(count) = in_use.get_mut(&self.provider) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            in_use.remove(&self.provider);
            metrics::health(&self.provider, None);
        }
    }
}

fn in_use() -> std::sync::MutexGuard<'static, HashMap<KeyName, usize>> {
    IN_USE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Between two looks for a socket that is not there: what is made ready within a second must be used within it.
const LOOK: Duration = Duration::from_millis(200);

/// Checks `patient`, unless that was done so short a time ago that its outcome still holds.
pub(super) async fn probe<P: Patient>(patient: &P) -> Result<(), Ailment> {
    probe_since(patient, None).await
}

/// The same, where an outcome of a check that began before `since` does not hold.
pub(super) async fn probe_since<P: Patient>(patient: &P, since: Option<Instant>) -> Result<(), Ailment> {
    let pulse = patient.pulse();
    let mut last = pulse.last.lock().await;
    if let Some(last) = &*last
        && since.is_none_or(|since| last.began >= since)
    {
        let fresh = match last.outcome {
            Ok(()) => pulse.config.fresh_good,
            Err(_) => pulse.config.fresh_bad,
        };
        if last.ended.elapsed() < fresh {
            return last.outcome.clone();
        }
    }
    let began = Instant::now();
    let outcome = patient.check().await;
    pulse.conclude(&outcome);
    *last = Some(Last {
        began,
        ended: Instant::now(),
        outcome: outcome.clone(),
    });
    outcome
}

/// Checks `patient` at once and then again and again, for as long as somebody else holds it.
pub(super) fn watch<P: Patient>(runtime: &Handle, patient: &Arc<P>) -> AbortHandle {
    let weak = Arc::downgrade(patient);
    runtime.spawn(rounds(weak)).abort_handle()
}

async fn rounds<P: Patient>(weak: Weak<P>) {
    // Since when it is known to have come, where it was away.
    let mut came = None;
    loop {
        let (pause, is_well) = {
            let Some(patient) = weak.upgrade() else { return };
            let config = &patient.pulse().config;
            match probe_since(&*patient, came.take()).await {
                Ok(()) => (config.poll, true),
                Err(_) => (config.retry, false),
            }
        };
        if is_well {
            sleep(pause).await;
        } else {
            came = comes(&weak, pause).await;
        }
    }
}

/// Waits for `pause`, but no longer than for somebody to listen at a socket where nobody does now: when that was.
async fn comes<P: Patient>(weak: &Weak<P>, pause: Duration) -> Option<Instant> {
    let end = Instant::now() + pause;
    let mut was_away = false;
    loop {
        let is_there = weak.upgrade()?.is_there().await;
        if is_there && was_away {
            return Some(Instant::now());
        }
        if is_there {
            // Whatever ails it, it is not that.
            sleep_until(end).await;
            return None;
        }
        was_away = true;
        if Instant::now() >= end {
            return None;
        }
        sleep_until(end.min(Instant::now() + LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    #[test]
    fn metrics_tell_of_plugins_in_use_alone() {
        let registry = Registry::new(metrics::FAMILIES);
        let name = "a plugin of this test alone";
        let told = || {
            let text = registry.render();
            let line = text.lines().find(|line| line.contains(name))?;
            line.rsplit(' ').next().map(str::to_owned)
        };
        let pulse = || Pulse::new(KeyName::new(name), Config::default());
        let ill = || Err(Ailment::from("ill"));
        ::metrics::with_local_recorder(&registry, || {
            let first = pulse();
            first.conclude(&ill());
            assert_eq!(told(), None);
            first.put_in_use();
            assert_eq!(told().as_deref(), Some("0"));
            first.conclude(&Ok(()));
            let refused = pulse();
            refused.conclude(&ill());
            drop(refused);
            assert_eq!(told().as_deref(), Some("1"));
            let second = pulse();
            second.conclude(&Ok(()));
            second.put_in_use();
            second.put_in_use();
            drop(first);
            assert_eq!(told().as_deref(), Some("1"));
            second.conclude(&ill());
            drop(second);
            assert_eq!(told().as_deref(), Some("NaN"));
        });
    }
}
