//! A KMS plugin killed under load, for as long as an operator may take to notice. Not for every run: it is as long as the
//! outage, `KMS_OUTAGE_SECONDS` (300), of a plugin that speaks `KMS_OUTAGE_VERSION` (`v2`). It prints what happened:
//!
//! `cargo test --locked --test it -- --ignored --nocapture kms_outage`

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::{Plugin, Socket};
use crate::common::pb::etcdserverpb::{PutRequest, RangeRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;

const PLAIN_TEXT: &[u8] = b"not-for-the-disk";

/// How many write and how many read, each without a pause but for this.
const TASKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);

/// What became of the calls of one kind.
#[derive(Debug, Default)]
struct Tally {
    ok: AtomicU64,
    failed: AtomicU64,
    slowest: Mutex<Duration>,
    first_failure: Mutex<Option<(Instant, String)>>,
    last_ok: Mutex<Option<Instant>>,
}

impl Tally {
    fn note(&self, began: Instant, outcome: &Result<(), Status>) {
        let now = Instant::now();
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = (*slowest).max(now - began);
        match outcome {
            Ok(()) => {
                self.ok.fetch_add(1, SeqCst);
                *self.last_ok.lock().unwrap() = Some(now);
            }
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                self.failed.fetch_add(1, SeqCst);
                let mut first = self.first_failure.lock().unwrap();
                first.get_or_insert_with(|| (now, status.message().to_owned()));
            }
        }
    }

    fn tell(&self, what: &str) {
        eprintln!(
            "{what}: {} ok, {} refused, slowest {:?}",
            self.ok.load(SeqCst),
            self.failed.load(SeqCst),
            *self.slowest.lock().unwrap()
        );
    }
}

fn key(index: usize) -> Vec<u8> {
    format!("/registry/secrets/default/{index}").into_bytes()
}

async fn write(client: &Client, index: usize) -> Result<(), Status> {
    let request = PutRequest {
        key: key(index),
        value: PLAIN_TEXT.into(),
        ..PutRequest::default()
    };
    client.kv().put(request).await.map(drop)
}

async fn read(client: &Client, index: usize) -> Result<(), Status> {
    let request = RangeRequest {
        key: key(index),
        ..RangeRequest::default()
    };
    let answer = client.kv().range(request).await?.into_inner();
    assert_eq!(answer.kvs[0].value, PLAIN_TEXT);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as the outage, five minutes"]
async fn kms_outage() {
    let seconds = env::var("KMS_OUTAGE_SECONDS").map_or(300, |text| text.parse().expect("a number of seconds"));
    let version = env::var("KMS_OUTAGE_VERSION").unwrap_or_else(|_| "v2".to_owned());
    let etcd = Etcd::start(Version::share()).await;
    let mut plugin = Plugin::start();
    let proxy = Proxy::before(&etcd, plugin.document("secrets", &version));
    let client = proxy.client().await;
    for index in 0..TASKS {
        write(&client, index).await.unwrap();
    }

    let (writes, reads) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for index in 0..TASKS {
        // Readers have keys of their own, so that v1 can answer them from its cache.
        write(&client, TASKS + index).await.unwrap();
        for is_writer in [true, false] {
            let (client, stop) = (proxy.client().await, Arc::clone(&stop));
            let tally = Arc::clone(if is_writer { &writes } else { &reads });
            tasks.push(tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let began = Instant::now();
                    let outcome = if is_writer {
                        write(&client, index).await
                    } else {
                        read(&client, TASKS + index).await
                    };
                    tally.note(began, &outcome);
                    tokio::time::sleep(PAUSE).await;
                }
            }));
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(writes.failed.load(SeqCst), 0);
    plugin.stop();
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let last_before = *writes.last_ok.lock().unwrap();
    plugin.serve(Socket::Grpc);
    let back = Instant::now();
    let refused = writes.failed.load(SeqCst);
    let recovered = async {
        while refused > 0 && writes.last_ok.lock().unwrap().is_none_or(|at| at < back) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.expect("writes resume");
    let recovery = back.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }

    eprintln!("KMS {version}, killed for {seconds} s");
    reads.tell("reads of values whose key is at hand");
    writes.tell("writes");
    if let Some(at) = last_before {
        eprintln!(
            "last write before the plugin was back: {:?} after it was killed",
            at.saturating_duration_since(killed)
        );
    }
    match &*writes.first_failure.lock().unwrap() {
        Some((at, text)) => eprintln!("first refused {:?} after it was killed: {text}", *at - killed),
        None => eprintln!("no write was refused"),
    }
    eprintln!("a write was taken {recovery:?} after the plugin was back");
    assert_eq!(reads.failed.load(SeqCst), 0);
    for kv in etcd.client().await.everything().await {
        let in_clear = kv.value.windows(PLAIN_TEXT.len()).any(|window| window == PLAIN_TEXT);
        assert!(!in_clear, "{} lies in etcd in clear", String::from_utf8_lossy(&kv.key));
    }
    eprintln!("nothing lies in etcd in clear");
}
