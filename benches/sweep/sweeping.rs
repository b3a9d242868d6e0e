//! One run of the real `sweep` verb, and what is to be known of it.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::pb::etcdserverpb::WatchCreateRequest;
use crate::common::sweep::{Outcome, Sweep};
use crate::common::watch::Watch;
use crate::store::Store;

const CHECKPOINT: &str = "/etcd-encryption-proxy/sweep/checkpoint";

/// How it went.
pub struct Swept {
    pub outcome: Outcome,
    pub began: Instant,
    /// The process, from its start to its end.
    pub took: Duration,
    /// The rewrite alone, without start, proof and end.
    pub rewrite: Duration,
    /// The most memory that the process had, bytes.
    pub peak: u64,
}

/// Runs `sweep`, while other tasks of this runtime go on.
pub async fn run(store: &Store, sweep: Sweep) -> Swept {
    let revision = store.revision().await;
    let began = Instant::now();
    let task = tokio::task::spawn_blocking(move || watched(sweep));
    let (outcome, peak) = task.await.expect("the sweep's thread");
    let took = began.elapsed();
    Swept {
        rewrite: rewrite_time(store, revision + 1).await,
        outcome,
        began,
        took,
        peak,
    }
}

fn watched(sweep: Sweep) -> (Outcome, u64) {
    let (mut command, folder) = sweep.into_parts();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the sweep starts");
    let ended = Arc::new(AtomicBool::new(false));
    let watching = {
        let (ended, pid) = (Arc::clone(&ended), child.id());
        thread::spawn(move || peak_of(pid, &ended))
    };
    let output = Child::wait_with_output(child).expect("the sweep's output");
    ended.store(true, Ordering::Relaxed);
    drop(folder);
    (Outcome::of(&output), watching.join().expect("a peak"))
}

/// The kernel keeps the peak itself; it only has to be read before the process is gone.
fn peak_of(pid: u32, ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default() * 1024);
        thread::sleep(Duration::from_millis(20));
    }
    peak
}

/// From the history of the sweep's checkpoint, which is read when it is over: nothing is asked of etcd meanwhile.
async fn rewrite_time(store: &Store, start_revision: i64) -> Duration {
    let create = WatchCreateRequest {
        key: CHECKPOINT.into(),
        start_revision,
        ..WatchCreateRequest::default()
    };
    let mut watch = Watch::open(&store.client, create).await;
    loop {
        for event in watch.next().await.events {
            let record: Value = serde_json::from_slice(&event.kv.expect("a key").value).expect("a checkpoint");
            if record["stage"] == "prove" {
                return Duration::from_millis(record["spentMs"].as_u64().expect("milliseconds"));
            }
        }
    }
}
