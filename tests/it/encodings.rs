//! A client that names a compression, as gRPC's C core does of every call, while its messages are not compressed; and an etcd that
//! compresses unasked.

use std::time::Duration;

use prost::Message;

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::fake_etcd::{Call, FakeEtcd};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::{Ended, RawClient, frame};
use crate::common::tools::Version;

const SECRET: &str = "/registry/secrets/default/a";
const NAMED: &[(&str, &str)] = &[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity,gzip")];

fn put() -> PutRequest {
    PutRequest {
        key: SECRET.into(),
        value: b"v".repeat(1000),
        prev_kv: true,
        ..PutRequest::default()
    }
}

fn range() -> RangeRequest {
    RangeRequest {
        key: SECRET.into(),
        ..RangeRequest::default()
    }
}

/// The message of an answer that must be a success, and not compressed.
fn message<M: Message + Default>(ended: &Ended, what: &str) -> M {
    let Ended::Status { code: 0, body, .. } = ended else {
        panic!("{what}: {ended:?}");
    };
    assert_eq!(body[0], 0, "{what}: it is compressed");
    M::decode(&body[5..]).unwrap_or_else(|error| panic!("{what}: {error}"))
}

async fn call<M: Message + Default>(client: &RawClient, path: &str, request: impl Message) -> M {
    let mut call = client.open(path, NAMED).await;
    call.data(frame(&request.encode_to_vec()), true);
    message(&call.end().await, path)
}

#[tokio::test]
async fn a_compression_that_is_only_named_changes_nothing() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = RawClient::connect(proxy.url()).await;
        call::<PutResponse>(&client, "/etcdserverpb.KV/Put", put()).await;
        let again: PutResponse = call(&client, "/etcdserverpb.KV/Put", put()).await;
        assert_eq!(again.prev_kv.unwrap().value, put().value);
        let got: RangeResponse = call(&client, "/etcdserverpb.KV/Range", range()).await;
        assert_eq!(got.kvs[0].value, put().value);
        let request = Some(Op::RequestRange(range()));
        let txn = TxnRequest {
            success: vec![RequestOp { request }],
            ..TxnRequest::default()
        };
        let txn: TxnResponse = call(&client, "/etcdserverpb.KV/Txn", txn).await;
        let Some(response_op::Response::ResponseRange(got)) = &txn.responses[0].response else {
            panic!("{txn:?}");
        };
        assert_eq!(got.kvs[0].value, put().value);
        watch_opens(&client).await;
        let delete = DeleteRangeRequest {
            key: SECRET.into(),
            prev_kv: true,
            ..DeleteRangeRequest::default()
        };
        let deleted: DeleteRangeResponse = call(&client, "/etcdserverpb.KV/DeleteRange", delete).await;
        assert_eq!(deleted.prev_kvs[0].value, put().value);
        let lease = LeaseTimeToLiveRequest { id: 7, keys: true };
        let lease: LeaseTimeToLiveResponse = call(&client, "/etcdserverpb.Lease/LeaseTimeToLive", lease).await;
        assert_eq!(lease.ttl, -1);
    }
}

async fn watch_opens(client: &RawClient) {
    let create = WatchCreateRequest {
        key: SECRET.into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let request_union = Some(watch_request::RequestUnion::CreateRequest(create));
    let mut call = client.open("/etcdserverpb.Watch/Watch", NAMED).await;
    call.data(frame(&WatchRequest { request_union }.encode_to_vec()), false);
    // With the other half open, or etcd ends the stream.
    let (headers, mut body) = call.answer().await.unwrap();
    assert_eq!(headers.get("grpc-encoding"), None);
    let mut bytes = Vec::new();
    loop {
        let data = tokio::time::timeout(PATIENCE, body.data()).await.expect("an event");
        let data = data.expect("an open watch").unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
        while bytes.len() >= 5 {
            assert_eq!(bytes[0], 0, "a compressed event");
            let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            if bytes.len() < 5 + length {
                break;
            }
            let response = WatchResponse::decode(&bytes[5..5 + length]).unwrap();
            if let Some(event) = response.events.last() {
                assert_eq!(event.kv.as_ref().unwrap().value, put().value);
                return;
            }
            bytes.drain(..5 + length);
        }
    }
}

/// Calls whose messages the proxy reads, with a request each.
fn read() -> [(&'static str, Vec<u8>); 4] {
    let watch = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
            key: SECRET.into(),
            ..WatchCreateRequest::default()
        })),
    };
    [
        ("/etcdserverpb.KV/Range", range().encode_to_vec()),
        ("/etcdserverpb.KV/RangeStream", range().encode_to_vec()),
        ("/etcdserverpb.Watch/Watch", watch.encode_to_vec()),
        (
            "/etcdserverpb.Lease/LeaseTimeToLive",
            LeaseTimeToLiveRequest { id: 7, keys: true }.encode_to_vec(),
        ),
    ]
}

/// The call to `path`, when it comes. The proxy makes calls of its own beside it.
async fn arrived(fake: &mut FakeEtcd, path: &str) -> Call {
    loop {
        let call = fake.next().await;
        if call.parts.uri.path() == path {
            return call;
        }
    }
}

#[tokio::test]
async fn what_etcd_takes_and_gives_is_not_what_the_client_is_told() {
    let mut fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    for (path, request) in read() {
        let mut call = client.open(path, NAMED).await;
        call.data(frame(&request), true);
        let call_up = arrived(&mut fake, path).await;
        for name in ["grpc-encoding", "grpc-accept-encoding"] {
            assert_eq!(call_up.parts.headers.get(name), None, "{path}");
        }
        let mut answer = call_up.respond(&[
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip"),
            ("other", "1"),
        ]);
        // An empty message is one of each of these calls; its flag says that it is not compressed.
        answer.data(frame(b""));
        answer.end(&[("grpc-status", "0")]);
        let (headers, _body) = tokio::time::timeout(PATIENCE, call.answer()).await.unwrap().unwrap();
        assert_eq!(headers.get("grpc-encoding"), None, "{path}");
        assert_eq!(headers.get("grpc-accept-encoding"), None, "{path}");
        assert_eq!(headers.get("other").unwrap(), "1", "{path}");
    }
}

#[tokio::test]
async fn an_etcd_that_compresses_unasked_is_said_to() {
    let mut fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    for (path, request) in read() {
        let mut call = client.open(path, NAMED).await;
        call.data(frame(&request), true);
        let mut answer = arrived(&mut fake, path).await.respond(&[("grpc-encoding", "gzip")]);
        answer.data([&[1, 0, 0, 0, 1][..], b"x"].concat());
        let ended = tokio::time::timeout(Duration::from_secs(30), call.end()).await.unwrap();
        assert_eq!(ended.code(), Some(2), "{path}: {ended:?}");
        assert!(
            ended.message().contains("compressed (%22gzip%22)") || ended.message().contains("compressed (\"gzip\")"),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn who_compresses_is_told_what_is_taken() {
    let fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    for (path, request) in read() {
        let mut compressed = frame(&request);
        compressed[0] = 1;
        let mut call = client.open(path, NAMED).await;
        call.data(compressed, false);
        if path.ends_with("/Watch") {
            // Its answer's headers come from etcd, so the status follows in trailers.
            continue;
        }
        let (headers, _body) = call.answer().await.unwrap();
        assert_eq!(headers.get("grpc-status").unwrap(), "12", "{path}");
        assert_eq!(headers.get("grpc-accept-encoding").unwrap(), "identity", "{path}");
        assert!(
            headers.get("grpc-message").unwrap().to_str().unwrap().contains("gzip"),
            "{path}"
        );
    }
}
