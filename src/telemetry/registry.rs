//! Where metrics are kept, and their rendering as Prometheus text.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

use super::info;

/// How often samples that summaries keep are compacted.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics.
#[derive(Clone)]
pub struct Registry(Arc<PrometheusHandle>);

/// Metrics are already set up in this process.
#[derive(Debug, Error)]
#[error("the metrics registry is already set up")]
pub struct RegistryError;

impl Registry {
    /// Makes the `metrics` macros of the whole process record here.
    pub fn install() -> Result<Self, RegistryError> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| RegistryError)?;
        Ok(Self(Arc::new(handle)))
    }

    /// Everything recorded so far, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.0.render();
        info::render(&mut text);
        text
    }

    /// Compacts what summaries keep, for as long as it is polled.
    pub async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}
