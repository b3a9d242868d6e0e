//! A serving process's part in rotations of the keyring in etcd, wired: the store, sweeps, and the log as audience.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::follower::Follower;
use super::rotation::Etcd;
use super::{Common, host};
use crate::config::{KeyId, KeyType};
use crate::etcd::Client;
use crate::keyring::key_writes;
use crate::kms::Plugins;
use crate::rotation::{Audience, Limits, ManagedConfig, Policy, Steward};
use crate::sweep::{self, Observer, Progress, Work};
use crate::types::with_causes;
use crate::value::ProviderKind;

/// How long one wait of a rotation may last before that is an error, which is said, and tried again.
const WAIT: Duration = Duration::from_secs(15 * 60);

/// How long etcd may be in trouble before a sweep gives up.
const SWEEP_WAIT: Duration = Duration::from_secs(10 * 60);

/// What it is made of.
pub(super) struct Caretaking {
    pub(super) common: Common,
    pub(super) plugins: Arc<Plugins>,
    /// When keys are rotated by themselves, and how fast what is stored is written again; `None`: by others only.
    pub(super) policy: Option<(Policy, sweep::Limits)>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Caretaking {
    /// Works until it is told to stop.
    pub(super) async fn run(self, client: &Client, follower: &Follower) {
        let Some((policy, pace)) = self.policy else { return };
        let options = sweep::Options {
            limits: pace,
            max_wait: SWEEP_WAIT,
            restart: false,
            dry_run: false,
        };
        let site = Etcd::new(client.clone(), &self.common, self.plugins, options, Arc::new(Log));
        let site = match site {
            Ok(site) => site,
            // The same prefixes have been looked at before anything was served.
            Err(error) => return tracing::error!(error = with_causes(&error), "rotations are left to others"),
        };
        let steward = Steward {
            site: &site,
            source: &ManagedConfig::new(follower.strongbox().clone()),
            audience: &Log,
            policy,
            counted: &counted,
            limits: Limits { timeout: WAIT },
            host: host(),
            stop: self.stop,
        };
        Box::pin(steward.run()).await;
    }
}

/// How many values each key of a configuration has sealed here.
fn counted() -> BTreeMap<KeyId, u64> {
    let keys = key_writes().into_iter().filter_map(|(kind, name, writes)| {
        let provider = match kind {
            ProviderKind::AesCbc => KeyType::AesCbc,
            ProviderKind::AesGcm => KeyType::AesGcm,
            ProviderKind::Secretbox => KeyType::Secretbox,
            ProviderKind::Identity | ProviderKind::KmsV1 | ProviderKind::KmsV2 => return None,
        };
        let provider = provider.into();
        Some((KeyId { provider, name }, writes))
    });
    keys.collect()
}

/// Tells the log.
struct Log;

impl Observer for Log {
    fn notice(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn progress(&self, _: &Progress) {}
}

impl Audience for Log {
    fn says(&self, line: &str) {
        tracing::info!("{line}");
    }

    fn notice(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn follows(&self, _: &Work) {}
}
