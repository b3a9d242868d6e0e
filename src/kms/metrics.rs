//! Metric families of the plugins: kube-apiserver's where it has one, by its names, so that dashboards made for it work.

use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tonic::Code;

use super::failure::code_name;
use crate::types::KeyName;

const LATENCY: &str = "apiserver_envelope_encryption_kms_operations_latency_seconds";
const GENERATION: &str = "apiserver_storage_data_key_generation_duration_seconds";
const GENERATION_FAILURES: &str = "apiserver_storage_data_key_generation_failures_total";
const MISSES: &str = "apiserver_storage_envelope_transformation_cache_misses_total";
const INVALID_KEY_ID: &str = "apiserver_envelope_encryption_invalid_key_id_from_status_total";
const STATUS_KEY_ID: &str = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";
pub(super) const KEY_ID: &str = "apiserver_envelope_encryption_key_id_hash_total";
pub(super) const KEY_ID_LAST: &str = "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds";
const SOURCES: &str = "apiserver_envelope_encryption_dek_source_cache_size";
const FILL: &str = "apiserver_envelope_encryption_dek_cache_fill_percent";
const ARRIVAL: &str = "apiserver_envelope_encryption_dek_cache_inter_arrival_time_seconds";
const HEALTHY: &str = "etcd_encryption_proxy_kms_healthy";
const KEY_ID_CHANGES: &str = "etcd_encryption_proxy_kms_key_id_changes_total";
const VARIANTS: &str = "etcd_encryption_proxy_kms_annotation_variants";

/// The room's histograms, each with the first bucket's bound in seconds and how many buckets there are, every one twice
/// as wide as the one before: kube-apiserver's.
pub const HISTOGRAMS: [(&str, f64, u32); 3] =
    [(LATENCY, 0.000_1, 20), (GENERATION, 0.000_005, 14), (ARRIVAL, 60.0, 10)];

/// Tells the metrics registry what each family means.
pub fn describe() {
    describe_histogram!(
        LATENCY,
        "Time that calls of KMS plugins took, by the status that they ended with."
    );
    describe_histogram!(
        GENERATION,
        "Time that making a new data encryption key took, its encryption by the plugin included."
    );
    describe_counter!(GENERATION_FAILURES, "New data encryption keys that could not be made.");
    describe_counter!(MISSES, "Data encryption keys that had to be decrypted by a KMS plugin.");
    describe_counter!(
        INVALID_KEY_ID,
        "Status answers of KMS v2 plugins with an unusable key ID."
    );
    describe_gauge!(
        STATUS_KEY_ID,
        "When a KMS v2 plugin's Status last named this key ID, Unix time."
    );
    describe_counter!(KEY_ID, "Values sealed and opened under this key ID of a KMS v2 plugin.");
    describe_gauge!(
        KEY_ID_LAST,
        "When a value was last sealed or opened under this key ID, Unix time."
    );
    describe_gauge!(SOURCES, "Data encryption keys and seeds of a KMS v2 plugin in memory.");
    describe_gauge!(
        FILL,
        "How full the cache of KMS v1 data encryption keys is, from 0 to 1."
    );
    describe_histogram!(ARRIVAL, "Time between the calls that KMS v1 plugins were needed for.");
    describe_gauge!(HEALTHY, "Whether a KMS plugin passed the last check, 0 or 1.");
    describe_counter!(
        KEY_ID_CHANGES,
        "How often a KMS v2 plugin named another key ID than before."
    );
    describe_gauge!(
        VARIANTS,
        "Different sets of annotations seen under one key ID of a KMS v2 plugin, counted up to 64."
    );
}

/// A call of a plugin ended.
pub(super) fn call(provider: &KeyName, method: &'static str, code: Code, took: Duration) {
    histogram!(
        LATENCY,
        "provider_name" => provider.as_str().to_owned(), "method_name" => method, "grpc_status_code" => code_name(code)
    )
    .record(took);
}

/// A new key was made, or not.
pub(super) fn generated(took: Duration, is_made: bool) {
    if is_made {
        histogram!(GENERATION).record(took);
    } else {
        counter!(GENERATION_FAILURES).increment(1);
    }
}

/// A key was not at hand.
pub(super) fn missed() {
    counter!(MISSES).increment(1);
}

/// A Status named a key ID that is `error`: `empty` or `too_long`.
pub(super) fn invalid_key_id(provider: &KeyName, error: &'static str) {
    counter!(INVALID_KEY_ID, "provider_name" => provider.as_str().to_owned(), "error" => error).increment(1);
}

/// A Status named a key ID.
pub(super) fn named_key_id(provider: &KeyName, hash: String) {
    gauge!(STATUS_KEY_ID, "provider_name" => provider.as_str().to_owned(), "key_id_hash" => hash)
        .set(super::key_ids::unix_time().as_secs_f64());
}

/// So many keys and seeds are kept.
pub(super) fn cached_sources(provider: &KeyName, count: usize) {
    gauge!(SOURCES, "provider_name" => provider.as_str().to_owned()).set(number(count));
}

/// So many of the places of a v1 cache are in use.
pub(super) fn cache_fill(used: usize, places: u64) {
    gauge!(FILL).set(number(used) / number(usize::try_from(places).unwrap_or(usize::MAX)).max(1.0));
}

/// A small number as metrics have it.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A v1 plugin was needed `since` the last time.
pub(super) fn arrival(transformation_type: &'static str, since: Duration) {
    histogram!(ARRIVAL, "transformation_type" => transformation_type).record(since);
}

/// A plugin passed a check or did not.
pub(super) fn health(provider: &KeyName, is_healthy: bool) {
    gauge!(HEALTHY, "provider_name" => provider.as_str().to_owned()).set(f64::from(u8::from(is_healthy)));
}

/// A plugin named another key.
pub(super) fn key_id_changed(provider: &KeyName) {
    counter!(KEY_ID_CHANGES, "provider_name" => provider.as_str().to_owned()).increment(1);
}

/// So many sets of annotations were seen under one key ID.
pub(super) fn annotation_variants(provider: &KeyName, hash: String, count: usize) {
    gauge!(VARIANTS, "provider_name" => provider.as_str().to_owned(), "key_id_hash" => hash).set(number(count));
}
