//! Hours of mixed load at a steady rate, and the proxy's memory meanwhile: whether it is flat. What is asked for, and by whom,
//! is in `life`. Times nothing: the machine may have other work beside it.
//!
//! `E2E_PARTS=soak E2E_SOAK=3600 cargo bench --bench e2e`. The proxy is as an operator would run it: a member with a record,
//! its metrics are scraped, and etcd's history is compacted as kube-apiserver does.

mod life;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval;

use crate::common::config;
use crate::common::proxy::Setup;
use crate::machine;
use crate::report::mebibytes;
use crate::scene::Scene;
use crate::settings::Settings;
use crate::target::{AESCBC, DIRECT, Target, Transport};
use crate::usage::{self, Cpu};

/// Requests a second, where nothing else is asked for: little enough to leave the machine to others.
const RATE: u32 = 500;
/// Clients at any moment, each on a connection of its own.
const CLIENTS: usize = 16;
/// Memory is looked at this often, and metrics are scraped; more often where the run is a short one.
const SAMPLE: Duration = Duration::from_secs(10);
const LEAST_SAMPLES: u32 = 100;
/// Five minutes in kube-apiserver; more often, so that a short run has several.
const COMPACTION: Duration = Duration::from_secs(60);
const TENTHS: usize = 10;
/// Flat is: what the last tenth has beside the second, which is past caches and buffers that fill.
const MAY_GROW: f64 = 0.10;
const MAY_GROW_BYTES: f64 = 2.0 * 1024.0 * 1024.0;

/// What the clients have done so far.
#[derive(Default)]
struct Done {
    requests: AtomicU64,
    connections: AtomicU64,
    watches: AtomicU64,
    events: AtomicU64,
    errors: AtomicU64,
}

/// One look at the proxy.
struct Sample {
    resident: u64,
    files: usize,
}

/// [`Done`] at one moment, or between two.
#[derive(Clone, Copy, Default)]
struct Total {
    requests: u64,
    connections: u64,
    watches: u64,
    events: u64,
    errors: u64,
}

/// What there was in one tenth of the run.
struct Tenth {
    samples: Vec<Sample>,
    done: Total,
    cpu: Duration,
}

/// Runs it to its end, and keeps the page at `path` after each tenth: whoever ends it early has what there is.
pub async fn run(settings: &Settings, path: &Path) {
    let scene = Scene::start(settings, Transport::Tcp, &[DIRECT]).await;
    let setup = Setup::new(scene.endpoint(), config::document("secrets", "aescbc")).member("soak");
    let proxy = Arc::new(Target::of(AESCBC, setup.start()));
    life::fill(&proxy, CLIENTS).await;

    let done = Arc::new(Done::default());
    let rate = settings.rate_or(RATE);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (proxy, done) = (Arc::clone(&proxy), Arc::clone(&done));
        clients.spawn(life::again_and_again(
            proxy,
            done,
            client,
            f64::from(rate) / CLIENTS as f64,
        ));
    }
    let tenths = observe(settings, &scene, &proxy, &done, path).await;
    clients.shutdown().await;
    println!("{}", page(settings, &tenths));
}

/// Looks at the proxy until the time is over.
async fn observe(settings: &Settings, scene: &Scene, proxy: &Target, done: &Done, path: &Path) -> Vec<Tenth> {
    let pid = proxy.pid.expect("a process");
    let whole = settings.soak;
    let (begun, mut compacted) = (Instant::now(), Instant::now());
    let mut ticks = interval(SAMPLE.min(whole / LEAST_SAMPLES));
    let (mut tenths, mut samples, mut before, mut cpu) = (Vec::new(), Vec::new(), Total::default(), Cpu::of(pid));
    while tenths.len() < TENTHS {
        ticks.tick().await;
        proxy.metrics().await;
        let at = begun.elapsed();
        samples.push(Sample::of(pid));
        if compacted.elapsed() >= COMPACTION {
            scene.tidy().await;
            compacted = Instant::now();
        }
        if at >= whole * (tenths.len() as u32 + 1) / TENTHS as u32 {
            let (now, used) = (Total::of(done), Cpu::of(pid));
            tenths.push(Tenth {
                samples: std::mem::take(&mut samples),
                done: now.since(before),
                cpu: used.since(cpu).total,
            });
            (before, cpu) = (now, used);
            fs::write(path, page(settings, &tenths)).expect("a page");
            eprintln!("soak: {} of {TENTHS} tenths, {} errors", tenths.len(), now.errors);
        }
    }
    tenths
}

impl Sample {
    fn of(pid: u32) -> Self {
        Self {
            resident: usage::memory(pid).0,
            files: fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("a running process")
                .count(),
        }
    }
}

impl Total {
    fn of(done: &Done) -> Self {
        let now = |what: &AtomicU64| what.load(Ordering::Relaxed);
        Self {
            requests: now(&done.requests),
            connections: now(&done.connections),
            watches: now(&done.watches),
            events: now(&done.events),
            errors: now(&done.errors),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            connections: self.connections - before.connections,
            watches: self.watches - before.watches,
            events: self.events - before.events,
            errors: self.errors - before.errors,
        }
    }
}

impl Tenth {
    fn mean(&self) -> f64 {
        self.samples.iter().map(|sample| sample.resident as f64).sum::<f64>() / self.samples.len().max(1) as f64
    }
}

fn page(settings: &Settings, tenths: &[Tenth]) -> String {
    let each = settings.soak / TENTHS as u32;
    let mut page = format!(
        "# Memory under hours of load\n\n{INTRODUCTION}\n{}. {} requests a second asked for, {:.1} minutes in all.\n\n{HEADING}",
        machine::describe("load, proxy and etcd"),
        settings.rate_or(RATE),
        settings.soak.as_secs_f64() / 60.0,
    );
    for (index, tenth) in tenths.iter().enumerate() {
        let resident = || tenth.samples.iter().map(|sample| sample.resident);
        let files = tenth.samples.iter().map(|sample| sample.files).max().unwrap_or(0);
        let Total {
            requests,
            connections,
            watches,
            events,
            errors,
        } = tenth.done;
        writeln!(
            page,
            "| {} | {} | {} | {} | {files} | {:.0} | {connections} | {watches} | {events} | {:.0} | {errors} |",
            index + 1,
            mebibytes(resident().min().unwrap_or(0)),
            mebibytes(tenth.mean() as u64),
            mebibytes(resident().max().unwrap_or(0)),
            requests as f64 / each.as_secs_f64(),
            tenth.cpu.as_secs_f64() * 1e6 / requests.max(1) as f64,
        )
        .expect("text");
    }
    page + "\n" + &verdict(tenths) + "\n"
}

/// Whether memory is flat, and all was answered as it should be.
fn verdict(tenths: &[Tenth]) -> String {
    let errors: u64 = tenths.iter().map(|tenth| tenth.done.errors).sum();
    let (Some(second), Some(last)) = (tenths.get(1), tenths.get(TENTHS - 1)) else {
        return format!("Not at its end. Errors: {errors}.");
    };
    let (from, to) = (second.mean(), last.mean());
    let is_flat = to - from <= (MAY_GROW * from).max(MAY_GROW_BYTES);
    format!(
        "Memory is {}: on average {} in the second tenth and {} in the last. Errors: {errors}.",
        if is_flat { "flat" } else { "**not flat**" },
        mebibytes(from as u64),
        mebibytes(to as u64),
    )
}

const INTRODUCTION: &str = "\
`E2E_PARTS=soak E2E_SOAK=3600 cargo bench --bench e2e -- --accept` takes these figures anew. Sixteen clients ask at a steady
rate: puts, gets and updates of 64 B to 1 MiB, lists of 500 values of 1 KiB. Each stays on its connection for 5 to 30 seconds
and comes back on another, and has four watches, each of which lives for up to ten seconds. Each value that is read or seen is compared
with what was written. The rule is aescbc; the proxy is a member with a record, and its metrics are scraped at each look at its
memory. *Flat* is: in the last tenth on average no more than 10 % or 2 MiB beyond the second.
";

const HEADING: &str = "\
| tenth | resident, least | mean | most | files | requests/s | connections | watches | events | CPU µs a request | errors |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";
