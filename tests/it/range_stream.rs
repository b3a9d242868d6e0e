//! `RangeStream`, which kube-apiserver 1.37 lists with: etcd 3.7 serves it, and what that cannot be made to do a scripted upstream does
//! in its stead, with values that the proxy sealed in a real one.

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

/// etcd 3.7 and a proxy before it; `None` where this machine cannot have one, which `tests/install-tools.sh` has said.
async fn on_3_7() -> Option<(Etcd, Proxy)> {
    if !Version::all().contains(&Version::V3_7) {
        return None;
    }
    let etcd = Etcd::start(Version::V3_7).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    Some((etcd, proxy))
}

/// The chunks of an answer as one; how a server cuts them is its own affair.
fn joined(chunks: Vec<RangeResponse>) -> RangeResponse {
    let mut whole = RangeResponse::default();
    for chunk in chunks {
        let mut kvs = std::mem::take(&mut whole.kvs);
        let RangeResponse {
            header,
            kvs: more_kvs,
            more,
            count,
        } = chunk;
        kvs.extend(more_kvs);
        whole = RangeResponse {
            header,
            kvs,
            more,
            count,
        };
    }
    whole
}

#[tokio::test]
async fn a_streamed_list_of_etcd_3_7_is_what_range_answers() {
    let Some((etcd, proxy)) = on_3_7().await else { return };
    let (client, direct) = (proxy.client().await, etcd.client().await);
    for index in 0..60 {
        for kind in ["secrets", "configmaps"] {
            client
                .put(
                    format!("/registry/{kind}/default/{index:02}"),
                    format!("{kind} {index}"),
                )
                .await;
        }
    }
    let early = client.range(everything()).await.header.expect("a header").revision - 20;
    let ask = |change: &dyn Fn(&mut RangeRequest)| {
        let mut request = everything();
        change(&mut request);
        request
    };
    let requests = [
        everything(),
        ask(&|r| r.limit = 7),
        ask(&|r| r.limit = 120),
        ask(&|r| r.limit = 1_000),
        ask(&|r| r.revision = early),
        ask(&|r| (r.revision, r.limit) = (early, 11)),
        ask(&|r| r.keys_only = true),
        ask(&|r| r.count_only = true),
        ask(&|r| r.serializable = true),
        ask(&|r| r.range_end = b"/registry/secrets/default/1".to_vec()),
        ask(&|r| r.range_end = b"/registry/configmaps/".to_vec()),
        ask(&|r| (r.key, r.range_end) = (b"/registry/secrets/default/00".to_vec(), Vec::new())),
        ask(&|r| (r.key, r.range_end) = (b"/registry/none/".to_vec(), b"/registry/none0".to_vec())),
    ];
    for request in requests {
        let expected = client.range(request.clone()).await;
        let streamed = joined(ask_stream(&client, request.clone()).await.expect("an answer"));
        assert_eq!(streamed, expected, "{request:?}");
        let stored = joined(ask_stream(&direct, request.clone()).await.expect("an answer"));
        assert_eq!(
            (stored.count, stored.more),
            (streamed.count, streamed.more),
            "{request:?}"
        );
        assert_eq!(
            stored.kvs.iter().map(|kv| &kv.key).collect::<Vec<_>>(),
            streamed.kvs.iter().map(|kv| &kv.key).collect::<Vec<_>>()
        );
    }
    // What is refused is refused as without a proxy.
    let compact = CompactionRequest {
        revision: early,
        physical: true,
    };
    direct.kv().compact(compact).await.expect("it is compacted");
    for request in [
        ask(&|r| r.revision = 3),
        ask(&|r| r.revision = 1 << 40),
        ask(&|r| {
            r.sort_target = range_request::SortTarget::Mod.into();
            r.sort_order = range_request::SortOrder::Ascend.into();
        }),
        ask(&|r| r.sort_order = range_request::SortOrder::Descend.into()),
        ask(&|r| r.min_mod_revision = 5),
        ask(&|r| r.key = Vec::new()),
    ] {
        let expected = ask_stream(&direct, request.clone()).await.expect_err("an error");
        let status = ask_stream(&client, request.clone()).await.expect_err("an error");
        assert_eq!(
            (status.code(), status.message()),
            (expected.code(), expected.message()),
            "{request:?}"
        );
    }
}

/// 100 MB of sealed values are streamed in the room of a few chunks, whether or not the client reads; and when what it lists is
/// compacted away in mid-stream it is told what etcd says.
#[tokio::test]
async fn a_hundred_megabytes_are_streamed_in_little_memory() {
    const VALUES: usize = 400;
    const LENGTH: usize = 256 * 1024;
    let Some((etcd, proxy)) = on_3_7().await else { return };
    let client = proxy.client().await;
    for index in 0..VALUES {
        let value = vec![b'a' + u8::try_from(index % 26).expect("a letter"); LENGTH];
        client.put(format!("/registry/secrets/default/{index:04}"), value).await;
    }
    let before = proxy.resident();
    let mut stream = client
        .kv()
        .range_stream(everything())
        .await
        .expect("a stream")
        .into_inner();
    let mut seen = 0;
    while let Some(chunk) = stream.message().await.expect("a chunk") {
        for kv in chunk.range_response.expect("a part").kvs {
            let letter = b'a' + u8::try_from(seen % 26).expect("a letter");
            assert_eq!(kv.value.len(), LENGTH);
            assert!(kv.value.iter().all(|&byte| byte == letter));
            seen += 1;
        }
    }
    assert_eq!(seen, VALUES);
    let grown = proxy.peak().saturating_sub(before) / (1024 * 1024);
    assert!(
        grown < 40,
        "{grown} MiB for a list of {} MiB",
        VALUES * LENGTH / (1024 * 1024)
    );
    let compacted = async |asked: &Client| {
        let mut stream = asked
            .kv()
            .range_stream(everything())
            .await
            .expect("a stream")
            .into_inner();
        let first = stream.message().await.expect("a chunk");
        assert!(first.is_some());
        let revision = etcd
            .client()
            .await
            .put("/other", "x")
            .await
            .header
            .expect("a header")
            .revision;
        let compact = CompactionRequest {
            revision,
            physical: true,
        };
        etcd.client()
            .await
            .kv()
            .compact(compact)
            .await
            .expect("it is compacted");
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the whole list, though it was compacted away"),
                Err(status) => return (status.code(), status.message().to_owned()),
            }
        }
    };
    let expected = compacted(&etcd.client().await).await;
    assert_eq!(expected.0, tonic::Code::OutOfRange, "{expected:?}");
    assert_eq!(compacted(&client).await, expected);
}

/// The whole answer, or the error that ended it.
async fn collect(client: Client) -> Result<Vec<RangeResponse>, tonic::Status> {
    ask_stream(&client, everything()).await
}

async fn ask_stream(client: &Client, request: RangeRequest) -> Result<Vec<RangeResponse>, tonic::Status> {
    let mut stream = client.kv().range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.unwrap());
    }
    Ok(chunks)
}
