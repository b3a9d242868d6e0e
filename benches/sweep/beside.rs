//! What another client of the same etcd notices: its latency without a sweep, and with one at each pace.
//!
//! Requests are sent when they are due, whether or not earlier ones have been answered, and their latency counts from when
//! they were due: a client that waited for answers would not notice most of a stall.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::settings::Settings;
use crate::store::{Store, VALUE_BYTES};
use crate::sweeping;

/// Requests a second, reads and compare-and-puts in turn.
const RATE: u32 = 500;
/// Keys of the client's own, which no rule covers.
const KEYS: u64 = 1_000;
/// How long it is watched without a sweep, before each of the others.
const ALONE: Duration = Duration::from_secs(6);
/// How long it is not watched at all: it has to connect first.
const WARM_UP: Duration = Duration::from_millis(500);
/// What the sweep is told, beside nothing.
const PACES: [(&str, &[&str]); 3] = [
    ("adaptive (the default)", &[]),
    ("--concurrency=256", &["--concurrency=256"]),
    ("--rate=5000", &["--rate=5000"]),
];

pub async fn run(settings: &Settings, store: &mut Store) -> Value {
    for index in 0..KEYS {
        store.client.put(key(index), vec![b'x'; VALUE_BYTES]).await;
    }
    let mut alone = Sample::default();
    let mut beside = PACES.map(|_| Beside::default());
    for _ in 0..settings.rounds {
        for ((_, flags), beside) in PACES.iter().zip(&mut beside) {
            let load = Load::start(&store.etcd.endpoint());
            tokio::time::sleep(WARM_UP).await;
            let began = Instant::now();
            tokio::time::sleep(ALONE).await;
            let sweep = flags.iter().fold(store.sweep(), |sweep, flag| sweep.flag(flag));
            let swept = sweeping::run(store, sweep).await;
            let answers = load.stop();
            swept.outcome.expect_clean();
            let ended = swept.began + swept.took;
            alone.add(&answers, began..began + ALONE);
            beside.rewrite.add(&answers, swept.began..swept.began + swept.rewrite);
            beside.proof.add(&answers, swept.began + swept.rewrite..ended);
            // Against the seconds just before it: other work of the machine comes and goes.
            let p99 = |during| Sample::of(&answers, during).at(0.99);
            beside.times.push(p99(swept.began..ended) / p99(began..began + ALONE));
            beside.rates.push(settings.keys as f64 / swept.rewrite.as_secs_f64());
            store.tidy().await;
        }
    }
    println!(
        "| a client's {RATE} requests a second | rewrite | p50 | p99 | p99.9 | during proof: p50 | p99 | p99.9 | p99, times \
         that of just before |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    println!("| without a sweep | | {} | | | | |", alone.cells());
    let mut results = vec![json!({"pace": "none", "latency": alone.json()})];
    for ((name, _), mut beside) in PACES.iter().zip(beside) {
        let rates: Vec<_> = beside.rates.iter().map(|rate| format!("{rate:.0}/s")).collect();
        let times: Vec<_> = beside.times.iter().map(|times| format!("{times:.1}")).collect();
        println!(
            "| {name} | {} | {} | {} | {} |",
            rates.join(", "),
            beside.rewrite.cells(),
            beside.proof.cells(),
            times.join(", "),
        );
        results.push(
            json!({"pace": name, "rewrite": beside.rates, "duringRewrite": beside.rewrite.json(),
                            "duringProof": beside.proof.json(), "timesAlone": beside.times}),
        );
    }
    println!();
    json!(results)
}

/// What there was beside sweeps of one pace.
#[derive(Default)]
struct Beside {
    rewrite: Sample,
    proof: Sample,
    /// Of each sweep: its p99 beside the one of just before.
    times: Vec<f64>,
    /// Of each sweep: keys a second of the rewrite.
    rates: Vec<f64>,
}

/// Latencies in milliseconds.
#[derive(Default)]
struct Sample(Vec<f64>);

impl Sample {
    fn of(answers: &[Answer], during: Range<Instant>) -> Self {
        let mut sample = Self::default();
        sample.add(answers, during);
        sample
    }

    fn add(&mut self, answers: &[Answer], during: Range<Instant>) {
        let those = answers.iter().filter(|answer| during.contains(&answer.due));
        self.0.extend(those.map(|answer| answer.latency.as_secs_f64() * 1e3));
    }

    fn at(&mut self, part: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (part * self.0.len() as f64) as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    fn cells(&mut self) -> String {
        [0.5, 0.99, 0.999]
            .map(|part| format!("{:.2} ms", self.at(part)))
            .join(" | ")
    }

    fn json(&mut self) -> Value {
        json!({"requests": self.0.len(), "p50Ms": self.at(0.5), "p99Ms": self.at(0.99), "p999Ms": self.at(0.999)})
    }
}

struct Answer {
    due: Instant,
    latency: Duration,
}

/// The client, on threads of its own.
struct Load {
    stop: Arc<AtomicBool>,
    clock: JoinHandle<()>,
    client: JoinHandle<Vec<Answer>>,
}

impl Load {
    fn start(endpoint: &str) -> Self {
        let endpoint = endpoint.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let (due_tx, due_rx) = mpsc::unbounded_channel();
        let client = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(answers(&endpoint, due_rx))
        });
        // The runtime's own clock ticks in milliseconds.
        let clock = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    due += Duration::from_secs(1) / RATE;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due_tx.send(due).expect("a client");
                }
            })
        };
        Self { stop, clock, client }
    }

    fn stop(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        self.clock.join().expect("a clock");
        self.client.join().expect("answers")
    }
}

async fn answers(endpoint: &str, mut due: mpsc::UnboundedReceiver<Instant>) -> Vec<Answer> {
    let client = Client::connect(endpoint).await;
    let mut requests = Vec::new();
    let mut index = 0;
    while let Some(due) = due.recv().await {
        let client = client.clone();
        let index = {
            index += 1;
            index
        };
        requests.push(tokio::spawn(async move {
            if index % 2 == 0 {
                read(&client, key(index % KEYS)).await;
            } else {
                write(&client, key(index % KEYS)).await;
            }
            let latency = due.elapsed();
            Answer { due, latency }
        }));
    }
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.expect("an answer"));
    }
    answers
}

fn key(index: u64) -> Vec<u8> {
    format!("/registry/leases/bench/l-{index:06}").into_bytes()
}

async fn read(client: &Client, key: Vec<u8>) {
    let request = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    assert_eq!(client.range(request).await.kvs.len(), 1);
}

/// As kube-apiserver updates, but for the revision, which a client of one key's only writer need not know.
async fn write(client: &Client, key: Vec<u8>) {
    let exists = Compare {
        key: key.clone(),
        result: CompareResult::Greater.into(),
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    let put = PutRequest {
        key,
        value: vec![b'y'; VALUE_BYTES],
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![exists],
        success: vec![RequestOp {
            request: Some(Op::RequestPut(put)),
        }],
        ..TxnRequest::default()
    };
    assert!(client.txn(request).await.succeeded);
}
