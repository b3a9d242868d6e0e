//! What the proxy's own work on a message takes in time and in allocations: the cases that `benches/instructions` counts, as
//! they meet a real CPU and a real allocator; and what it takes to count while another core counts as well.
//!
//! `cargo bench --bench messages`. Prints its page and writes it to `target/messages`, or with `-- --accept` to
//! `docs/benchmarks`.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark, not an interface, which uses a part of another"
)]

mod counting;

#[path = "../instructions/cases.rs"]
mod cases;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../instructions/messages.rs"]
mod messages;
#[path = "../common/page.rs"]
mod page;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use etcd_encryption_proxy::app::families;
use etcd_encryption_proxy::telemetry::Registry;

use cases::{CASES, Round};

/// How long each case is timed, in samples of which the median counts.
const SAMPLES: usize = 50;
const SAMPLE: Duration = Duration::from_millis(20);

fn main() {
    // `cargo test --benches` runs every benchmark to see that it does.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // With metrics, as in a proxy that serves.
    let _registry = Registry::install(families()).unwrap();
    let mut text = format!(
        "# What a message costs\n\n{INTRODUCTION}\n{}.\n\n| | time | allocations | bytes allocated |\n|---|---:|---:|---:|\n",
        machine::describe("everything")
    );
    for case in CASES {
        let mut round = case.ready();
        let allocated = allocation_counter::measure(&mut round);
        let (count, bytes) = (allocated.count_total, allocated.bytes_total);
        writeln!(
            text,
            "| {} | {:.2?} | {count} | {bytes} |",
            case.name,
            timed(&mut round)
        )
        .unwrap();
    }
    page::write("messages", "messages.md", &text);
    counting::run();
}

const INTRODUCTION: &str = "\
`cargo bench --bench messages -- --accept` takes these figures anew. It is the proxy's own work on a message: request and answer
of an RPC, or one event of a watch, from bytes to bytes, with aescbc where there is a rule; no network and no HTTP/2. Times are
medians of fifty samples.
";

/// The median time of one round.
fn timed(round: &mut Round) -> Duration {
    let mut samples: Vec<_> = (0..SAMPLES)
        .map(|_| {
            let (begun, mut rounds) = (Instant::now(), 0);
            while begun.elapsed() < SAMPLE {
                round();
                rounds += 1;
            }
            begun.elapsed() / rounds
        })
        .collect();
    samples.sort();
    samples.get(SAMPLES / 2).copied().unwrap_or_default()
}
