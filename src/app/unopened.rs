//! Values that do not open, as clients of this process have met them: told in its record, and at `/readyz/sweep`, until a
//! proof answers for them.
//!
//! A proof answers for what was met before its first page was read. When something was met is not known in revisions; that
//! it was before a later answer of etcd's is.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use humantime::format_rfc3339_seconds;
use tokio::time::{sleep, timeout};

use super::build::Parts;
use crate::etcd::{CallError, Store};
use crate::keyring::KeyringHandle;
use crate::proxy::Unopened;
use crate::sweep::{Activity, Finding, Scope, WorkerStatus, proved_from};
use crate::types::{Epoch, StatePrefix};

/// Between two looks for a proof.
const EVERY: Duration = Duration::from_secs(5);
/// Between two looks at etcd's revision, however often something is met.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits for proofs.
pub(super) struct Watch {
    unopened: Arc<Unopened>,
    keyring: Arc<KeyringHandle>,
    state: StatePrefix,
}

/// So much had been met before etcd was at this revision.
#[derive(Clone, Copy)]
struct Mark {
    met: u64,
    revision: i64,
}

impl Watch {
    /// Over what clients of the process that `parts` serve meet.
    pub(super) fn new(parts: &Parts, state: &StatePrefix) -> Self {
        Self {
            unopened: Arc::clone(&parts.proxy.unopened),
            keyring: Arc::clone(&parts.keyring),
            state: state.clone(),
        }
    }

    /// Works for as long as it is polled.
    pub(super) async fn run<S: Store>(&self, store: &S) {
        let mut mark = None;
        loop {
            sleep(PAUSE).await;
            // At once: a proof that begins before etcd's revision is known counts for nothing.
            _ = timeout(EVERY, self.unopened.noted()).await;
            // Without etcd nothing is proved, and what was met stays.
            if let Err(error) = self.look(store, &mut mark).await {
                tracing::debug!(%error, "no look for a proof");
            }
        }
    }

    async fn look<S: Store>(&self, store: &S, mark: &mut Option<Mark>) -> Result<(), CallError> {
        if self.unopened.encounters().is_none() {
            return Ok(());
        }
        // In this order: what is counted here was answered before etcd answers this.
        let met = self.unopened.met();
        let Some(known) = mark.filter(|known| known.met == met) else {
            let (revision, _) = store.get(self.state.as_bytes()).await?;
            *mark = Some(Mark { met, revision });
            return Ok(());
        };
        for lays_bare in [false, true] {
            let scope = Scope {
                keyring: self.keyring.snapshot(),
                epoch: Epoch::FIRST,
                state: self.state.clone(),
                resources: Vec::new(),
                prefixes: Vec::new(),
                lays_bare,

                written_until: None,
            };
            let from = proved_from(store, &scope).await?;
            if from.is_some_and(|from| from >= known.revision) {
                tracing::info!("a proof has shown that the values that did not open are gone, or open again");
                self.unopened.settle(met);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What the member's record says of it: how many, since when.
pub(super) fn told(unopened: &Unopened) -> Option<(u64, String)> {
    let met = unopened.encounters()?;
    Some((met.at_least, format_rfc3339_seconds(met.since).to_string()))
}

/// What the sweep does, and what was met that it has not proved. Text alone, and no failure: kube-apiserver would be taken
/// out of service together with this proxy, though all other values can be read and written, and no other proxy can read
/// these either. An alert is what brings somebody here.
/// Where a rule `misses` what is stored under its name, a proof says less than it seems to.
pub(super) fn sweep_text(status: &WorkerStatus, unopened: &Unopened, misses: bool) -> String {
    let Some((values, since)) = told(unopened) else {
        return match status.activity() {
            Activity::Done(Finding::Clean) if misses => {
                "done: every value that a rule covers is as it writes it; but see key-space: a rule matches nothing"
                    .to_owned()
            }
            _ => status.text(),
        };
    };
    let mut text = match status.activity() {
        // Not what the proof said, which is no longer so.
        Activity::Done(Finding::Clean) => "done, but that proof is older than what was met since".to_owned(),
        _ => status.text(),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "; clients have met encrypted values that no key here opens: {values} at least, since {since}; `sweep --dry-run` \
         names them"
    );
    text
}
