//! What surrounds the messages: metadata, deadlines, trailers, resets and half-closes cross as they are.

use prost::Message;

use crate::common::config;
use crate::common::fake_etcd::{Call, FakeEtcd};
use crate::common::pb::etcdserverpb::*;
use crate::common::proxy;
use crate::common::raw::{Ended, RawClient, frame};

const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// A call of each kind of treatment.
const PATHS: [&str; 4] = [RANGE, WATCH, SNAPSHOT, KEEP_ALIVE];

async fn setup() -> (FakeEtcd, proxy::Proxy, RawClient) {
    let fake = FakeEtcd::start().await;
    let proxy = proxy::Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    (fake, proxy, client)
}

/// Whether the client has nothing more to say after its first message.
fn has_one_request(path: &str) -> bool {
    path == RANGE || path == SNAPSHOT
}

fn request(path: &str) -> Vec<u8> {
    match path {
        RANGE => RangeRequest {
            key: b"/registry/configmaps/a".to_vec(),
            ..RangeRequest::default()
        }
        .encode_to_vec(),
        WATCH => {
            let create = WatchCreateRequest {
                key: b"/registry/configmaps/a".to_vec(),
                ..WatchCreateRequest::default()
            };
            let union = watch_request::RequestUnion::CreateRequest(create);
            WatchRequest {
                request_union: Some(union),
            }
            .encode_to_vec()
        }
        KEEP_ALIVE => LeaseKeepAliveRequest { id: 7 }.encode_to_vec(),
        _ => Vec::new(),
    }
}

fn header<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.parts.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn request_metadata_passes() {
    let (mut fake, _proxy, client) = setup().await;
    let sent = [
        ("hasleader", "true"),
        ("client-api-version", "3.5"),
        ("token", "a.b"),
        ("source", "cache"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("some-bin", "AAEC"),
        ("anything-else", "kept"),
        ("user-agent", "grpc-go/1.2.3"),
    ];
    for path in PATHS {
        let mut call = client.open(path, &sent).await;
        call.data(frame(&request(path)), has_one_request(path));
        let arrived = fake.next().await;
        assert_eq!(arrived.parts.uri.path(), path);
        assert_eq!(arrived.parts.method, "POST");
        for (name, value) in sent {
            assert_eq!(header(&arrived, name), Some(value), "{path} {name}");
        }
        assert_eq!(header(&arrived, "content-type"), Some("application/grpc"));
        assert_eq!(header(&arrived, "te"), Some("trailers"));
        for name in ["connection", "transfer-encoding", "keep-alive"] {
            assert_eq!(header(&arrived, name), None, "{path}");
        }
    }
}

#[tokio::test]
async fn deadlines_pass() {
    let (mut fake, _proxy, client) = setup().await;
    for path in PATHS {
        let mut call = client.open(path, &[("grpc-timeout", "1500S")]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let arrived = fake.next().await;
        let timeout = header(&arrived, "grpc-timeout").expect("a deadline");
        let (number, unit) = timeout.split_at(timeout.len() - 1);
        let seconds = match unit {
            "S" => number.parse::<f64>().unwrap(),
            "m" => number.parse::<f64>().unwrap() / 1e3,
            "u" => number.parse::<f64>().unwrap() / 1e6,
            "n" => number.parse::<f64>().unwrap() / 1e9,
            _ => panic!("{path}: {timeout}"),
        };
        // What was spent on the way may be taken off.
        assert!(seconds <= 1500.0 && seconds > 1000.0, "{path}: {timeout}");
    }
}

#[tokio::test]
async fn answers_pass_with_headers_and_trailers() {
    let (mut fake, _proxy, client) = setup().await;
    let trailers = [
        ("grpc-status", "11"),
        ("grpc-message", "etcdserver: mvcc: %C3%B6dd"),
        ("custom-trailer", "x"),
        ("some-bin", "AAEC"),
    ];
    for path in PATHS {
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let arrived = fake.next().await;
        let mut answer = arrived.respond(&[("custom-header", "y")]);
        answer.data(frame(b""));
        answer.end(&trailers);
        let (headers, mut body) = call.answer().await.unwrap();
        assert_eq!(headers["custom-header"], "y", "{path}");
        assert_eq!(headers["content-type"], "application/grpc", "{path}");
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            bytes.extend_from_slice(&data.unwrap());
        }
        assert_eq!(bytes, frame(b""), "{path}");
        let got = body.trailers().await.unwrap().expect("trailers");
        for (name, value) in trailers {
            assert_eq!(got[name], value, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_headers_alone_passes() {
    let (mut fake, _proxy, client) = setup().await;
    for path in PATHS {
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let answered = [
            ("grpc-status", "16"),
            ("grpc-message", "etcdserver: invalid auth token"),
            ("extra", "z"),
        ];
        fake.next().await.respond_only(&answered);
        let Ended::Status { code, message, body } = call.end().await else {
            panic!("{path}")
        };
        assert_eq!(
            (code, message.as_str(), body.len()),
            (16, "etcdserver: invalid auth token", 0),
            "{path}"
        );
    }
}

#[tokio::test]
async fn unknown_fields_pass_in_both_directions() {
    let (mut fake, _proxy, client) = setup().await;
    // Field 99, length-delimited, and field 1999, a varint.
    let unknown = [0x9a, 0x06, 3, b'n', b'e', b'w', 0xf8, 0x7c, 42];
    for path in [RANGE, SNAPSHOT] {
        let message = [request(path), unknown.to_vec()].concat();
        let mut call = client.open(path, &[]).await;
        call.data(frame(&message), true);
        let mut arrived = fake.next().await;
        assert_eq!(arrived.read_all().await, frame(&message), "{path}");
        arrived.succeed(&unknown);
        let Ended::Status { code: 0, body, .. } = call.end().await else {
            panic!("{path}")
        };
        assert_eq!(body, frame(&unknown), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_cancels_cancels_upstream() {
    let (mut fake, _proxy, client) = setup().await;
    for path in PATHS {
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let arrived = fake.next().await;
        call.reset();
        assert_eq!(arrived.reset_by_client().await, h2::Reason::CANCEL, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_cancels_upstream() {
    let (mut fake, proxy, _client) = setup().await;
    for path in PATHS {
        let client = RawClient::connect(proxy.url()).await;
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let arrived = fake.next().await;
        client.vanish();
        assert_eq!(arrived.reset_by_client().await, h2::Reason::CANCEL, "{path}");
    }
}

#[tokio::test]
async fn an_upstream_that_resets_is_unavailable() {
    // UNAVAILABLE alone: what else a client would make of it, it would replay writes or reopen watches without a pause.
    let (mut fake, _proxy, client) = setup().await;
    for reason in [
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::ENHANCE_YOUR_CALM,
    ] {
        for path in PATHS {
            let mut call = client.open(path, &[]).await;
            call.data(frame(&request(path)), has_one_request(path));
            fake.next().await.reset(reason);
            let ended = call.end().await;
            assert_eq!(ended.code(), Some(14), "{path} {reason:?}: {ended:?}");
        }
    }
    for path in [WATCH, SNAPSHOT] {
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), has_one_request(path));
        let mut answer = fake.next().await.respond(&[]);
        answer.data(frame(b""));
        answer.reset(h2::Reason::INTERNAL_ERROR);
        let ended = call.end().await;
        assert_eq!(ended.code(), Some(14), "{path} in the middle of an answer: {ended:?}");
    }
}

#[tokio::test]
async fn half_close_passes() {
    let (mut fake, _proxy, client) = setup().await;
    for path in [WATCH, KEEP_ALIVE] {
        let mut call = client.open(path, &[]).await;
        call.data(frame(&request(path)), false);
        let mut arrived = fake.next().await;
        call.data(frame(&request(path)), true);
        assert_eq!(
            arrived.read_all().await,
            [frame(&request(path)), frame(&request(path))].concat(),
            "{path}"
        );
        arrived.succeed(b"");
        assert_eq!(call.end().await.code(), Some(0), "{path}");
    }
}

#[tokio::test]
async fn messages_in_any_pieces() {
    let (mut fake, _proxy, client) = setup().await;
    let kv = crate::common::pb::mvccpb::KeyValue {
        key: b"/registry/configmaps/a".to_vec(),
        value: vec![3; 3000],
        ..Default::default()
    };
    let message = RangeResponse {
        kvs: vec![kv],
        ..RangeResponse::default()
    }
    .encode_to_vec();
    let sent = frame(&request(RANGE));
    let mut call = client.open(RANGE, &[]).await;
    for byte in &sent {
        call.data(vec![*byte], false);
    }
    call.data(Vec::new(), true);
    let mut arrived = fake.next().await;
    assert_eq!(arrived.read_all().await, sent);
    let mut answer = arrived.respond(&[]);
    for byte in frame(&message) {
        answer.data(vec![byte]);
    }
    answer.end(&[("grpc-status", "0")]);
    let Ended::Status { code: 0, body, .. } = call.end().await else {
        panic!("not a success")
    };
    assert_eq!(body, frame(&message));
    // Several messages in one piece, in the other direction.
    let mut call = client.open(WATCH, &[]).await;
    call.data([frame(&request(WATCH)), frame(&request(WATCH))].concat(), true);
    let mut arrived = fake.next().await;
    assert_eq!(
        arrived.read_all().await,
        [frame(&request(WATCH)), frame(&request(WATCH))].concat()
    );
    let mut answer = arrived.respond(&[]);
    let created = WatchResponse {
        created: true,
        watch_id: 5,
        ..WatchResponse::default()
    }
    .encode_to_vec();
    answer.data([frame(&created), frame(&created)].concat());
    answer.end(&[("grpc-status", "0")]);
    let Ended::Status { code: 0, body, .. } = call.end().await else {
        panic!("not a success")
    };
    assert_eq!(body, [frame(&created), frame(&created)].concat());
}
