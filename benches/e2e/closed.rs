//! The closed loop: so many clients, each of which asks again as soon as it is answered.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::calls::{Client, Load};
use crate::measured::{Meter, Round};
use crate::target::{FENCED, Target};

/// How the load is made up.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub load: Load,
    pub clients: usize,
    pub connections: usize,
    pub value_bytes: usize,
}

/// Threads of the load: as many as there are cores here, and one for one connection.
const THREADS: usize = 2;

/// Before anything is counted: connections, caches and the CPU's clock have settled by then.
const WARM_UP: Duration = Duration::from_millis(200);

/// Bytes that one measurement may write. etcd keeps its last five thousand writes in memory, whatever their size.
const MOST_WRITTEN: usize = 64 * 1024 * 1024;

/// When counting begins and ends, known once all are connected.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

/// An answered request: when it was, and after how long.
type Sample = (Instant, Duration);

/// Runs the load on threads of its own and blocks until it is done.
pub fn run(target: &Target, etcd: u32, shape: Shape, window: Duration) -> Round {
    let threads = THREADS.min(shape.connections);
    let connected = Barrier::new(threads + 1);
    let agreed = OnceLock::new();
    let begun = Barrier::new(threads + 1);
    let ended = Barrier::new(threads + 1);
    let left = Arc::new(AtomicI64::new(if shape.load.writes() {
        i64::try_from(MOST_WRITTEN / shape.value_bytes.max(1)).expect("a number of requests")
    } else {
        i64::MAX
    }));
    thread::scope(|scope| {
        let load = |index| {
            let (connected, agreed, begun, ended, left) = (&connected, &agreed, &begun, &ended, Arc::clone(&left));
            scope.spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let clients = connect(target, shape, index, threads).await;
                    connected.wait();
                    begun.wait();
                    let window = *agreed.get().expect("a window");
                    let samples = all(clients, window, &left).await;
                    // Here until it has been seen what this thread used.
                    ended.wait();
                    ended.wait();
                    samples
                })
            })
        };
        let loads: Vec<_> = (0..threads).map(load).collect();
        connected.wait();
        let from = Instant::now() + WARM_UP;
        let agreed = *agreed.get_or_init(|| Window {
            from,
            to: from + window,
        });
        begun.wait();
        thread::sleep(agreed.from.saturating_duration_since(Instant::now()));
        let mut meter = Meter::begin(target, etcd);
        ended.wait();
        meter.load_ends();
        ended.wait();
        // Where a request takes long, the last one ends later, and so does the measurement.
        let samples: Vec<Sample> = loads
            .into_iter()
            .flat_map(|load| load.join().expect("a load"))
            .collect();
        let last = samples.iter().map(|(at, _)| *at).max().unwrap_or(agreed.to);
        let micros = samples.iter().map(|(_, took)| took.as_secs_f64() * 1e6).collect();
        meter.end(last.saturating_duration_since(agreed.from), micros)
    })
}

/// Runs so many requests, on one thread, and measures nothing.
pub fn exactly(target: &Target, shape: Shape, requests: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for mut client in connect(target, shape, 0, 1).await {
            tasks.spawn(async move {
                for _ in 0..requests / shape.clients {
                    client.once().await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a client");
        }
    });
}

/// Has each client ask once, and looks at what `observe` shows while all are connected and none asks.
pub fn once_each<T>(target: &Target, shape: Shape, observe: impl FnOnce() -> T) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut clients = connect(target, shape, 0, 1).await;
        for client in &mut clients {
            client.once().await;
        }
        observe()
    })
}

/// The clients of one thread, each on its connection.
async fn connect(target: &Target, shape: Shape, thread: usize, threads: usize) -> Vec<Client> {
    let prefix = target.prefix();
    let mut clients = Vec::new();
    for connection in (thread..shape.connections).step_by(threads) {
        let channel = target.connect().await;
        for client in (connection..shape.clients).step_by(shape.connections) {
            let client = Client::new(channel.clone(), shape.load, &prefix, shape.value_bytes, client);
            clients.push(client.await.fenced(target.name == FENCED));
        }
    }
    clients
}

async fn all(clients: Vec<Client>, window: Window, left: &Arc<AtomicI64>) -> Vec<Sample> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let left = Arc::clone(left);
        tasks.spawn(async move {
            let mut samples = Vec::new();
            loop {
                let asked = Instant::now();
                if asked >= window.to {
                    return samples;
                }
                if asked >= window.from && left.fetch_sub(1, Ordering::Relaxed) <= 0 {
                    return samples;
                }
                client.once().await;
                // What was asked before is not counted: nor is its cost.
                if asked >= window.from {
                    samples.push((Instant::now(), asked.elapsed()));
                }
            }
        });
    }
    let mut samples = Vec::new();
    while let Some(done) = tasks.join_next().await {
        samples.extend(done.expect("a client"));
    }
    samples
}
