//! What one count takes on a thread alone and on two at once: of the registry's own metrics, and of one atomic for each that
//! all threads share, which is what the recorders of the `metrics` crate keep.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge};

/// How long each is timed, and how often; the median counts.
const SAMPLE: Duration = Duration::from_millis(20);
const SAMPLES: usize = 15;

/// Counts between two looks at whether the time is up.
const BATCH: u64 = 1000;

/// With the registry installed.
pub fn run() {
    let shared = || Arc::new(AtomicU64::new(0));
    // Any families that are there: these count calls that this process does not serve.
    let ours = metrics::counter!("etcd_encryption_proxy_requests_total", "rpc" => "bench", "code" => "bench");
    let our_gauge = metrics::gauge!("etcd_encryption_proxy_inflight_requests", "rpc" => "bench");
    let theirs = Counter::from_arc(shared());
    let their_gauge = Gauge::from_arc(shared());
    println!("\n| ns for one count | one thread | two at once |\n|---|---:|---:|");
    row("counter", &|| ours.increment(1));
    row("counter, one atomic for all", &|| theirs.increment(1));
    row("gauge", &|| our_gauge.increment(1));
    row("gauge, one atomic for all", &|| their_gauge.increment(1));
}

fn row(name: &str, count: &(impl Fn() + Sync)) {
    let [alone, both] = [1, 2].map(|threads| median(|| timed(threads, count)));
    println!("| {name} | {alone:.1} | {both:.1} |");
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut samples: Vec<_> = (0..SAMPLES).map(|_| measure()).collect();
    samples.sort_by(f64::total_cmp);
    samples.get(SAMPLES / 2).copied().unwrap_or_default()
}

/// Nanoseconds that one count takes the first of so many threads.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn timed(threads: usize, count: &(impl Fn() + Sync)) -> f64 {
    let (all_here, ended) = (Barrier::new(threads), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| {
                all_here.wait();
                while !ended.load(Ordering::Relaxed) {
                    (0..BATCH).for_each(|_| count());
                }
            });
        }
        all_here.wait();
        let (begun, mut counted) = (Instant::now(), 0);
        while begun.elapsed() < SAMPLE {
            (0..BATCH).for_each(|_| count());
            counted += BATCH;
        }
        let took = begun.elapsed();
        ended.store(true, Ordering::Relaxed);
        took.as_nanos() as f64 / counted as f64
    })
}
