//! The open loop: requests are sent when they are due, whether or not earlier ones have been answered, and their latency
//! counts from when they were due. A client that waited for answers would not notice most of a stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::calls::Client;
use crate::closed::Shape;
use crate::measured::{Meter, Round};
use crate::target::Target;

const WARM_UP: Duration = Duration::from_millis(200);

/// `rate` requests a second, by the shape's clients in turn; blocks until it is done.
pub fn run(target: &Target, etcd: u32, shape: Shape, rate: u32, window: Duration) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let prefix = target.prefix();
        let mut idle = Vec::new();
        for connection in 0..shape.connections {
            let channel = target.connect().await;
            for client in (connection..shape.clients).step_by(shape.connections) {
                let client = Client::new(channel.clone(), shape.load, &prefix, shape.value_bytes, client);
                idle.push(client.await);
            }
        }
        let (stop, mut due) = clock(rate);
        let from = Instant::now() + WARM_UP;
        let to = from + window;
        let (mut meter, mut tasks, mut latencies) = (None, JoinSet::new(), Vec::new());
        let mut collect = |(client, at, took): (Client, Instant, Duration)| {
            if at >= from && at < to {
                latencies.push(took.as_secs_f64() * 1e6);
            }
            client
        };
        while let Some(at) = due.recv().await {
            if at >= from && meter.is_none() {
                meter = Some(Meter::begin(target, etcd));
            }
            if at >= to {
                break;
            }
            while let Some(done) = tasks.try_join_next() {
                idle.push(collect(done.expect("a request")));
            }
            // Where all of them wait, so does the request, and its latency says so.
            let mut client = match idle.pop() {
                Some(client) => client,
                None => collect(
                    tasks
                        .join_next()
                        .await
                        .expect("a request under way")
                        .expect("a request"),
                ),
            };
            tasks.spawn(async move {
                client.once().await;
                (client, at, at.elapsed())
            });
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(done) = tasks.join_next().await {
            collect(done.expect("a request"));
        }
        meter.expect("a meter").end(window, latencies)
    })
}

/// Says when requests are due, from a thread of its own: the runtime's clock ticks in milliseconds.
fn clock(rate: u32) -> (Arc<AtomicBool>, mpsc::UnboundedReceiver<Instant>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, due) = mpsc::unbounded_channel();
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        let mut at = Instant::now();
        while !stopped.load(Ordering::Relaxed) {
            at += Duration::from_secs(1) / rate;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // Nobody listens any more once the last request is sent.
            let _ = tell.send(at);
        }
    });
    (stop, due)
}
