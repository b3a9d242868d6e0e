//! The metrics of reloads: kube-apiserver's own by its names, so that its dashboards work, and two of ours.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::files::State;
use crate::telemetry::set_info;
use crate::types::Fingerprint;

// `staging/src/k8s.io/apiserver/pkg/server/options/encryptionconfig/metrics` of Kubernetes 1.34.
const RELOADS: &str = "apiserver_encryption_config_controller_automatic_reloads_total";
const LAST_RELOAD: &str = "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds";
const LAST_CONFIG: &str = "apiserver_encryption_config_controller_last_config_info";

const LOADED: &str = "etcd_encryption_proxy_config_loaded_timestamp_seconds";
const FAILING: &str = "etcd_encryption_proxy_config_reload_failing";

/// Of one configuration.
pub(super) struct Metrics {
    instance: String,
}

impl Metrics {
    pub(super) fn new(instance: String) -> Self {
        describe_counter!(
            RELOADS,
            "Reloads of the encryption provider configuration, by success or failure."
        );
        describe_gauge!(
            LAST_RELOAD,
            Unit::Seconds,
            "When a reload last succeeded or failed, in Unix time."
        );
        describe_gauge!(
            LOADED,
            Unit::Seconds,
            "Since when the configuration in use is in use, in Unix time."
        );
        describe_gauge!(
            FAILING,
            "1 while the configuration's file cannot be taken into use, else 0."
        );
        Self { instance }
    }

    /// What is in use, without a reload.
    pub(super) fn in_use(&self, state: &State<Fingerprint>) {
        gauge!(LOADED).set(seconds(state.loaded_at));
        self.failing(state.failure.is_some());
        set_info(
            LAST_CONFIG,
            "Which encryption provider configuration is in use, by its hash.",
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
        gauge!(FAILING).set(if is_failing { 1.0 } else { 0.0 });
    }

    fn count(&self, status: &'static str) {
        let labels = [
            ("status", status.to_owned()),
            ("apiserver_id_hash", self.instance.clone()),
        ];
        counter!(RELOADS, &labels).increment(1);
        gauge!(LAST_RELOAD, &labels).set(seconds(SystemTime::now()));
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
