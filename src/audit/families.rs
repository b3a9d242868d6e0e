//! The metric families of the audit log. Data only.

use crate::telemetry::{Family, Kind};

/// What this room exports, where there is an audit log.
pub const FAMILIES: &[Family] = &[EVENTS, LOST];

pub(super) const EVENTS: Family = Family {
    name: "etcd_encryption_proxy_audit_events_total",
    kind: Kind::Counter,
    help: "Lines written to the audit log, by event.",
    labels: &["event"],
};

pub(super) const LOST: Family = Family {
    name: "etcd_encryption_proxy_audit_events_lost_total",
    kind: Kind::Counter,
    help: "Events that are not in the audit log: because too many came at once (queue_full), or because the file could not \
           be written (write_failed).",
    labels: &["reason"],
};
