//! The metric families of exported spans. Data only.

use crate::telemetry::{Family, Kind};

/// What this room exports, where calls are traced.
pub const FAMILIES: &[Family] = &[EXPORTED, DROPPED];

pub(super) const EXPORTED: Family = Family {
    name: "etcd_encryption_proxy_spans_exported_total",
    kind: Kind::Counter,
    help: "Spans that the collector has taken.",
    labels: &[],
};

pub(super) const DROPPED: Family = Family {
    name: "etcd_encryption_proxy_spans_dropped_total",
    kind: Kind::Counter,
    help: "Spans that no collector has, because too many came at once (queue_full) or it did not take them (export_failed).",
    labels: &["reason"],
};
