//! `RangeStream`, which kube-apiserver 1.37 lists with and no etcd here serves: a scripted upstream answers in its stead,
//! with values that the proxy sealed in a real one.

use prost::Message;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::fake_etcd::FakeEtcd;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::mvccpb::KeyValue;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::frame;
use crate::common::tools::Version;

/// Pairs as the proxy stores them, Secrets and others.
async fn stored() -> Vec<KeyValue> {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    for index in 0..6 {
        client
            .put(format!("/registry/secrets/default/{index}"), format!("secret {index}"))
            .await;
        client
            .put(
                format!("/registry/configmaps/default/{index}"),
                format!("config {index}"),
            )
            .await;
    }
    etcd.client().await.everything().await
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: b"/registry/".to_vec(),
        range_end: b"/registry0".to_vec(),
        ..RangeRequest::default()
    }
}

fn chunk(range: RangeResponse) -> Vec<u8> {
    frame(
        &RangeStreamResponse {
            range_response: Some(range),
        }
        .encode_to_vec(),
    )
}

#[tokio::test]
async fn each_chunk_is_opened_and_its_place_kept() {
    let stored = stored().await;
    let mut fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).start();
    let client = proxy.client().await;
    let listed = tokio::spawn(collect(client));
    let mut call = fake.next().await;
    assert_eq!(call.parts.uri.path(), "/etcdserverpb.KV/RangeStream");
    assert_eq!(call.read_all().await, frame(&everything().encode_to_vec()));
    let mut answer = call.respond(&[]);
    for kvs in stored.chunks(5) {
        answer.data(chunk(RangeResponse {
            kvs: kvs.to_vec(),
            ..RangeResponse::default()
        }));
    }
    let header = ResponseHeader {
        revision: 13,
        ..ResponseHeader::default()
    };
    let last = RangeResponse {
        header: Some(header),
        count: 12,
        ..RangeResponse::default()
    };
    answer.data(chunk(last.clone()));
    answer.end(&[("grpc-status", "0")]);
    let chunks = listed.await.unwrap().unwrap();
    assert_eq!(
        chunks.iter().map(|chunk| chunk.kvs.len()).collect::<Vec<_>>(),
        [5, 5, 2, 0]
    );
    assert_eq!(chunks.last(), Some(&last));
    for (kv, stored) in chunks.iter().flat_map(|chunk| &chunk.kvs).zip(&stored) {
        let name = String::from_utf8(kv.key.clone()).unwrap();
        let index = name.rsplit('/').next().unwrap();
        let kind = if name.contains("secrets") { "secret" } else { "config" };
        assert_eq!(kv.value, format!("{kind} {index}").into_bytes(), "{name}");
        assert_eq!(
            KeyValue {
                value: stored.value.clone(),
                ..kv.clone()
            },
            *stored,
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_error_behind_the_first_chunks_passes() {
    let mut fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).start();
    let listed = tokio::spawn(collect(proxy.client().await));
    let mut answer = fake.next().await.respond(&[]);
    answer.data(chunk(RangeResponse::default()));
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    answer.end(&[("grpc-status", "11"), ("grpc-message", compacted)]);
    let status = listed.await.unwrap().expect_err("an error at the end");
    assert_eq!((status.code(), status.message()), (tonic::Code::OutOfRange, compacted));
}

/// The whole answer, or the error that ended it.
async fn collect(client: Client) -> Result<Vec<RangeResponse>, tonic::Status> {
    let mut stream = client.kv().range_stream(everything()).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.unwrap());
    }
    Ok(chunks)
}
