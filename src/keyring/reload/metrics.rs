//! The metrics of reloads: kube-apiserver's own by its names, so that its dashboards work, and two of ours.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};

use crate::files::State;
use crate::telemetry::{Family, Kind, set_info};
use crate::types::Fingerprint;

/// What reloads export. The first three are kube-apiserver's own. Source:
/// `staging/src/k8s.io/apiserver/pkg/server/options/encryptionconfig/metrics` of Kubernetes 1.34.
pub const FAMILIES: &[Family] = &[RELOADS, LAST_RELOAD, LAST_CONFIG, LOADED, FAILING];

const RELOADS: Family = Family {
    name: "apiserver_encryption_config_controller_automatic_reloads_total",
    kind: Kind::Counter,
    help: "Reloads of the encryption provider configuration, by success or failure.",
    labels: &["status", "apiserver_id_hash"],
};
const LAST_RELOAD: Family = Family {
    name: "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When a reload last succeeded or failed, in Unix time.",
    labels: &["status", "apiserver_id_hash"],
};
const LAST_CONFIG: Family = Family {
    name: "apiserver_encryption_config_controller_last_config_info",
    kind: Kind::Gauge,
    help: "Which encryption provider configuration is in use, by its hash.",
    labels: &["apiserver_id_hash", "hash"],
};
const LOADED: Family = Family {
    name: "etcd_encryption_proxy_config_loaded_timestamp_seconds",
    kind: Kind::Gauge,
    help: "Since when the configuration in use is in use, in Unix time.",
    labels: &[],
};
const FAILING: Family = Family {
    name: "etcd_encryption_proxy_config_reload_failing",
    kind: Kind::Gauge,
    help: "1 while the configuration's file cannot be taken into use, else 0.",
    labels: &[],
};

/// Of one configuration.
pub(super) struct Metrics {
    instance: String,
}

impl Metrics {
    pub(super) fn new(instance: String) -> Self {
        Self { instance }
    }

    /// What is in use, without a reload.
    pub(super) fn in_use(&self, state: &State<Fingerprint>) {
        gauge!(LOADED.name).set(seconds(state.loaded_at));
        self.failing(state.failure.is_some());
        set_info(
            &LAST_CONFIG,
            &[
                ("apiserver_id_hash", &self.instance),
                ("hash", &state.loaded.to_string()),
            ],
        );
    }

    pub(super) fn succeeded(&self, state: &State<Fingerprint>) {
        self.count("success");
        self.in_use(state);
    }

    pub(super) fn failed(&self) {
        self.count("failure");
        self.failing(true);
    }

    #[expect(clippy::unused_self, reason = "one place tells what is recorded")]
    pub(super) fn failing(&self, is_failing: bool) {
        gauge!(FAILING.name).set(if is_failing { 1.0 } else { 0.0 });
    }

    fn count(&self, status: &'static str) {
        let labels = [
            ("status", status.to_owned()),
            ("apiserver_id_hash", self.instance.clone()),
        ];
        counter!(RELOADS.name, &labels).increment(1);
        gauge!(LAST_RELOAD.name, &labels).set(seconds(SystemTime::now()));
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
