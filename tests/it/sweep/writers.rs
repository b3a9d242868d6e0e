//! Clients that create, update and delete secrets beside a sweep, straight on etcd, and log what they sent and what they
//! were told. Each has keys of its own; nobody but the sweep writes those beside it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use crate::common::pb::mvccpb::KeyValue;
use crate::common::process::PATIENCE;
use crate::common::sweep::{key, sealed_with_k2};

/// How many there are.
const WRITERS: usize = 4;
/// An etcd that is frozen never answers.
const ANSWER: Duration = Duration::from_secs(5);

/// What was sent, and what is known of it.
#[derive(Debug, Default)]
pub struct Log {
    /// Every put that was sent, by its plaintext, which is like no other.
    pub puts: HashMap<Vec<u8>, Put>,
    /// Deletions that were acknowledged.
    pub deleted: HashMap<i64, Vec<u8>>,
    /// Keys with a deletion of which nobody knows whether it happened.
    pub perhaps_deleted: HashSet<Vec<u8>>,
}

/// A put that was sent.
#[derive(Debug)]
pub struct Put {
    pub key: Vec<u8>,
    pub lease: i64,
    /// When it happened; nothing where that was not said.
    pub revision: Option<i64>,
}

/// The writers at work.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Log>>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Has them write, with a pause after each write, to the first `keys` secrets and some more that are yet to come.
    /// What they write is under a lease of `leases` at times.
    pub fn begin(urls: &[String], keys: usize, leases: &[i64], pause: Duration, seed: u64) -> Self {
        let (stop, log, acknowledged) = (Arc::default(), Arc::default(), Arc::default());
        let writer = |number: usize| Writer {
            number,
            keys: keys + keys / 20,
            leases: [&[0], leases].concat(),
            clients: urls.iter().map(|url| Client::lazy(url)).collect(),
            client: number % urls.len(),
            random: StdRng::seed_from_u64(seed + number as u64),
            turn: 0,
            stop: Arc::clone(&stop),
            log: Arc::clone(&log),
            acknowledged: Arc::clone(&acknowledged),
        };
        let tasks = (0..WRITERS).map(|number| tokio::spawn(writer(number).run(pause)));
        let tasks = tasks.collect();
        Self {
            stop,
            log,
            acknowledged,
            tasks,
        }
    }

    /// Waits until so many more writes have been acknowledged.
    pub async fn progress(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        let start = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(start.elapsed() < PATIENCE, "no write succeeds any more");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Has them end what they are at, and gives the log.
    pub async fn end(self) -> Log {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer");
        }
        std::mem::take(&mut self.log.lock().expect("a lock"))
    }
}

struct Writer {
    number: usize,
    keys: usize,
    leases: Vec<i64>,
    clients: Vec<Client>,
    client: usize,
    random: StdRng,
    turn: u64,
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Log>>,
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, pause: Duration) {
        while !self.stop.load(Ordering::Relaxed) {
            let index = self.random.random_range(0..self.keys / WRITERS) * WRITERS + self.number;
            if self.change(key(index).into_bytes()).await.is_err() {
                // Whichever member is left.
                self.client = (self.client + 1) % self.clients.len();
                sleep(Duration::from_millis(20)).await;
            }
            sleep(pause).await;
        }
    }

    /// One write, as kube-apiserver does it or, at times, whatever is there.
    async fn change(&mut self, key: Vec<u8>) -> Result<(), Status> {
        let request = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let found = within(self.clients[self.client].kv().range(request)).await?.kvs.pop();
        let is_blind = self.random.random_ratio(1, 4);
        let compare = (!is_blind).then(|| unchanged(&key, found.as_ref()));
        match found {
            Some(_) if self.random.random_ratio(1, 5) => self.delete(key, compare).await,
            found => self.put(key, compare, found).await,
        }
    }

    async fn put(&mut self, key: Vec<u8>, compare: Option<Compare>, found: Option<KeyValue>) -> Result<(), Status> {
        self.turn += 1;
        let plaintext = format!("writer {}, write {}", self.number, self.turn).into_bytes();
        let lease = match found {
            Some(kv) if self.random.random_ratio(3, 4) => kv.lease,
            _ => self.leases[self.random.random_range(0..self.leases.len())],
        };
        let put = PutRequest {
            value: sealed_with_k2(&key, &plaintext),
            key: key.clone(),
            lease,
            ..PutRequest::default()
        };
        // Before it is sent: it may be seen before it is answered.
        let sent = Put {
            key,
            lease,
            revision: None,
        };
        self.log().puts.insert(plaintext.clone(), sent);
        let answer = self.send(compare, Op::RequestPut(put)).await?;
        let mut log = self.log();
        if answer.succeeded {
            log.puts.get_mut(&plaintext).expect("it was logged").revision = Some(revision_of(&answer));
        } else {
            log.puts.remove(&plaintext);
        }
        Ok(())
    }

    async fn delete(&mut self, key: Vec<u8>, compare: Option<Compare>) -> Result<(), Status> {
        let delete = DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        };
        let was_unsure = !self.log().perhaps_deleted.insert(key.clone());
        let answer = self.send(compare, Op::RequestDeleteRange(delete)).await?;
        let mut log = self.log();
        if !was_unsure {
            log.perhaps_deleted.remove(&key);
        }
        if answer.succeeded {
            log.deleted.insert(revision_of(&answer), key);
        }
        Ok(())
    }

    async fn send(&self, compare: Option<Compare>, op: Op) -> Result<TxnResponse, Status> {
        let request = TxnRequest {
            compare: compare.into_iter().collect(),
            success: vec![RequestOp { request: Some(op) }],
            failure: Vec::new(),
        };
        let answer = within(self.clients[self.client].kv().txn(request)).await?;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("a lock")
    }
}

fn revision_of(answer: &TxnResponse) -> i64 {
    answer.header.as_ref().expect("a header").revision
}

/// Nobody has written the key since it was found so.
fn unchanged(key: &[u8], found: Option<&KeyValue>) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_vec(),
        target_union: Some(TargetUnion::ModRevision(found.map_or(0, |kv| kv.mod_revision))),
        ..Compare::default()
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let answer = timeout(ANSWER, call).await;
    answer
        .unwrap_or_else(|_| Err(Status::unavailable("no answer")))
        .map(tonic::Response::into_inner)
}
