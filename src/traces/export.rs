//! Takes spans out of the queue and sends them to the collector, many at once. Never makes anybody wait for a collector
//! that is slow or away: what does not fit into the queue meanwhile is dropped.

use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Error;
use super::families::{DROPPED, EXPORTED};

/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_secs(1);

/// How many calls' spans are sent at once.
const BATCH: usize = 256;

/// Bound on one sending, and on the last one when the process ends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The export under way.
#[derive(Debug)]
pub struct Export {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Export {
    pub(super) fn start(
        address: &str,
        resource: &Resource,
        spans: mpsc::Receiver<[SpanData; 2]>,
    ) -> Result<Self, Error> {
        let built = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{address}"))
            .with_timeout(EXPORT_TIMEOUT)
            .build();
        let mut exporter = built.map_err(|source| Error {
            address: address.to_owned(),
            source,
        })?;
        exporter.set_resource(resource);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(exporter, spans, stopped));
        Ok(Self { stop, task })
    }

    /// Sends what is in the queue and ends.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(EXPORT_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("the last spans were not taken by the collector in time");
        }
    }
}

async fn run(exporter: SpanExporter, mut spans: mpsc::Receiver<[SpanData; 2]>, mut stopped: oneshot::Receiver<()>) {
    let mut is_failing = false;
    let mut ending = false;
    while !ending {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = gather(&mut spans, &mut batch) => {}
            _ = &mut stopped => {
                ending = true;
                // No more come; what is there goes out, in as many sendings as it takes.
                spans.close();
            }
        }
        loop {
            send(&exporter, std::mem::take(&mut batch), &mut is_failing).await;
            if !ending || spans.recv_many(&mut batch, BATCH).await == 0 {
                break;
            }
        }
    }
}

/// Fills `batch` until it is full or has waited long enough. What it holds stays when this is dropped.
async fn gather(spans: &mut mpsc::Receiver<[SpanData; 2]>, batch: &mut Vec<[SpanData; 2]>) {
    if spans.recv_many(batch, BATCH).await == 0 {
        // Every handle is gone: only the end is waited for.
        return std::future::pending().await;
    }
    let more = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            if spans.recv_many(batch, room).await == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(GATHER, more).await;
}

async fn send(exporter: &SpanExporter, batch: Vec<[SpanData; 2]>, is_failing: &mut bool) {
    if batch.is_empty() {
        return;
    }
    let spans: Vec<_> = batch.into_iter().flatten().collect();
    let count = spans.len() as u64;
    match exporter.export(spans).await {
        Ok(()) => {
            *is_failing = false;
            metrics::counter!(EXPORTED.name).increment(count);
        }
        Err(error) => {
            metrics::counter!(DROPPED.name, "reason" => "export_failed").increment(count);
            if !std::mem::replace(is_failing, true) {
                tracing::warn!(%error, "spans are not taken by the collector; they are dropped until it takes them");
            }
        }
    }
}
