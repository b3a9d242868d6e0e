//! Spans of calls, exported over OTLP: off unless asked for. A call that kube-apiserver traces becomes two spans of its
//! trace, what the proxy took and within it what etcd took; other calls are touched in nothing.
//!
//! Spans name RPCs and statuses, never a key and never a value. Telling of one never waits: they go into a bounded queue,
//! which a task of the main runtime empties towards the collector.

mod call;
mod export;
mod families;
mod parent;

use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use rand::RngExt as _;
use tokio::sync::mpsc;

pub use call::{Call, Times};
pub use export::Export;
pub use families::FAMILIES;

use families::DROPPED;

/// How many calls' spans may wait to be exported.
const QUEUE: usize = 2048;

/// What a rate is out of.
const MILLION: u32 = 1_000_000;

/// Where spans go, and of which calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Host and port of a collector that takes OTLP over gRPC, without TLS.
    pub address: String,
    /// `service.name` of the spans.
    pub service_name: String,
    /// `service.instance.id` of the spans, if they are to have one.
    pub instance_id: Option<String>,
    /// Of a million calls of which the client does not say whether it traces them, how many are traced.
    pub sampling_rate: u32,
}

/// Spans can't be exported.
#[derive(Debug, thiserror::Error)]
#[error("no spans can be sent to {address}")]
pub struct Error {
    /// As configured.
    address: String,
    /// What is wrong with it.
    source: opentelemetry_otlp::ExporterBuildError,
}

/// Where calls are traced. Clones trace for the same collector; the default one traces nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<[SpanData; 2]>,
    scope: InstrumentationScope,
    sampling_rate: u32,
}

/// Begins to export. Must be called on the runtime that is to do it. A collector that is not there is no error.
///
/// # Errors
/// The address is none.
pub fn start(config: &Config) -> Result<(Traces, Export), Error> {
    let (queue, spans) = mpsc::channel(QUEUE);
    let mut resource = vec![
        KeyValue::new("service.name", config.service_name.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    resource.extend(
        config
            .instance_id
            .clone()
            .map(|id| KeyValue::new("service.instance.id", id)),
    );
    let resource = Resource::builder_empty().with_attributes(resource).build();
    let export = Export::start(&config.address, &resource, spans)?;
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let inner = Inner {
        queue,
        scope,
        sampling_rate: config.sampling_rate,
    };
    Ok((Traces(Some(Arc::new(inner))), export))
}

impl Traces {
    /// Takes note of a call that has come in, if it is traced. Then `headers`, which go on to etcd, name the proxy's span as
    /// the one that etcd's belong to.
    pub fn begin(&self, path: &str, headers: &mut http::HeaderMap) -> Option<Call> {
        let inner = self.0.as_ref()?;
        let trace = match parent::read(headers) {
            Some(parent) => parent.is_sampled.then_some((parent.trace, Some(parent.span)))?,
            None => inner
                .is_picked()
                .then(|| (TraceId::from(rand::rng().random_range(1..=u128::MAX)), None))?,
        };
        let call = Call::begin(Arc::clone(inner), path, trace);
        parent::write(headers, trace.0, call.upstream_id());
        Some(call)
    }
}

impl Inner {
    fn is_picked(&self) -> bool {
        self.sampling_rate > 0 && rand::rng().random_range(0..MILLION) < self.sampling_rate
    }

    fn export(&self, spans: [SpanData; 2]) {
        if self.queue.try_send(spans).is_err() {
            metrics::counter!(DROPPED.name, "reason" => "queue_full").increment(2);
        }
    }
}

/// A new span's number, which is never 0.
fn new_span() -> SpanId {
    SpanId::from(rand::rng().random_range(1..=u64::MAX))
}
