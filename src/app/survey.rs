//! Now and then looks for what is stored where no table has a resource, and for rules that match nothing although something of
//! their name is stored: for the log when that changes, for metrics and the health checks at any time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::time::timeout;

use crate::etcd::Store;
use crate::keyring::KeyringHandle;
use crate::sweep::{Scope, Survey, survey};
use crate::telemetry::{Family, Kind};
use crate::types::{Epoch, StatePrefix, with_causes};

const UNLISTED: Family = Family {
    name: "etcd_encryption_proxy_unlisted_keys",
    kind: Kind::Gauge,
    help: "Keys below --etcd-prefix of no resource that this version knows, when they were last looked for: only a rule for *.* covers them.",
    labels: &[],
};

const MISSED: Family = Family {
    name: "etcd_encryption_proxy_missed_rules",
    kind: Kind::Gauge,
    help: "Rules that match nothing although something of that name is stored, when that was last looked for.",
    labels: &[],
};

pub(super) const FAMILIES: &[Family] = &[UNLISTED, MISSED];

/// From one look to the next, while no other configuration is loaded; after a failure, sooner.
const LOOK: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What the last look found; `None` before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Surveyed(Arc<Mutex<Option<Survey>>>);

impl Surveyed {
    /// Looks for as long as it is polled.
    pub(super) async fn keep<S: Store>(&self, store: &S, keyring: &KeyringHandle, state: &StatePrefix) {
        let mut replaced = keyring.replacements();
        loop {
            replaced.mark_unchanged();
            let scope = Scope {
                keyring: keyring.snapshot(),
                epoch: Epoch::FIRST,
                state: state.clone(),
                resources: Vec::new(),
                prefixes: Vec::new(),
                lays_bare: true,
                written_until: None,
            };
            let pause = match survey(store, &scope).await {
                Ok(found) => {
                    self.found(found);
                    LOOK
                }
                Err(error) => {
                    tracing::debug!(%error, "the keys below --etcd-prefix were not looked at");
                    LOOK_AGAIN
                }
            };
            // Its sender lives as long as the keyring that is in use.
            _ = timeout(pause, replaced.changed()).await;
        }
    }

    fn found(&self, found: Survey) {
        gauge!(UNLISTED.name).set(count(found.unlisted_keys()));
        gauge!(MISSED.name).set(count(found.missed.len() as u64));
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take().unwrap_or_default();
        for missed in found.missed.iter().filter(|missed| !before.missed.contains(missed)) {
            tracing::warn!(
                rule = missed.rule,
                stored = missed.stored.join(", "),
                "this rule matches nothing, although something of that name is stored: it may lie in the clear. Name the resource \
                 as Kubernetes does, or say where it lies by --etcd-prefix or --resource-path"
            );
        }
        let is_known = |path: &str| before.unlisted.iter().any(|folder| folder.path == path);
        for folder in found.unlisted.iter().filter(|folder| !is_known(&folder.path)) {
            let (path, keys) = (&*folder.path, folder.keys);
            if folder.is_covered {
                tracing::info!(
                    path,
                    keys,
                    "keys of no resource that this version knows are covered by *.* alone"
                );
            } else {
                tracing::warn!(
                    path,
                    keys,
                    "keys of no resource that this version knows are covered by no rule"
                );
            }
        }
        *last = Some(found);
    }

    /// Whether a rule was found that matches nothing of what is stored under its name.
    pub(super) fn misses(&self) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|found| !found.missed.is_empty())
    }

    /// What was found, in one line.
    pub(super) fn text(&self) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .map_or_else(|| "not looked at yet".to_owned(), Survey::line)
    }
}

/// What is found for the rules of `scope`, once. Where that cannot be looked at it says so, and keeps nobody from seeing the rest.
pub(super) async fn look<S: Store, E: std::error::Error>(store: &S, scope: Result<Scope, E>) -> Survey {
    let failed = |why: &dyn std::error::Error| Survey {
        why_not: Some(with_causes(why)),
        ..Survey::default()
    };
    match scope {
        Ok(scope) => survey(store, &scope).await.unwrap_or_else(|error| failed(&error)),
        Err(error) => failed(&error),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count(of: u64) -> f64 {
    of as f64
}
