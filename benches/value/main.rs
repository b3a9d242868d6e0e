//! What sealing and opening a value costs, nonce, prefix and key lookup included, beside the bare primitives and beside
//! OpenSSL; several values at once; and why secretbox is dryoc's.
//!
//! `cargo bench --bench value`, half a minute. Prints its page and writes it to `target/value`, or with `-- --accept` to
//! `docs/benchmarks`. What stands in a row is measured in turns, so its ratios hold on a busy machine too. A thing measured
//! after the other, as benchmark harnesses do, says how busy the machine was at either time.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark, not an interface"
)]

#[path = "../common/machine.rs"]
mod machine;
mod openssl;
#[path = "../common/page.rs"]
mod page;
mod paired;
mod primitives;
mod providers;
mod tables;

fn main() {
    // `cargo test --benches` runs every benchmark to see that it does.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let text = [
        tables::introduction(),
        tables::aims(),
        tables::sizes(),
        tables::batches(),
        tables::secretboxes(),
    ];
    page::write("value", "value.md", &text.join("\n"));
}
