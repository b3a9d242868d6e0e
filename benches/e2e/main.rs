//! What the proxy costs on the way to a real etcd, beside no proxy and beside etcd's own `grpc-proxy`: throughput, latency,
//! CPU and memory of the release binary under a load of this benchmark's own. All targets are there at once and are loaded
//! in turns, so that what else the machine does meets each of them; only ratios within a run mean anything.
//!
//! `make bench`, or `cargo bench --bench e2e` after `make tools`. Writes Markdown, JSON and plots to `target/e2e`, or with
//! `-- --accept` to `docs/benchmarks`. From the environment:
//!
//! - `E2E_PARTS`: of `core`, `list`, `sizes`, `tls`, `unix`, `open`, `watch`, `lease`, which are the default; `scale`, up to
//!   2,000 connections, 20,000 watches, a million keys and nine members; `soak`, memory under hours of load; and `instructions`,
//!   those of the whole proxy, by callgrind; `fence`, what etcd itself takes for writes as the proxy sends them.
//! - `E2E_ROUNDS`, how often each thing is measured (3), and `E2E_SECONDS`, for how long (1). 1 and 0.2 make a smoke run.
//! - `E2E_TARGETS`: words of which a target's name has one; `E2E_CELLS`: the same of a load's title (`64 clients`, say).
//! - `E2E_OTHER`: the path of another build of the proxy, which is then loaded in turns with this one.
//! - `E2E_ETCD`, 3.4 or 3.5; `E2E_RATE`, requests a second of `open` and `soak`; `E2E_SOAK`, the seconds of `soak` (3600);
//!   `E2E_MOST`, the most of anything that `scale` has. For `scale`, `E2E_CELLS` is of `idle`, `connections`, `watches`, `keys`,
//!   `members`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark, not an interface"
)]

#[path = "../../tests/common/mod.rs"]
mod common;

mod calls;
mod cells;
mod closed;
mod counted;
mod fan_out;
#[path = "../common/machine.rs"]
mod machine;
mod measured;
mod open;
mod plots;
mod report;
mod scale;
mod scene;
mod settings;
mod soak;
mod target;
mod usage;

use std::path::PathBuf;
use std::{env, fs};

use settings::{Part, Settings};

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs every benchmark to see that it does; this one needs minutes.
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    let settings = Settings::from_env();
    let folder = if env::args().any(|argument| argument == "--accept") {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks"))
    } else {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/e2e"))
    };
    fs::create_dir_all(&folder).expect("a folder");
    let mut results = Vec::new();
    for &part in &settings.parts {
        results.extend(cells::run(part, &settings).await);
        // After each part: whoever ends this early keeps what there is.
        if !results.is_empty() {
            fs::write(folder.join("e2e.md"), report::markdown(&settings, &results)).expect("a page");
            fs::write(folder.join("e2e.json"), report::json(&settings, &results)).expect("JSON");
            for (name, picture) in plots::all(&results) {
                fs::write(folder.join(name), picture).expect("a plot");
            }
        }
    }
    if !results.is_empty() {
        println!("{}", report::markdown(&settings, &results));
    }
    if settings.parts.contains(&Part::Instructions) {
        println!("{}", counted::run(&settings).await.markdown());
    }
    if settings.parts.contains(&Part::Scale) {
        scale::run(&settings, &folder.join("scale.md")).await;
    }
    if settings.parts.contains(&Part::Soak) {
        soak::run(&settings, &folder.join("soak.md")).await;
    }
    eprintln!("written to {}", folder.display());
}
