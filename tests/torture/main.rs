//! A campaign against everything at once: three etcd members, three proxies, clients that remember what they were told, an
//! operator who rotates and sweeps, and processes that are frozen and killed, clocks that step, connections that are cut, packets
//! that are dropped and bytes that arrive late. `make torture` runs it; docs and limits are in CONTRIBUTING.md.
//!
//! `plan` draws what is to happen from the seed, and nothing else draws; `faults` does it; `writers` and `operator` work
//! meanwhile; `verdict` judges what `history` kept, with `reader` (kube-apiserver's own code and porcupine) beside its own rules.
//! More kinds of commands and faults are more variants in `plan`, and an arm where each is carried out.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod aimed;
mod campaign;
mod clock;
mod edited;
mod faults;
mod history;
mod operator;
mod plan;
mod reader;
mod restored;
mod settings;
mod summary;
mod verdict;
mod world;
mod writers;

/// Says how to repeat the run where it ends by a panic.
struct Again(String);

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("torture: {}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make torture"]
async fn campaign() {
    let settings = settings::Settings::from_environment();
    let _again = Again(settings.again());
    let summary = campaign::run(&settings).await;
    let text = summary.to_string();
    eprintln!("{text}");
    if let Some(path) = &settings.summary {
        std::fs::write(path, &text).expect("the summary's file");
    }
    assert!(
        summary.is_good(),
        "{} rounds, and not all is well",
        summary.rounds.len()
    );
}
