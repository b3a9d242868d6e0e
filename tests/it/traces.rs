//! Traces as etcd, the client and a collector see them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use crate::common::config;
use crate::common::fake_etcd::{Call, FakeEtcd};
use crate::common::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::{RawClient, frame};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

struct World {
    etcd: FakeEtcd,
    collector: FakeEtcd,
    proxy: Proxy,
    client: RawClient,
}

impl World {
    async fn new(sampling_rate: u32) -> Self {
        let (etcd, collector) = (FakeEtcd::start().await, FakeEtcd::start().await);
        let proxy = Setup::new(etcd.url(), config::secrets())
            .flag("--enable-distributed-tracing")
            .flag(format!(
                "--distributed-tracing-address={}",
                &collector.url()["http://".len()..]
            ))
            .flag("--distributed-tracing-instance-id=one")
            .flag(format!("--distributed-tracing-sampling-rate={sampling_rate}"))
            .start();
        let client = RawClient::connect(proxy.url()).await;
        Self {
            etcd,
            collector,
            proxy,
            client,
        }
    }

    /// Makes a call that etcd answers with success, or else resets; gives the `traceparent` that etcd saw.
    async fn call(&mut self, traceparent: Option<&str>, succeeds: bool) -> Option<String> {
        let headers: Vec<_> = traceparent.map(|value| ("traceparent", value)).into_iter().collect();
        let mut call = self.client.open(RANGE, &headers).await;
        let range = RangeRequest {
            key: b"/registry/configmaps/name".to_vec(),
            ..RangeRequest::default()
        };
        call.data(frame(&range.encode_to_vec()), true);
        let mut arrived = self.etcd.next().await;
        arrived.read_all().await;
        let seen = arrived
            .parts
            .headers
            .get("traceparent")
            .map(|value| value.to_str().unwrap().to_owned());
        if succeeds {
            arrived.succeed(&RangeResponse::default().encode_to_vec());
        } else {
            arrived.respond_only(&[("grpc-status", "14"), ("grpc-message", "etcdserver: leader changed")]);
        }
        assert!(call.end().await.code().is_some());
        seen
    }

    /// What the collector gets next.
    async fn exported(&mut self) -> (Vec<Span>, String) {
        let mut call: Call = self.collector.next().await;
        assert_eq!(
            call.parts.uri.path(),
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        );
        let body = call.read_all().await;
        call.succeed(&[]);
        let request = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
        let shown = format!("{request:?}");
        let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
        (scopes.flat_map(|scope| scope.spans).collect(), shown)
    }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_call_is_two_spans_of_the_clients_trace() {
    let mut world = World::new(0).await;
    let sent = format!("00-{TRACE}-{SPAN}-01");
    let seen = world.call(Some(&sent), true).await.unwrap();
    let (spans, shown) = world.exported().await;
    let [own, etcd] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((own.kind(), etcd.kind()), (SpanKind::Server, SpanKind::Client));
    assert!(spans.iter().all(|span| hex::encode(&span.trace_id) == TRACE));
    assert_eq!(hex::encode(&own.parent_span_id), SPAN);
    assert_eq!(etcd.parent_span_id, own.span_id);
    assert_eq!(seen, format!("00-{TRACE}-{}-01", hex::encode(&etcd.span_id)));
    let times = [
        own.start_time_unix_nano,
        etcd.start_time_unix_nano,
        etcd.end_time_unix_nano,
        own.end_time_unix_nano,
    ];
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
    for span in &spans {
        assert_eq!(span.name, "etcdserverpb.KV/Range");
        for (key, value) in [
            ("rpc.system", "grpc"),
            ("rpc.service", "etcdserverpb.KV"),
            ("rpc.method", "Range"),
        ] {
            assert_eq!(attribute(span, key), Some(Value::StringValue(value.to_owned())));
        }
        assert_eq!(attribute(span, "rpc.grpc.status_code"), Some(Value::IntValue(0)));
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code), 0);
    }
    assert!(
        shown.contains("\"etcd-encryption-proxy\"") && shown.contains("\"one\""),
        "{shown}"
    );
    assert!(!shown.contains("configmaps"), "{shown}");

    world.call(Some(&sent), false).await;
    // What is not sent yet when the proxy ends is sent then.
    drop(world.client);
    world.proxy.process().signal("TERM");
    let mut call = world.collector.next().await;
    let body = call.read_all().await;
    call.succeed(&[]);
    let request = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert!(
        spans.iter().all(|span| span.status.as_ref().unwrap().code == 2),
        "{spans:?}"
    );
    assert!(world.proxy.process().wait().success());
}

#[tokio::test]
async fn a_call_that_is_not_traced_passes_untouched() {
    let mut world = World::new(0).await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    for sent in [None, Some(unsampled.as_str()), Some("nonsense")] {
        assert_eq!(world.call(sent, true).await.as_deref(), sent);
    }
    // The first call that is exported is the first that was sampled.
    let sampled = format!("00-{TRACE}-{SPAN}-01");
    world.call(Some(&sampled), true).await;
    assert_eq!(world.exported().await.0.len(), 2);
}

#[tokio::test]
async fn calls_of_clients_that_trace_nothing_are_traced_by_the_rate() {
    let mut world = World::new(1_000_000).await;
    let seen = world.call(None, true).await.unwrap();
    let (spans, _) = world.exported().await;
    assert!(spans[0].parent_span_id.is_empty());
    assert!(seen.starts_with(&format!(
        "00-{}-{}",
        hex::encode(&spans[0].trace_id),
        hex::encode(&spans[1].span_id)
    )));
    // What a client decided against stays so.
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    assert_eq!(world.call(Some(&unsampled), true).await, Some(unsampled));
}
