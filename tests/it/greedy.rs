//! Clients that ask for too much, say too much, or do not listen: what they get, and that nobody else notices.

use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::config;
use crate::common::etcd::free_ports;
use crate::common::fake_etcd::FakeEtcd;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::mvccpb::{Event, KeyValue};
use crate::common::proxy;
use crate::common::raw::{RawClient, frame};

const PUT: &str = "/etcdserverpb.KV/Put";

fn put(value: &[u8]) -> Vec<u8> {
    let request = PutRequest {
        key: b"/registry/configmaps/a".to_vec(),
        value: value.to_vec(),
        ..PutRequest::default()
    };
    frame(&request.encode_to_vec())
}

/// Each call may hold a message of two megabytes; calls without end must not hold memory without end.
#[tokio::test]
async fn unfinished_requests_are_bounded_for_each_connection() {
    let mut fake = FakeEtcd::start().await;
    let proxy = proxy::Setup::new(fake.url(), config::secrets()).start();
    let greedy = RawClient::connect(proxy.url()).await;
    let whole = put(&vec![b'x'; 1_500_000]);
    let (beginning, rest) = whole.split_at(100);
    let mut first = greedy.open(PUT, &[]).await;
    first.data(beginning.to_vec(), false);
    let mut calls = Vec::new();
    for _ in 0..400 {
        let mut call = greedy.open(PUT, &[]).await;
        call.data(beginning.to_vec(), false);
        calls.push(call);
    }
    let last = calls.pop().unwrap().end().await;
    assert_eq!(last.code(), Some(8), "{last:?}");
    assert_eq!(last.message(), "etcdserver: too many requests");

    // Neither those that were there before, nor other connections, are any worse off.
    let polite = RawClient::connect(proxy.url()).await;
    let mut other = polite.open(PUT, &[]).await;
    other.data(whole.clone(), true);
    first.data(rest.to_vec(), true);
    for _ in 0..2 {
        fake.next().await.succeed(&PutResponse::default().encode_to_vec());
    }
    for call in [first, other] {
        let ended = call.end().await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
    // Room that is given back is there again.
    drop(calls);
    let mut again = greedy.open(PUT, &[]).await;
    again.data(whole.clone(), true);
    fake.next().await.succeed(&PutResponse::default().encode_to_vec());
    let ended = again.end().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

/// etcd's server takes a unary request as complete once its message is there; so must whoever stands in for it.
#[tokio::test]
async fn a_request_is_answered_before_its_half_close() {
    let mut fake = FakeEtcd::start().await;
    let proxy = proxy::Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    let mut call = client.open(PUT, &[]).await;
    call.data(put(b"x"), false);
    fake.next().await.succeed(&PutResponse::default().encode_to_vec());
    let ended = call.end().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

/// A client in the middle of a long message is not cut off within it: that could only be a reset, which reads as INTERNAL,
/// on which etcd's clients open the watch again at once and for ever.
#[tokio::test]
async fn a_draining_proxy_ends_a_watch_between_messages() {
    let mut fake = FakeEtcd::start().await;
    let mut proxy = proxy::Setup::new(fake.url(), config::secrets()).start();
    let client = RawClient::connect_with_window(proxy.url(), 65_535).await.unwrap();
    let mut call = client.open("/etcdserverpb.Watch/Watch", &[]).await;
    call.data(frame(&WatchRequest::default().encode_to_vec()), false);
    let mut answer = fake.next().await.respond(&[]);
    let message = WatchResponse {
        events: vec![Event {
            kv: Some(KeyValue {
                key: b"/registry/configmaps/a".to_vec(),
                value: vec![b'x'; 1_000_000],
                ..KeyValue::default()
            }),
            ..Event::default()
        }],
        ..WatchResponse::default()
    };
    let sent = frame(&message.encode_to_vec());
    answer.data(sent.clone());
    let (_, mut body) = call.answer().await.unwrap();
    let mut got = body.data().await.unwrap().unwrap().to_vec();
    proxy.process().signal("TERM");
    proxy
        .process()
        .wait_for("draining", |output| output.contains("draining").then_some(()));
    let _ = body.flow_control().release_capacity(got.len());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        got.extend_from_slice(&data);
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    assert!(proxy.process().wait().success());
}

/// Whoever reads the log may stop to: a pipe that is full, a journal that hangs.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_request() {
    let mut fake = FakeEtcd::start().await;
    let [port] = free_ports();
    let url = format!("http://127.0.0.1:{port}");
    let setup = proxy::Setup::new(fake.url(), config::secrets())
        .listen(&[&url])
        .flag("--log-level=debug");
    let pipe = setup.folder().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open on this side, so that the proxy finds somebody; but not one byte is read.
    let _reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let script = format!("exec \"$0\" \"$@\" 2>{}", pipe.display());
    let mut starting = setup.under(&["sh", "-c", &script]).spawn();
    let client = loop {
        assert!(starting.process().is_running(), "{}", starting.process().output());
        match RawClient::try_connect(&url).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    // Each leaves a line. A pipe takes 64 KiB, and the queue some thousand lines.
    let mut refused = 0;
    while refused < 20_000 {
        let calls = (0..100).map(|_| client.call("/etcdserverpb.KV/Nothing", frame(b"")));
        for ended in futures_util::future::join_all(calls).await {
            assert_eq!(ended.code(), Some(12), "{ended:?}");
            refused += 1;
        }
    }
    let mut call = client.open(PUT, &[]).await;
    call.data(put(b"x"), true);
    fake.next().await.succeed(&PutResponse::default().encode_to_vec());
    assert_eq!(call.end().await.code(), Some(0));
    // Nor does it keep the process from ending.
    starting.process().signal("TERM");
    assert!(starting.process().wait().success());
}

/// What a client sends, and how often, must not decide how much is logged.
#[tokio::test]
async fn a_flood_of_unasked_answers_does_not_fill_the_log() {
    const PING: [u8; 9] = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    const PONG: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
    let fake = FakeEtcd::start().await;
    let proxy = proxy::Setup::new(fake.url(), config::secrets()).start();
    let mut stream = TcpStream::connect(proxy.url().strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for _ in 0..1000 {
        bytes.extend_from_slice(&PONG);
        bytes.extend_from_slice(b"unasked!");
    }
    bytes.extend_from_slice(&PING);
    bytes.extend_from_slice(b"the last");
    stream.write_all(&bytes).await.unwrap();
    // The answer to the last frame says that all before it were read.
    let mut heard = Vec::new();
    while !heard.windows(8).any(|window| window == b"the last") {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "{heard:?}");
    }
    let lines = proxy.output().lines().count();
    assert!(lines < 100, "{lines} lines");
    let client = RawClient::connect(proxy.url()).await;
    assert_eq!(
        client.call("/etcdserverpb.KV/Nothing", frame(b"")).await.code(),
        Some(12)
    );
}
