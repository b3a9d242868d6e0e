//! Where metrics are kept, and their rendering as Prometheus text.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use thiserror::Error;

use super::histogram::Histograms;
use super::{Family, Kind, info, process};

/// How often samples that summaries keep are compacted.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics.
#[derive(Clone)]
pub struct Registry {
    exporter: Arc<PrometheusHandle>,
    histograms: Arc<Histograms>,
}

/// Metrics are already set up in this process.
#[derive(Debug, Error)]
#[error("the metrics registry is already set up")]
pub struct RegistryError;

impl Registry {
    /// Makes the `metrics` macros of the whole process record here. A histogram must be among `families`, for it has no
    /// bounds otherwise and becomes a summary; counters and gauges that are not have no help text.
    pub fn install<'a>(families: impl IntoIterator<Item = &'a Family>) -> Result<Self, RegistryError> {
        let families: Vec<_> = families.into_iter().collect();
        let exporter = PrometheusBuilder::new().build_recorder();
        let registry = Self {
            exporter: Arc::new(exporter.handle()),
            histograms: Arc::new(Histograms::new(&families)),
        };
        for family in families {
            match family.kind {
                Kind::Counter => exporter.describe_counter(family.name.into(), None, family.help.into()),
                Kind::Gauge => exporter.describe_gauge(family.name.into(), None, family.help.into()),
                // Describes itself.
                Kind::Histogram(_) => {}
            }
        }
        let recorder = WithHistograms {
            exporter,
            histograms: Arc::clone(&registry.histograms),
        };
        metrics::set_global_recorder(recorder).map_err(|_| RegistryError)?;
        Ok(registry)
    }

    /// Everything recorded so far, and the process as it is now, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.exporter.render();
        self.histograms.render(&mut text);
        process::render(&mut text);
        info::render(&mut text);
        text
    }

    /// Compacts what summaries keep, for as long as it is polled.
    pub async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.exporter.run_upkeep();
        }
    }
}

/// The exporter, with histograms of our own in place of its.
struct WithHistograms {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder for WithHistograms {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let own = self.histograms.register(key);
        own.unwrap_or_else(|| self.exporter.register_histogram(key, metadata))
    }
}
