//! Metric families of the plugins: kube-apiserver's where it has one, by its names, so that dashboards made for it work.

use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tonic::Code;

use super::failure::code_name;
use crate::telemetry::{Buckets, Family, Kind, instance};
use crate::types::KeyName;

/// What this room exports. The bounds of histograms are kube-apiserver's.
pub const FAMILIES: &[Family] = &[
    LATENCY,
    GENERATION,
    GENERATION_FAILURES,
    MISSES,
    INVALID_KEY_ID,
    STATUS_KEY_ID,
    KEY_ID,
    KEY_ID_LAST,
    SOURCES,
    FILL,
    ARRIVAL,
    HEALTHY,
    KEY_ID_CHANGES,
    VARIANTS,
];

const LATENCY: Family = Family {
    name: "apiserver_envelope_encryption_kms_operations_latency_seconds",
    kind: doubling(1e-4, 20),
    help: "Time that calls of KMS plugins took, by the status that they ended with.",
    labels: &["provider_name", "method_name", "grpc_status_code"],
};
const GENERATION: Family = Family {
    name: "apiserver_storage_data_key_generation_duration_seconds",
    kind: doubling(5e-6, 14),
    help: "Time that making a new data encryption key took, its encryption by the plugin included.",
    labels: &[],
};
const GENERATION_FAILURES: Family = Family {
    name: "apiserver_storage_data_key_generation_failures_total",
    kind: Kind::Counter,
    help: "New data encryption keys that could not be made.",
    labels: &[],
};
const MISSES: Family = Family {
    name: "apiserver_storage_envelope_transformation_cache_misses_total",
    kind: Kind::Counter,
    help: "Data encryption keys that had to be decrypted by a KMS plugin.",
    labels: &[],
};
const INVALID_KEY_ID: Family = Family {
    name: "apiserver_envelope_encryption_invalid_key_id_from_status_total",
    kind: Kind::Counter,
    help: "Status answers of KMS v2 plugins with an unusable key ID.",
    labels: &["provider_name", "error"],
};
const STATUS_KEY_ID: Family = Family {
    name: "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When a KMS v2 plugin's Status last named this key ID, Unix time.",
    labels: &["apiserver_id_hash", "provider_name", "key_id_hash"],
};
pub(super) const KEY_ID: Family = Family {
    name: "apiserver_envelope_encryption_key_id_hash_total",
    kind: Kind::Counter,
    help: "Values sealed and opened under this key ID of a KMS v2 plugin.",
    labels: &[
        "apiserver_id_hash",
        "provider_name",
        "key_id_hash",
        "transformation_type",
    ],
};
pub(super) const KEY_ID_LAST: Family = Family {
    name: "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When a value was last sealed or opened under this key ID, Unix time.",
    labels: &[
        "apiserver_id_hash",
        "provider_name",
        "key_id_hash",
        "transformation_type",
    ],
};
const SOURCES: Family = Family {
    name: "apiserver_envelope_encryption_dek_source_cache_size",
    kind: Kind::Gauge,
    help: "Data encryption keys and seeds of a KMS v2 plugin in memory.",
    labels: &["provider_name"],
};
const FILL: Family = Family {
    name: "apiserver_envelope_encryption_dek_cache_fill_percent",
    kind: Kind::Gauge,
    help: "How full the cache of KMS v1 data encryption keys is, from 0 to 1.",
    labels: &[],
};
const ARRIVAL: Family = Family {
    name: "apiserver_envelope_encryption_dek_cache_inter_arrival_time_seconds",
    kind: doubling(60.0, 10),
    help: "Time between the calls that KMS v1 plugins were needed for.",
    labels: &["transformation_type"],
};
const HEALTHY: Family = Family {
    name: "etcd_encryption_proxy_kms_healthy",
    kind: Kind::Gauge,
    help: "Whether a KMS plugin passed the last check, 0 or 1; NaN once no configuration has it.",
    labels: &["provider_name"],
};
const KEY_ID_CHANGES: Family = Family {
    name: "etcd_encryption_proxy_kms_key_id_changes_total",
    kind: Kind::Counter,
    help: "How often a KMS v2 plugin named another key ID than before.",
    labels: &["provider_name"],
};
const VARIANTS: Family = Family {
    name: "etcd_encryption_proxy_kms_annotation_variants",
    kind: Kind::Gauge,
    help: "Different sets of annotations seen under one key ID of a KMS v2 plugin, counted up to 64.",
    labels: &["provider_name", "key_id_hash"],
};

/// A histogram of `count` buckets, each twice as wide as the one before, the first up to `start`.
const fn doubling(start: f64, count: usize) -> Kind {
    Kind::Histogram(Buckets {
        start,
        factor: 2.0,
        count,
    })
}

/// A call of a plugin ended.
pub(super) fn call(provider: &KeyName, method: &'static str, code: Code, took: Duration) {
    histogram!(
        LATENCY.name,
        "provider_name" => provider.as_str().to_owned(), "method_name" => method, "grpc_status_code" => code_name(code)
    )
    .record(took);
}

/// A new key was made, or not.
pub(super) fn generated(took: Duration, is_made: bool) {
    if is_made {
        histogram!(GENERATION.name).record(took);
    } else {
        counter!(GENERATION_FAILURES.name).increment(1);
    }
}

/// A key was not at hand.
pub(super) fn missed() {
    counter!(MISSES.name).increment(1);
}

/// A Status named a key ID that is `error`: `empty` or `too_long`.
pub(super) fn invalid_key_id(provider: &KeyName, error: &'static str) {
    counter!(INVALID_KEY_ID.name, "provider_name" => provider.as_str().to_owned(), "error" => error).increment(1);
}

/// A Status named a key ID.
pub(super) fn named_key_id(provider: &KeyName, hash: String) {
    let labels = [
        ("apiserver_id_hash", instance().to_owned()),
        ("provider_name", provider.as_str().to_owned()),
        ("key_id_hash", hash),
    ];
    gauge!(STATUS_KEY_ID.name, &labels).set(super::key_ids::unix_time().as_secs_f64());
}

/// So many keys and seeds are kept.
pub(super) fn cached_sources(provider: &KeyName, count: usize) {
    gauge!(SOURCES.name, "provider_name" => provider.as_str().to_owned()).set(number(count));
}

/// So many of the places of a v1 cache are in use.
pub(super) fn cache_fill(used: usize, places: u64) {
    gauge!(FILL.name).set(number(used) / number(usize::try_from(places).unwrap_or(usize::MAX)).max(1.0));
}

/// A small number as metrics have it.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A v1 plugin was needed `since` the last time.
pub(super) fn arrival(transformation_type: &'static str, since: Duration) {
    histogram!(ARRIVAL.name, "transformation_type" => transformation_type).record(since);
}

/// A plugin passed a check or did not; `None` if there is no such plugin any more.
pub(super) fn health(provider: &KeyName, is_healthy: Option<bool>) {
    let value = is_healthy.map_or(f64::NAN, |is_healthy| f64::from(u8::from(is_healthy)));
    gauge!(HEALTHY.name, "provider_name" => provider.as_str().to_owned()).set(value);
}

/// A plugin named another key.
pub(super) fn key_id_changed(provider: &KeyName) {
    counter!(KEY_ID_CHANGES.name, "provider_name" => provider.as_str().to_owned()).increment(1);
}

/// So many sets of annotations were seen under one key ID.
pub(super) fn annotation_variants(provider: &KeyName, hash: String, count: usize) {
    gauge!(VARIANTS.name, "provider_name" => provider.as_str().to_owned(), "key_id_hash" => hash).set(number(count));
}
