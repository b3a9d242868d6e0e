//! The metrics of certificates in use.

use metrics::{counter, gauge};

use super::Loaded;
use crate::telemetry::{Family, Kind};

/// What certificates export.
pub const FAMILIES: &[Family] = &[RELOADS, EXPIRATION];

const RELOADS: Family = Family {
    name: "etcd_encryption_proxy_certificate_reloads_total",
    kind: Kind::Counter,
    help: "Reloads of TLS certificates, keys and CAs, by side (server: towards clients; client: towards etcd) and success \
           or failure.",
    labels: &["which", "status"],
};
const EXPIRATION: Family = Family {
    name: "etcd_encryption_proxy_certificate_expiration_timestamp_seconds",
    kind: Kind::Gauge,
    help: "Last second in which our own certificate of that side is valid, in Unix time.",
    labels: &["which"],
};

pub(super) fn count(which: &'static str, status: &'static str) {
    counter!(RELOADS.name, "which" => which, "status" => status).increment(1);
}

pub(super) fn in_use(which: &'static str, loaded: Loaded) {
    if let Some(not_after) = loaded.not_after {
        #[expect(clippy::cast_precision_loss, reason = "exact for the next 280 million years")]
        gauge!(EXPIRATION.name, "which" => which).set(not_after as f64);
    }
}
