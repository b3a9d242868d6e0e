//! Clients as kube-apiservers are: each goes through a proxy of its own, updates by a transaction on the revision that it
//! read, and repeats a call only where the answer was UNAVAILABLE, or the connection broke, which etcd's client takes for the
//! same. Whether a write happened that was not answered it finds out by reading. Any other answer fails the test.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::common::pb::mvccpb::KeyValue;
use crate::common::process::PATIENCE;
use crate::common::sweep::{key, plaintext};

/// Keys that a client has for itself.
const OWN: usize = 5;
/// Between two attempts, as a client that backs off has it, and between two turns.
const PAUSE: Duration = Duration::from_millis(20);

/// The clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<BTreeMap<String, Vec<u8>>>>,
}

impl Clients {
    /// One for each of `urls`. Beside what they write themselves they read the `filled` secrets of `size` bytes.
    pub fn start(urls: &[String], filled: usize, size: usize) -> Self {
        let (stop, turns) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = |(number, url): (usize, &String)| {
            let client = One {
                client: Client::lazy(url),
                number,
                filled,
                size,
                stop: Arc::clone(&stop),
                turns: Arc::clone(&turns),
            };
            tokio::spawn(client.run())
        };
        let tasks = urls.iter().enumerate().map(task).collect();
        Self { stop, turns, tasks }
    }

    /// Waits until they have made so many more turns.
    pub async fn progress(&self, more: usize) {
        let goal = self.turns.load(Ordering::Relaxed) + more;
        let start = Instant::now();
        while self.turns.load(Ordering::Relaxed) < goal {
            assert!(start.elapsed() < PATIENCE, "the clients do not get on");
            sleep(PAUSE).await;
        }
    }

    /// What each of their keys holds, and how many turns that took.
    pub async fn end(self) -> (BTreeMap<String, Vec<u8>>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            all.extend(task.await.expect("no request has failed"));
        }
        (all, self.turns.load(Ordering::Relaxed))
    }
}

struct One {
    client: Client,
    number: usize,
    filled: usize,
    size: usize,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
}

impl One {
    async fn run(self) -> BTreeMap<String, Vec<u8>> {
        let mut written = BTreeMap::new();
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let own = format!("/registry/secrets/default/c-{}-{}", self.number, turn % OWN);
            let value = format!("client {}, turn {turn}", self.number).into_bytes();
            self.update(&own, written.get(&own), &value).await;
            written.insert(own, value);
            let other = turn % self.filled;
            let read = self.read(&key(other)).await.expect("it is there");
            assert_eq!(read.value, plaintext(other, self.size));
            turn += 1;
            self.turns.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        written
    }

    /// Replaces what was written last, as kube-apiserver's storage does it.
    async fn update(&self, key: &str, last: Option<&Vec<u8>>, value: &[u8]) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "{key} cannot be written");
            let found = self.read(key).await;
            match &found {
                // An attempt that was not answered.
                Some(kv) if kv.value == value => return,
                found => assert_eq!(found.as_ref().map(|kv| &kv.value), last, "{key}"),
            }
            let put = PutRequest {
                key: key.into(),
                value: value.to_vec(),
                ..PutRequest::default()
            };
            let request = TxnRequest {
                compare: vec![unchanged(key, found.as_ref())],
                success: vec![RequestOp {
                    request: Some(Op::RequestPut(put)),
                }],
                failure: Vec::new(),
            };
            match self.client.kv().txn(request).await {
                Ok(answer) if answer.get_ref().succeeded => return,
                // A sweep was first.
                Ok(_) => {}
                Err(status) => self.pause(key, &status).await,
            }
        }
    }

    async fn read(&self, key: &str) -> Option<KeyValue> {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "{key} cannot be read");
            let request = RangeRequest {
                key: key.into(),
                ..RangeRequest::default()
            };
            match self.client.kv().range(request).await {
                Ok(answer) => return answer.into_inner().kvs.pop(),
                Err(status) => self.pause(key, &status).await,
            }
        }
    }

    /// Waits before the next attempt, if there is to be one.
    async fn pause(&self, key: &str, status: &Status) {
        let is_lost = status.code() == Code::Unavailable || status.source().is_some();
        assert!(is_lost, "client {}, {key}: {status:?}", self.number);
        sleep(PAUSE).await;
    }
}

/// Nobody has written the key since it was found so.
fn unchanged(key: &str, found: Option<&KeyValue>) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(found.map_or(0, |kv| kv.mod_revision))),
        ..Compare::default()
    }
}
