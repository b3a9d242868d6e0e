//! The metric families of values and keys. Data only.

use crate::telemetry::{Buckets, Family, Kind};

/// What this room exports. The first two are kube-apiserver's own, name, labels, bounds and quirks: its dashboards read
/// them. Source: `k8s.io/apiserver/pkg/storage/value/metrics.go`.
pub const FAMILIES: &[Family] = &[
    OPERATIONS,
    DURATION,
    OPENED,
    RETIRED_READS,
    KEY_WRITES,
    KEY_CREATED,
    KEY_LOADED,
];

pub(super) const OPERATIONS: Family = Family {
    name: "apiserver_storage_transformation_operations_total",
    kind: Kind::Counter,
    help: "Values sealed (to_storage) and opened (from_storage), by what they begin with, once for the provider's prefix \
           and once for the key's within it. A value that nothing recognises has the prefix unknown.",
    labels: &["resource", "transformation_type", "transformer_prefix", "status"],
};

pub(super) const DURATION: Family = Family {
    name: "apiserver_storage_transformation_duration_seconds",
    kind: Kind::Histogram(Buckets {
        start: 5e-6,
        factor: 2.0,
        count: 25,
    }),
    help: "Latencies in seconds of values sealed and opened with success, waiting for a KMS not included.",
    labels: &["transformation_type", "transformer_prefix"],
};

pub(super) const OPENED: Family = Family {
    name: "etcd_encryption_proxy_values_opened_total",
    kind: Kind::Counter,
    help: "Values opened, by the provider and key that opened them. Stale ones were not sealed by what writes now. A KMS \
           provider's name stands for its key; identity has none.",
    labels: &["resource", "provider", "key", "stale"],
};

pub(super) const RETIRED_READS: Family = Family {
    name: "etcd_encryption_proxy_retired_key_reads_total",
    kind: Kind::Counter,
    help: "Values opened by a key that only the archive of the keyring in etcd has: they come from a restored snapshot, or \
           turned up late, and are written again with the key in use.",
    labels: &["resource", "provider", "key"],
};

pub(super) const KEY_WRITES: Family = Family {
    name: "etcd_encryption_proxy_key_writes_total",
    kind: Kind::Counter,
    help: "Values sealed by each key in this process; other proxies that use the key count their own. An aesgcm key \
           should be replaced before it has sealed 200000.",
    labels: &["provider", "key"],
};

pub(super) const KEY_CREATED: Family = Family {
    name: "etcd_encryption_proxy_key_created_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When a key was made, for keys whose names end in -<RFC 3339 time>, as those that k3s makes; 0 once it is no \
           longer loaded.",
    labels: &["provider", "key"],
};

pub(super) const KEY_LOADED: Family = Family {
    name: "etcd_encryption_proxy_key_loaded_timestamp_seconds",
    kind: Kind::Gauge,
    help: "Since when this process has had a key; 0 once it is no longer loaded.",
    labels: &["provider", "key"],
};
