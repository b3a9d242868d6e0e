//! Histograms that cost the same however many samples they are given. Knows no family by name.
//!
//! The exporter's own keep every sample in a list until the next scrape or upkeep; one list of a hundred thousand Secrets
//! would leave several hundred thousand samples there. Here a sample is two additions, to its bucket and to the sum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Histogram, HistogramFn, Key};

use super::family::escaped;
use super::{Buckets, Family, Kind};

/// The sum is kept as an integer of these, so that adding to it is one instruction: a billionth of the family's unit.
const PER_UNIT: f64 = 1e9;

/// Every histogram of the process.
#[derive(Default)]
pub(super) struct Histograms(BTreeMap<&'static str, Described>);

struct Described {
    help: &'static str,
    bounds: Arc<[f64]>,
    /// By their labels, written as Prometheus wants them. Locked to register a series and to render, never to record.
    series: Mutex<BTreeMap<String, Arc<Series>>>,
}

/// One series of a histogram family.
struct Series {
    bounds: Arc<[f64]>,
    /// One more than bounds: the last is for what exceeds them all.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histograms {
    pub(super) fn new(families: &[&Family]) -> Self {
        let described = |family: &&Family| match family.kind {
            Kind::Histogram(buckets) => Some((family.name, Described::new(family.help, buckets))),
            Kind::Counter | Kind::Gauge => None,
        };
        Self(families.iter().filter_map(described).collect())
    }

    /// The series for `key`; `None` if no such family was described.
    pub(super) fn register(&self, key: &Key) -> Option<Histogram> {
        let family = self.0.get(key.name())?;
        let mut labels = String::new();
        for label in key.labels() {
            let comma = if labels.is_empty() { "" } else { "," };
            // Writing to a String cannot fail; so below.
            let _ = write!(labels, "{comma}{}=\"{}\"", label.key(), escaped(label.value()));
        }
        let mut series = family.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = series
            .entry(labels)
            .or_insert_with(|| Arc::new(Series::new(&family.bounds)));
        Some(Histogram::from_arc(Arc::clone(series)))
    }

    /// Appends all series in Prometheus' text format. A family without a series is left out.
    pub(super) fn render(&self, out: &mut String) {
        for (name, family) in &self.0 {
            let series = family.series.lock().unwrap_or_else(PoisonError::into_inner);
            if series.is_empty() {
                continue;
            }
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} histogram", family.help);
            for (labels, series) in series.iter() {
                series.render(name, labels, out);
            }
            out.push('\n');
        }
    }
}

impl Described {
    fn new(help: &'static str, buckets: Buckets) -> Self {
        Self {
            help,
            bounds: buckets.bounds().into(),
            series: Mutex::default(),
        }
    }
}

impl Series {
    fn new(bounds: &Arc<[f64]>) -> Self {
        Self {
            bounds: Arc::clone(bounds),
            buckets: std::iter::repeat_with(AtomicU64::default)
                .take(bounds.len() + 1)
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum has more digits than anybody looks at")]
    fn render(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        let bounds = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            so_far += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {so_far}");
        }
        let braced = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let sum = self.sum.load(Ordering::Relaxed) as f64 / PER_UNIT;
        let _ = writeln!(out, "{name}_sum{braced} {sum}\n{name}_count{braced} {so_far}");
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what no number of nanoseconds holds becomes the nearest one that does"
        )]
        self.sum.fetch_add((value * PER_UNIT) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use metrics::Label;

    use super::*;

    const FAMILY: Family = Family {
        name: "wait_seconds",
        kind: Kind::Histogram(Buckets {
            start: 0.001,
            factor: 10.0,
            count: 2,
        }),
        help: "How long.",
        labels: &["who"],
    };

    #[test]
    fn samples_are_counted_below_their_bounds_and_summed() {
        let histograms = Histograms::new(&[&FAMILY]);
        let key = |who: &'static str| Key::from_parts("wait_seconds", vec![Label::new("who", who)]);
        let series = histograms.register(&key("a \"b\"")).unwrap();
        for value in [0.0005, 0.001, 0.0011, 5.0] {
            series.record(value);
        }
        // The same series once more, and another one.
        histograms.register(&key("a \"b\"")).unwrap().record(0.01);
        let _empty = histograms.register(&key("c")).unwrap();
        assert!(histograms.register(&Key::from_name("unheard_of")).is_none());
        let mut text = String::new();
        histograms.render(&mut text);
        let expected = r#"# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{who="a \"b\"",le="0.001"} 2
wait_seconds_bucket{who="a \"b\"",le="0.01"} 4
wait_seconds_bucket{who="a \"b\"",le="+Inf"} 5
wait_seconds_sum{who="a \"b\""} 5.0126
wait_seconds_count{who="a \"b\""} 5
wait_seconds_bucket{who="c",le="0.001"} 0
wait_seconds_bucket{who="c",le="0.01"} 0
wait_seconds_bucket{who="c",le="+Inf"} 0
wait_seconds_sum{who="c"} 0
wait_seconds_count{who="c"} 0

"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn what_no_family_expects_is_counted_all_the_same() {
        let histograms = Histograms::new(&[&FAMILY]);
        let series = histograms.register(&Key::from_name("wait_seconds")).unwrap();
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            series.record(value);
        }
        let mut text = String::new();
        histograms.render(&mut text);
        assert!(text.contains("wait_seconds_count 3\n"), "{text}");
    }
}
