//! The metrics of certificates in use.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Loaded;

const RELOADS: &str = "etcd_encryption_proxy_certificate_reloads_total";
const EXPIRATION: &str = "etcd_encryption_proxy_certificate_expiration_timestamp_seconds";

pub(super) fn describe() {
    describe_counter!(
        RELOADS,
        "Reloads of TLS certificates, keys and CAs, by side (server: towards clients; client: towards etcd) and success or \
         failure."
    );
    describe_gauge!(
        EXPIRATION,
        Unit::Seconds,
        "Last second in which our own certificate of that side is valid, in Unix time."
    );
}

pub(super) fn count(which: &'static str, status: &'static str) {
    counter!(RELOADS, "which" => which, "status" => status).increment(1);
}

pub(super) fn in_use(which: &'static str, loaded: Loaded) {
    if let Some(not_after) = loaded.not_after {
        #[expect(clippy::cast_precision_loss, reason = "exact for the next 280 million years")]
        gauge!(EXPIRATION, "which" => which).set(not_after as f64);
    }
}
