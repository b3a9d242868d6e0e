//! One traced call: a span for what the client waits for, and within it one for what the proxy waits for.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Inner, new_span};

/// gRPC codes that are a server's failure and not its client's. Source: OpenTelemetry's conventions for gRPC.
const SERVER_FAILURES: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// gRPC's code for a call that its client left.
const CANCELLED: u16 = 1;

/// Between what etcd was asked and its answer, where that is known.
pub type Times = Option<(Instant, Instant)>;

/// A call under way that is traced.
#[derive(Debug)]
pub struct Call {
    inner: Arc<Inner>,
    trace: TraceId,
    parent: Option<SpanId>,
    own: SpanId,
    upstream: SpanId,
    /// `service/method`.
    name: String,
    since: SystemTime,
    begun: Instant,
}

impl Call {
    pub(super) fn begin(inner: Arc<Inner>, path: &str, (trace, parent): (TraceId, Option<SpanId>)) -> Self {
        Self {
            inner,
            trace,
            parent,
            own: new_span(),
            upstream: new_span(),
            name: path.trim_start_matches('/').to_owned(),
            since: SystemTime::now(),
            begun: Instant::now(),
        }
    }

    pub(super) fn upstream_id(&self) -> SpanId {
        self.upstream
    }

    /// The call is over, with a code, or because its client has left it. Without `upstream` etcd is taken to have been at
    /// work all the time, as it is for a stream.
    pub fn end(self, code: Option<u16>, upstream: Times) {
        let code = code.unwrap_or(CANCELLED);
        let now = Instant::now();
        let (asked, answered) = upstream.unwrap_or((self.begun, now));
        let own = self.span(self.own, self.parent, SpanKind::Server, code, (self.begun, now));
        let etcd = self.span(self.upstream, Some(self.own), SpanKind::Client, code, (asked, answered));
        self.inner.export([own, etcd]);
    }

    fn span(
        &self,
        id: SpanId,
        parent: Option<SpanId>,
        kind: SpanKind,
        code: u16,
        times: (Instant, Instant),
    ) -> SpanData {
        let failed = match kind {
            SpanKind::Server => SERVER_FAILURES.contains(&code),
            _ => code != 0,
        };
        let at = |instant: Instant| self.since + instant.saturating_duration_since(self.begun);
        let (service, method) = self.name.split_once('/').unwrap_or((&self.name, ""));
        SpanData {
            span_context: SpanContext::new(self.trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: kind == SpanKind::Server && parent.is_some(),
            span_kind: kind,
            name: self.name.clone().into(),
            start_time: at(times.0),
            end_time: at(times.1),
            attributes: vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service.to_owned()),
                KeyValue::new("rpc.method", method.to_owned()),
                KeyValue::new("rpc.grpc.status_code", i64::from(code)),
            ],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.inner.scope.clone(),
        }
    }
}
