//! Clients as kube-apiservers are: creates that want the key absent, updates on the revision that was read, plain puts, reads,
//! deletions, lists; each through any proxy, with a deadline, and noted with when it was sent and what it came to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use super::history::{History, Operation, Outcome, Verb};
use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::response_op::Response as Answer;
use crate::common::pb::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::common::pb::mvccpb::KeyValue;

const WRITERS: usize = 8;
/// Keys of a round; a list takes ten of them.
const KEYS: usize = 120;
const PAUSE: Duration = Duration::from_millis(25);

/// A client's connection to one proxy, which notes what is sent over it.
#[derive(Clone, Debug)]
pub struct Session {
    pub client: Client,
    pub history: History,
    pub number: usize,
    pub deadline: Duration,
}

impl Session {
    /// Sends `call`, and gives its answer, or what it came to without one.
    async fn send<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Outcome> {
        match timeout(self.deadline, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if was_refused(&status) => Err(Outcome::Failed),
            Ok(Err(_)) | Err(_) => Err(Outcome::Ambiguous),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    fn begin(&self, verb: Verb, key: &str) -> Operation {
        Operation::begin(&self.history, self.number, verb, key)
    }

    /// Whether it was acknowledged and carried out.
    pub async fn create(&self, key: &str, value: &str) -> bool {
        let mut operation = self.begin(Verb::Create, key);
        operation.value = value.to_owned();
        let request = TxnRequest {
            compare: vec![unchanged(key, 0)],
            success: vec![put_op(key, value)],
            failure: Vec::new(),
        };
        match self.send(self.client.kv().txn(self.request(request))).await {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                operation.succeeded = answer.succeeded;
                operation.revision = answer.header.expect("a header").revision;
            }
            Err(outcome) => operation.outcome = outcome,
        }
        let done = operation.has_written();
        self.history.end(operation);
        done
    }

    /// Replaces what was seen; gives what the key holds now, as far as that was said.
    pub async fn update(&self, key: &str, seen: &(String, i64), value: &str) -> Option<Seen> {
        let mut operation = self.begin(Verb::Update, key);
        operation.value = value.to_owned();
        (operation.expected, operation.expected_revision) = seen.clone();
        let request = TxnRequest {
            compare: vec![unchanged(key, seen.1)],
            success: vec![put_op(key, value)],
            failure: vec![RequestOp {
                request: Some(Op::RequestRange(range(key, b""))),
            }],
        };
        let mut now = None;
        match self.send(self.client.kv().txn(self.request(request))).await {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                operation.succeeded = answer.succeeded;
                operation.revision = answer.header.expect("a header").revision;
                if answer.succeeded {
                    now = Some(Some((value.to_owned(), operation.revision)));
                } else if let Some(Some(Answer::ResponseRange(range))) =
                    answer.responses.into_iter().next().map(|answer| answer.response)
                {
                    now = Some(note(&mut operation, range.kvs.first()));
                }
            }
            Err(outcome) => operation.outcome = outcome,
        }
        self.history.end(operation);
        now
    }

    /// Whether it was acknowledged.
    pub async fn put(&self, key: &str, value: &str) -> bool {
        let mut operation = self.begin(Verb::Put, key);
        operation.value = value.to_owned();
        match self.send(self.client.kv().put(self.request(put(key, value)))).await {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                operation.revision = answer.header.expect("a header").revision;
            }
            Err(outcome) => operation.outcome = outcome,
        }
        let done = operation.has_written();
        self.history.end(operation);
        done
    }

    pub async fn delete(&self, key: &str) {
        let mut operation = self.begin(Verb::Delete, key);
        let request = DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        };
        match self.send(self.client.kv().delete_range(self.request(request))).await {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                operation.succeeded = answer.deleted > 0;
                operation.revision = answer.header.expect("a header").revision;
            }
            Err(outcome) => operation.outcome = outcome,
        }
        self.history.end(operation);
    }

    /// What the key holds; nothing where there was no answer.
    pub async fn get(&self, key: &str) -> Option<Seen> {
        let mut operation = self.begin(Verb::Get, key);
        let mut seen = None;
        match self.send(self.client.kv().range(self.request(range(key, b"")))).await {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                seen = Some(note(&mut operation, answer.kvs.first()));
            }
            Err(outcome) => operation.outcome = outcome,
        }
        self.history.end(operation);
        seen
    }

    /// Ten keys at once: a read of each, at the same time.
    pub async fn list(&self, prefix: &str) {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix") += 1;
        let mut operations: Vec<_> = (0..10)
            .map(|digit| self.begin(Verb::Get, &format!("{prefix}{digit}")))
            .collect();
        if let Ok(answer) = self
            .send(self.client.kv().range(self.request(range(prefix, &end))))
            .await
        {
            for operation in &mut operations {
                operation.outcome = Outcome::Ok;
                let found = answer.kvs.iter().find(|kv| kv.key == operation.key.as_bytes());
                note(operation, found);
            }
        }
        for operation in operations {
            self.history.end(operation);
        }
    }
}

/// Value and revision; nothing where the key is absent.
pub type Seen = Option<(String, i64)>;

fn note(operation: &mut Operation, found: Option<&KeyValue>) -> Seen {
    operation.read = true;
    let kv = found?;
    operation.exists = true;
    operation.found = String::from_utf8_lossy(&kv.value).into_owned();
    operation.found_revision = kv.mod_revision;
    Some((operation.found.clone(), kv.mod_revision))
}

/// The proxy says of these that it sent nothing on. If it sent it all the same, its value turns up, and nobody has written it.
fn was_refused(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument)
        && status.message().starts_with("etcd-encryption-proxy: ")
}

fn unchanged(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    RequestOp {
        request: Some(Op::RequestPut(put(key, value))),
    }
}

fn range(key: &str, end: &[u8]) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.to_vec(),
        ..RangeRequest::default()
    }
}

/// The writers of a round, at work.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Has them write keys below `prefix` through the proxies at `sockets`.
    pub async fn start(sockets: &[PathBuf], prefix: &str, history: &History, seed: u64) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = Vec::new();
        for number in 0..WRITERS {
            let mut sessions = Vec::new();
            for socket in sockets {
                sessions.push(Session {
                    client: Client::connect_unix(socket.clone()).await,
                    history: history.clone(),
                    number,
                    deadline: Duration::from_secs(1 + number as u64 % 4 * 2),
                });
            }
            let random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            tasks.push(tokio::spawn(work(
                sessions,
                prefix.to_owned(),
                random,
                Arc::clone(&stop),
            )));
        }
        Self { stop, tasks }
    }

    /// Waits until each has its last answer.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a writer ends well");
        }
    }
}

async fn work(sessions: Vec<Session>, prefix: String, mut random: StdRng, stop: Arc<AtomicBool>) {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let session = &sessions[random.random_range(0..sessions.len())];
        let key = format!("{prefix}{:03}", random.random_range(0..KEYS));
        let mut value = format!("{} {turn} {key} ", session.number);
        value.push_str(&".".repeat(random.random_range(0..300)));
        match random.random_range(0..100) {
            0..15 => {
                session.create(&key, &value).await;
            }
            15..45 => {
                let last = match seen.remove(&key) {
                    Some(last) => Some(last),
                    None => session.get(&key).await,
                };
                let now = match last {
                    Some(Some(last)) => session.update(&key, &last, &value).await,
                    Some(None) => session.create(&key, &value).await.then_some(None),
                    None => None,
                };
                if let Some(Some(now)) = now {
                    seen.insert(key, Some(now));
                }
            }
            45..60 => {
                session.put(&key, &value).await;
            }
            60..82 => {
                if let Some(now) = session.get(&key).await {
                    seen.insert(key, now);
                }
            }
            82..92 => session.delete(&key).await,
            _ => session.list(&key[..key.len() - 1]).await,
        }
        sleep(PAUSE).await;
    }
}
