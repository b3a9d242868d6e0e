//! Every metric family of the process: each room names its own, and only here they come together.

use super::survey;
use super::withdrawal::WITHDRAWN;
use super::writes::MAY_WRITE;
use crate::telemetry::{self, Family, Kind};
use crate::{audit, etcd, keyring, kms, proxy, sweep, tls, traces};

/// Which build this is.
const BUILD_INFO: Family = Family {
    name: "etcd_encryption_proxy_build_info",
    kind: Kind::Gauge,
    help: "The version that runs, the compiler and the platform it was built with and for, as labels; always 1.",
    labels: &["version", "rustc", "target"],
};

/// Every family that the process may export; which series there are depends on what it is set up with and has met.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [
        &[BUILD_INFO, MAY_WRITE, WITHDRAWN] as &[_],
        survey::FAMILIES,
        audit::FAMILIES,
        traces::FAMILIES,
        keyring::FAMILIES,
        keyring::RELOAD_FAMILIES,
        tls::FAMILIES,
        kms::FAMILIES,
        etcd::FAMILIES,
        proxy::FAMILIES,
        sweep::FAMILIES,
        telemetry::LOG_FAMILIES,
        telemetry::PROCESS_FAMILIES,
    ]
    .into_iter()
    .flatten()
}

/// Records what is known from the start.
pub(super) fn record_build() {
    let (version, rustc, target) = (env!("CARGO_PKG_VERSION"), env!("BUILD_RUSTC"), env!("BUILD_TARGET"));
    metrics::gauge!(BUILD_INFO.name, "version" => version, "rustc" => rustc, "target" => target).set(1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics::{Key, Label, Level, Metadata, Recorder};
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;
    use crate::telemetry::Registry;

    /// What a label's value may hold, but for two backslashes in a row: the exporter takes them for one that is escaped
    /// already, and shows another value than it was given.
    const VALUES: [&str; 5] = ["plain", "", "qu\"ote", "back\\slash", "line\nend"];

    /// Records something of every family, with every one of [`VALUES`].
    fn fill(recorder: &dyn Recorder) {
        let metadata = Metadata::new(module_path!(), Level::INFO, None);
        for (family, value) in families().flat_map(|family| VALUES.map(|value| (family, value))) {
            let labels: Vec<_> = family.labels.iter().map(|label| Label::new(*label, value)).collect();
            let key = Key::from_parts(family.name, labels);
            match family.kind {
                Kind::Counter => recorder.register_counter(&key, &metadata).increment(12_345_678_901),
                Kind::Gauge => recorder.register_gauge(&key, &metadata).set(-0.1),
                Kind::Histogram(buckets) => {
                    let histogram = recorder.register_histogram(&key, &metadata);
                    // One on each bound, one between it and the next.
                    for bound in buckets.bounds() {
                        histogram.record(bound);
                        histogram.record(bound * 1.5);
                    }
                }
            }
        }
    }

    /// What is said of each family, a block each, without the sums of histograms: the exporter adds up floats, and shows it.
    fn blocks(text: &str) -> BTreeSet<Vec<&str>> {
        text.split("\n\n")
            .map(|block| {
                let lines = block.lines().filter(|line| !line.contains("_sum"));
                let mut lines: Vec<_> = lines.collect();
                // The exporter's order of series is by chance.
                lines.sort_unstable();
                lines
            })
            .filter(|block| !block.is_empty())
            .collect()
    }

    #[test]
    fn every_family_is_written_as_the_exporter_of_the_metrics_crate_writes_it() {
        let registry = Registry::new(families());
        let mut exporter = PrometheusBuilder::new();
        for family in families() {
            if let Kind::Histogram(buckets) = family.kind {
                let name = Matcher::Full(family.name.to_owned());
                exporter = exporter.set_buckets_for_metric(name, &buckets.bounds()).unwrap();
            }
        }
        let exporter = exporter.build_recorder();
        for family in families() {
            let (name, help) = (family.name.into(), family.help.into());
            match family.kind {
                Kind::Counter => exporter.describe_counter(name, None, help),
                Kind::Gauge => exporter.describe_gauge(name, None, help),
                Kind::Histogram(_) => exporter.describe_histogram(name, None, help),
            }
        }
        fill(&registry);
        fill(&exporter);
        let (ours, theirs) = (registry.render(), exporter.handle().render());
        let (ours, theirs) = (blocks(&ours), blocks(&theirs));
        assert_eq!(theirs.len(), families().count());
        let missing: Vec<_> = theirs.difference(&ours).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn families_have_names_that_prometheus_takes_and_no_two_the_same() {
        let is_name = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let mut names = BTreeSet::new();
        for family in families() {
            assert!(names.insert(family.name), "{}", family.name);
            assert!(is_name(family.name), "{}", family.name);
            assert!(family.labels.iter().all(|label| is_name(label)), "{}", family.name);
            // Neither would be escaped.
            assert!(!family.help.contains(['\\', '\n']), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
        }
    }
}
