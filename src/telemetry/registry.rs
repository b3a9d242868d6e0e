//! Where the process's metrics are kept, and their rendering as Prometheus text: the recorder behind the `metrics` macros.
//! Knows of each family what its room says of it, and lets go of no series.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use thiserror::Error;

use super::family::labelled;
use super::series::{Level, Render};
use super::tally::Tally;
use super::{Family, Kind, histogram, info, logging, process};

/// The process's metrics. Clones are the same.
#[derive(Clone)]
pub struct Registry(Arc<BTreeMap<&'static str, Listed>>);

/// Metrics are already set up in this process.
#[derive(Debug, Error)]
#[error("the metrics registry is already set up")]
pub struct RegistryError;

/// A family, and what there is of it.
struct Listed {
    family: Family,
    series: Series,
}

enum Series {
    Counters(Kept<Tally>),
    Gauges(Kept<Level>),
    /// With their bounds.
    Histograms(Arc<[f64]>, Kept<histogram::Histogram>),
}

/// The series of one family, by their labels. Locked to find one and to render, never to count.
struct Kept<S>(RwLock<HashMap<Key, Arc<S>>>);

impl Registry {
    /// For series of `families`, and no others.
    pub fn new<'a>(families: impl IntoIterator<Item = &'a Family>) -> Self {
        let listed = families.into_iter().map(|family| (family.name, Listed::new(*family)));
        Self(Arc::new(listed.collect()))
    }

    /// Makes the `metrics` macros of the whole process record in a registry for `families`.
    pub fn install<'a>(families: impl IntoIterator<Item = &'a Family>) -> Result<Self, RegistryError> {
        let registry = Self::new(families);
        metrics::set_global_recorder(registry.clone()).map_err(|_| RegistryError)?;
        Ok(registry)
    }

    /// Everything recorded so far, and the process as it is now, in Prometheus' text format. A family without a series is
    /// left out.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for Listed { family, series } in self.0.values() {
            match series {
                Series::Counters(counters) => counters.render(family, &mut text),
                Series::Gauges(gauges) => gauges.render(family, &mut text),
                Series::Histograms(_, histograms) => histograms.render(family, &mut text),
            }
        }
        logging::render(&mut text);
        process::render(&mut text);
        info::render(&mut text);
        text
    }

    fn series(&self, key: &Key) -> Option<&Series> {
        self.0.get(key.name()).map(|listed| &listed.series)
    }
}

impl Listed {
    fn new(family: Family) -> Self {
        let series = match family.kind {
            Kind::Counter => Series::Counters(Kept::new()),
            Kind::Gauge => Series::Gauges(Kept::new()),
            Kind::Histogram(buckets) => Series::Histograms(buckets.bounds().into(), Kept::new()),
        };
        Self { family, series }
    }
}

impl<S: Render> Kept<S> {
    fn new() -> Self {
        Self(RwLock::default())
    }

    /// The series with the labels of `key`.
    fn get(&self, key: &Key, make: impl FnOnce() -> S) -> Arc<S> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.to_retained()).or_insert_with(|| Arc::new(make())))
        })
    }

    /// Every series by its labels as they are rendered. Nobody waits for the rendering itself.
    fn by_labels(&self) -> BTreeMap<String, Arc<S>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let labels = |key: &Key| labelled(key.labels().map(|label| (label.key(), label.value())));
        all.iter()
            .map(|(key, series)| (labels(key), Arc::clone(series)))
            .collect()
    }

    fn render(&self, family: &Family, out: &mut String) {
        let all = self.by_labels();
        if all.is_empty() {
            return;
        }
        let (name, help, kind) = (family.name, family.help, family.kind.as_str());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, series) in all {
            series.render(name, &labels, out);
        }
        out.push('\n');
    }
}

/// A mistake in the source, at which tests stop. A release goes on without that metric.
const UNLISTED: &str = "a metric of a family that is not listed, or is listed as another kind";

impl Recorder for Registry {
    // Families describe themselves.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let Some(Series::Counters(counters)) = self.series(key) else {
            debug_assert!(false, "{UNLISTED}: {key}");
            return Counter::noop();
        };
        Counter::from_arc(counters.get(key, Tally::default))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let Some(Series::Gauges(gauges)) = self.series(key) else {
            debug_assert!(false, "{UNLISTED}: {key}");
            return Gauge::noop();
        };
        Gauge::from_arc(gauges.get(key, Level::default))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let Some(Series::Histograms(bounds, histograms)) = self.series(key) else {
            debug_assert!(false, "{UNLISTED}: {key}");
            return Histogram::noop();
        };
        Histogram::from_arc(histograms.get(key, || histogram::Histogram::new(bounds)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;
    use crate::telemetry::Buckets;

    const FAMILIES: [Family; 3] = [
        family("waits_total", Kind::Counter, "Waits."),
        family("waiting", Kind::Gauge, "Waits that are not over."),
        family(
            "wait_seconds",
            Kind::Histogram(Buckets {
                start: 0.001,
                factor: 10.0,
                count: 2,
            }),
            "How long.",
        ),
    ];

    const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
        let labels = &["who"];
        Family {
            name,
            kind,
            help,
            labels,
        }
    }

    /// What is rendered of [`FAMILIES`].
    fn series_of(registry: &Registry) -> String {
        let text = registry.render();
        let end = text.find("# HELP process_").unwrap_or(text.len());
        text[..end].to_owned()
    }

    #[test]
    fn what_is_recorded_is_rendered_by_family_and_labels() {
        let registry = Registry::new(&FAMILIES);
        assert_eq!(series_of(&registry), "");
        with_local_recorder(&registry, || {
            for who in ["b \"\\\n\"", "a"] {
                counter!("waits_total", "who" => who).increment(2);
                counter!("waits_total", "who" => who.to_owned()).increment(1);
                gauge!("waiting", "who" => who).set(2.5);
                gauge!("waiting", "who" => who).decrement(1.0);
            }
            for value in [0.0005, 0.001, 0.0011, 5.0] {
                histogram!("wait_seconds", "who" => "a").record(value);
            }
            histogram!("wait_seconds", "who" => "a".to_owned()).record(0.01);
            let _empty = histogram!("wait_seconds", "who" => "c");
        });
        let expected = r#"# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{who="a",le="0.001"} 2
wait_seconds_bucket{who="a",le="0.01"} 4
wait_seconds_bucket{who="a",le="+Inf"} 5
wait_seconds_sum{who="a"} 5.0126
wait_seconds_count{who="a"} 5
wait_seconds_bucket{who="c",le="0.001"} 0
wait_seconds_bucket{who="c",le="0.01"} 0
wait_seconds_bucket{who="c",le="+Inf"} 0
wait_seconds_sum{who="c"} 0
wait_seconds_count{who="c"} 0

# HELP waiting Waits that are not over.
# TYPE waiting gauge
waiting{who="a"} 1.5
waiting{who="b \"\\\n\""} 1.5

# HELP waits_total Waits.
# TYPE waits_total counter
waits_total{who="a"} 3
waits_total{who="b \"\\\n\""} 3

"#;
        assert_eq!(series_of(&registry), expected);
    }

    #[test]
    fn what_no_histogram_expects_is_counted_all_the_same() {
        let registry = Registry::new(&FAMILIES);
        with_local_recorder(&registry, || {
            for value in [f64::NAN, f64::INFINITY, -1.0] {
                histogram!("wait_seconds").record(value);
            }
        });
        let text = series_of(&registry);
        assert!(text.contains("wait_seconds_count 3\n"), "{text}");
    }

    #[test]
    #[should_panic = "not listed"]
    fn a_family_that_is_not_listed_is_a_mistake() {
        with_local_recorder(&Registry::new(&FAMILIES), || counter!("unheard_of_total").increment(1));
    }

    #[test]
    #[should_panic = "another kind"]
    fn so_is_one_of_another_kind() {
        with_local_recorder(&Registry::new(&FAMILIES), || gauge!("waits_total").set(1));
    }

    #[test]
    fn a_scrape_while_threads_count_and_new_series_come_is_whole_and_never_goes_back() {
        const EACH: u64 = 5_000;
        let (registry, ended) = (Registry::new(&FAMILIES), AtomicBool::new(false));
        let whole = || {
            let text = series_of(&registry);
            let lines = text.lines().filter(|line| line.starts_with("waits_total{"));
            let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
            lines.map(value).sum::<u64>()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let registry = &registry;
                    scope.spawn(move || {
                        with_local_recorder(registry, || {
                            for count in 0..EACH {
                                counter!("waits_total", "who" => format!("{thread}.{}", count % 50)).increment(1);
                                gauge!("waiting", "who" => "all").increment(1);
                                histogram!("wait_seconds", "who" => "all").record(0.01);
                            }
                        });
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut last = 0;
                while !ended.load(Ordering::Relaxed) {
                    let now = whole();
                    assert!(now >= last && now <= 4 * EACH, "{last} and then {now}");
                    last = now;
                }
            });
            for thread in threads {
                thread.join().unwrap();
            }
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(whole(), 4 * EACH);
        let text = series_of(&registry);
        for line in [
            "waiting{who=\"all\"} 20000\n",
            "wait_seconds_count{who=\"all\"} 20000\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
