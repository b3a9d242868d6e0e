//! Input that no well-meaning client sends: each gets a clear answer or loses its own connection, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::*;
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::raw::{Ended, RawClient, frame};
use crate::common::tools::Version;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const SECRET: &str = "/registry/secrets/default/victim";

/// A proxy, and somebody who uses it properly all the while.
struct Scene {
    etcd: Etcd,
    proxy: Proxy,
    stop: Arc<AtomicBool>,
    bystander: JoinHandle<u64>,
}

impl Scene {
    async fn start() -> Self {
        let etcd = Etcd::start(Version::V3_5).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let stop = Arc::new(AtomicBool::new(false));
        let bystander = tokio::spawn(use_properly(proxy.client().await, Arc::clone(&stop)));
        Self {
            etcd,
            proxy,
            stop,
            bystander,
        }
    }

    async fn attacker(&self) -> RawClient {
        RawClient::connect(self.proxy.url()).await
    }

    /// Checks that the bystander was served all the while, and that the proxy still runs and wrote nothing bad.
    async fn finish(mut self) {
        // At least one more round after everything that happened.
        self.proxy.client().await.put("/registry/configmaps/after", "all").await;
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.bystander.await.expect("a bystander who was served") > 0);
        assert!(self.proxy.process().is_running());
        assert!(!self.proxy.output().contains("panicked"), "{}", self.proxy.output());
        let stored = self.etcd.client().await.get(SECRET).await;
        assert_eq!(stored, None, "an attacker wrote something");
    }
}

/// Writes and reads a key of its own until told to stop; every call has to succeed.
async fn use_properly(client: Client, stop: Arc<AtomicBool>) -> u64 {
    let mut rounds = 0;
    loop {
        let value = format!("round {rounds}");
        client.put("/registry/secrets/default/bystander", value.clone()).await;
        assert_eq!(
            client.value("/registry/secrets/default/bystander").await,
            value.into_bytes()
        );
        rounds += 1;
        if stop.load(Ordering::Relaxed) {
            return rounds;
        }
    }
}

fn put() -> Vec<u8> {
    PutRequest {
        key: SECRET.into(),
        value: b"v".to_vec(),
        ..PutRequest::default()
    }
    .encode_to_vec()
}

/// Codes on which etcd's client replays a write or spins.
fn is_refusal(ended: &Ended) -> bool {
    ended.code().is_some_and(|code| ![0, 1, 4, 13, 14].contains(&code))
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    let framed = |flag: u8, length: u32, body: &[u8]| [&[flag], &length.to_be_bytes()[..], body].concat();
    let length = u32::try_from(put().len()).unwrap();
    let bodies = [
        ("nothing at all", Vec::new()),
        ("part of a header", vec![0, 0, 0]),
        ("a header alone", framed(0, length, b"")),
        ("less than was announced", framed(0, 100, &put())),
        ("a compressed message", framed(1, length, &put())),
        ("an unknown flag", framed(7, length, &put())),
        ("two messages", [frame(&put()), frame(&put())].concat()),
        ("something behind the message", [frame(&put()), vec![0]].concat()),
    ];
    for (what, body) in bodies {
        for path in [PUT, TXN, RANGE] {
            let ended = attacker.call(path, body.clone()).await;
            assert!(is_refusal(&ended), "{what} to {path}: {ended:?}");
        }
    }
    for (what, body) in [
        ("a compressed message", framed(1, length, &put())),
        ("an unknown flag", framed(9, length, &put())),
    ] {
        let ended = attacker.call(WATCH, body).await;
        assert!(is_refusal(&ended), "{what} to a watch: {ended:?}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    let with_key = |rest: &[u8]| [&[0x0a, 1, b'k'], rest].concat();
    let messages = [
        ("a varint without end", vec![0xff; 11]),
        (
            "a length that overflows",
            with_key(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        ("a length past the end", with_key(&[0x12, 100, b'v'])),
        (
            "a length of 2^63",
            with_key(&[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ),
        ("a field without a value", with_key(&[0x12])),
        ("field number zero", with_key(&[0x02, 1, b'x'])),
        ("an end of no group", with_key(&[0x0c])),
        ("a wire type that does not exist", with_key(&[0x0f])),
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, message) in messages {
        for path in [PUT, TXN, RANGE, WATCH] {
            let ended = attacker.call(path, frame(&message)).await;
            assert!(is_refusal(&ended), "{what} to {path}: {ended:?}");
        }
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_nested_without_end() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    for depth in [200, 100_000] {
        // From the inside out: TxnRequest.success (2) of RequestOp.request_txn (4).
        let mut reversed: Vec<u8> = Vec::new();
        for _ in 0..depth {
            for tag in [0x22_u8, 0x12] {
                let mut length = Vec::new();
                prost::encoding::encode_varint(reversed.len() as u64, &mut length);
                reversed.extend(length.iter().rev());
                reversed.push(tag);
            }
        }
        reversed.reverse();
        assert!(
            reversed.len() < 1_500_000,
            "{} bytes: too large to be looked into",
            reversed.len()
        );
        let ended = attacker.call(TXN, frame(&reversed)).await;
        assert!(is_refusal(&ended), "{depth}: {ended:?}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_large() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    for path in [PUT, TXN, RANGE, WATCH] {
        for announced in [3_000_000_u32, u32::MAX] {
            // Refused by the announcement: nobody has to send the rest, nor is it waited for.
            let mut call = attacker.open(path, &[]).await;
            call.data([&[0], &announced.to_be_bytes()[..], b"begins"].concat(), false);
            let ended = call.end().await;
            assert_eq!(
                ended.message(),
                "etcdserver: request is too large",
                "{path} {announced}: {ended:?}"
            );
            assert_eq!(ended.code(), Some(3), "{path} {announced}");
        }
    }
    // All of it sent, by a client that does not listen.
    let whole = PutRequest {
        key: SECRET.into(),
        value: vec![b'v'; 8_000_000],
        ..PutRequest::default()
    };
    let ended = attacker.call(PUT, frame(&whole.encode_to_vec())).await;
    assert_eq!(
        (ended.code(), ended.message()),
        (Some(3), "etcdserver: request is too large")
    );
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_announcements_cost_little() {
    let scene = Scene::start().await;
    let before = scene.proxy.resident();
    let mut calls = Vec::new();
    let attacker = scene.attacker().await;
    for _ in 0..2000 {
        let mut call = attacker.open(PUT, &[]).await;
        call.data([&[0], &1_500_000_u32.to_be_bytes()[..], b"a beginning"].concat(), false);
        calls.push(call);
    }
    // The last of them has arrived when a call behind it is answered.
    assert!(is_refusal(&attacker.call(PUT, frame(b"\xff")).await));
    let grown = scene.proxy.resident().saturating_sub(before);
    assert!(grown < 100_000_000, "{grown} bytes for 2,000 beginnings of a message");
    attacker.vanish();
    drop(calls);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_grpc() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    let request = |method: &str, path: &str, content_type: Option<&str>| {
        let builder = http::Request::builder()
            .method(method)
            .uri(format!("http://etcd.test{path}"));
        let builder = content_type
            .into_iter()
            .fold(builder, |builder, value| builder.header("content-type", value));
        builder.body(()).unwrap()
    };
    let requests = [
        request("POST", PUT, None),
        request("POST", PUT, Some("application/json")),
        request("POST", PUT, Some("application/grpc-web")),
        request("GET", PUT, Some("application/grpc")),
        request("PUT", PUT, Some("application/grpc")),
        request("POST", "/v3/kv/put", Some("application/json")),
        request("POST", "/v3/kv/put", Some("application/grpc")),
        request("POST", "//etcdserverpb.KV/Put", Some("application/grpc")),
        request("POST", "/etcdserverpb.KV/Put/", Some("application/grpc")),
        request("POST", "/etcdserverpb.KV/Put?x=y", Some("application/grpc")),
        request("POST", "/etcdserverpb.KV/%50ut", Some("application/grpc")),
    ];
    for request in requests {
        let what = format!("{} {}", request.method(), request.uri());
        let mut call = attacker.send(request, false).await;
        call.data(frame(&put()), true);
        let ended = call.end().await;
        let refused = match &ended {
            Ended::Status { code, .. } => *code != 0,
            Ended::Http(status) => *status >= 400,
            Ended::Reset(_) => true,
        };
        assert!(refused, "{what}: {ended:?}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_vanish() {
    let scene = Scene::start().await;
    for round in 0..50 {
        let attacker = scene.attacker().await;
        let message = frame(&put());
        let mut half = attacker.open(PUT, &[]).await;
        half.data(message[..message.len() / 2].to_vec(), false);
        let mut watch = attacker.open(WATCH, &[]).await;
        watch.data(message[..round % message.len()].to_vec(), false);
        if round % 2 == 0 {
            attacker.vanish();
        } else {
            half.reset();
            watch.reset();
        }
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time() {
    let scene = Scene::start().await;
    let attacker = scene.attacker().await;
    let key = "/registry/secrets/default/slow";
    let message = frame(
        &PutRequest {
            key: key.into(),
            value: b"v".to_vec(),
            ..PutRequest::default()
        }
        .encode_to_vec(),
    );
    let mut call = attacker.open(PUT, &[]).await;
    for byte in &message {
        call.data(vec![*byte], false);
        // Each in a frame and a packet of its own.
        sleep(Duration::from_millis(2)).await;
    }
    call.data(Vec::new(), true);
    assert_eq!(call.end().await.code(), Some(0));
    assert_eq!(scene.proxy.client().await.value(key).await, b"v");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read() {
    const KEYS: u8 = 10;
    let scene = Scene::start().await;
    let client = scene.proxy.client().await;
    for index in 0..KEYS {
        client
            .put(format!("/registry/secrets/large/{index:02}"), vec![index; 1_000_000])
            .await;
    }
    let range = RangeRequest {
        key: b"/registry/secrets/large/".to_vec(),
        range_end: b"/registry/secrets/large0".to_vec(),
        ..RangeRequest::default()
    };
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let reader = RawClient::connect_with_window(scene.proxy.url(), 65_535).await.unwrap();
        let mut call = reader.open(RANGE, &[]).await;
        call.data(frame(&range.encode_to_vec()), true);
        // Headers are there once the answer has begun to flow; then nothing more is read.
        stuck.push((call.answer().await.unwrap(), reader));
    }
    // Who does read gets the same list meanwhile, far beyond gRPC's usual limit of 4 MiB.
    let listed = client.range(range).await.kvs;
    assert_eq!(listed.len(), usize::from(KEYS));
    for (index, kv) in (0..KEYS).zip(listed) {
        assert_eq!(kv.value, vec![index; 1_000_000]);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets() {
    let scene = Scene::start().await;
    for _ in 0..20 {
        let Ok(attacker) = RawClient::try_connect(scene.proxy.url()).await else {
            panic!("no connection")
        };
        let storm = tokio::spawn(async move {
            for _ in 0..1000 {
                let mut call = attacker.open(RANGE, &[]).await;
                call.data(frame(b""), false);
                call.reset();
            }
        });
        // The proxy may hang up on such a client, which then cannot open another call.
        let _ = timeout(PATIENCE, storm).await.expect("an end");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http() {
    let scene = Scene::start().await;
    let address = scene.proxy.url().strip_prefix("http://").unwrap().to_owned();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let openings = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        vec![0; 4096],
        vec![b'A'; 100_000],
        [preface.clone(), vec![0xff; 1000]].concat(),
        // A frame of settings whose length is not a multiple of six.
        [preface.clone(), vec![0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]].concat(),
        // DATA on a stream that was never opened.
        [
            preface,
            vec![0, 0, 0, 4, 0, 0, 0, 0, 0],
            vec![0, 0, 1, 0, 0, 0, 0, 0, 9, 7],
        ]
        .concat(),
    ];
    for opening in openings {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // Either may fail once the proxy has hung up, which it should.
        let _ = stream.write_all(&opening).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the proxy hangs up");
    }
    scene.finish().await;
}
