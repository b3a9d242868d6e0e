//! Whether one plugin is well: checks that are never made twice at once nor more often than is of use, and what the last
//! one found. Knows no protocol.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{Config, metrics};
use crate::types::KeyName;

/// Why a plugin is not well, fit to be shown.
pub(super) type Ailment = Arc<str>;

/// Something whose health is checked again and again.
pub(super) trait Patient: Send + Sync + 'static {
    /// Where the findings are kept.
    fn pulse(&self) -> &Pulse;

    /// Checks, whatever was found before. Only [`probe`] calls this, and never twice at once.
    fn check(&self) -> impl Future<Output = Result<(), Ailment>> + Send;
}

/// The findings about one plugin.
pub(super) struct Pulse {
    provider: KeyName,
    config: Config,
    last: Mutex<Option<(Instant, Result<(), Ailment>)>>,
    state: ArcSwap<State>,
    examined: watch::Sender<bool>,
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
        metrics::health(&self.provider, outcome.is_ok());
        self.examined.send_replace(true);
    }
}

/// Checks `patient`, unless that was done so short a time ago that its outcome still holds.
pub(super) async fn probe<P: Patient>(patient: &P) -> Result<(), Ailment> {
    let pulse = patient.pulse();
    let mut last = pulse.last.lock().await;
    if let Some((at, outcome)) = &*last {
        let fresh = match outcome {
            Ok(()) => pulse.config.fresh_good,
            Err(_) => pulse.config.fresh_bad,
        };
        if at.elapsed() < fresh {
            return outcome.clone();
        }
    }
    let outcome = patient.check().await;
    pulse.conclude(&outcome);
    *last = Some((Instant::now(), outcome.clone()));
    outcome
}

/// Checks `patient` at once and then again and again, for as long as somebody else holds it.
pub(super) fn watch<P: Patient>(runtime: &Handle, patient: &Arc<P>) -> AbortHandle {
    let weak = Arc::downgrade(patient);
    runtime.spawn(rounds(weak)).abort_handle()
}

async fn rounds<P: Patient>(weak: Weak<P>) {
    loop {
        let pause = {
            let Some(patient) = weak.upgrade() else { return };
            let config = &patient.pulse().config;
            match probe(&*patient).await {
                Ok(()) => config.poll,
                Err(_) => config.retry,
            }
        };
        sleep(pause).await;
    }
}
