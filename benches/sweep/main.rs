//! What the sweep does to a real etcd: how fast it is beside a loop that does nothing but its writes, how much memory it
//! takes, what another client notices of it, and that one broken value stops nothing. All in one run, because only what
//! was measured side by side can be compared.
//!
//! `make bench`, or `cargo bench --bench sweep` after `make tools`. `SWEEP_KEYS`, `SWEEP_ROUNDS`, `SWEEP_ETCD` (3.4, 3.5),
//! `SWEEP_FSYNC` (true, false) and `SWEEP_PARTS` (speed, client, damage) make it shorter or longer. Prints Markdown, and
//! the same as JSON.

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
    reason = "a benchmark, not an interface"
)]

#[path = "../../tests/common/mod.rs"]
mod common;

mod beside;
mod damage;
#[path = "../common/machine.rs"]
mod machine;
mod plain;
mod settings;
mod speed;
mod store;
mod sweeping;

use serde_json::json;

use settings::{Part, Settings};
use store::Store;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let settings = Settings::from_env();
    let mut stores = Vec::new();
    println!(
        "{} secrets of {} bytes, aescbc, from one key to another; {}; etcd on the same machine, without TLS.\n",
        settings.keys,
        store::VALUE_BYTES,
        machine::describe("etcd, sweep and client"),
    );
    for &fsync in &settings.fsync {
        let mut store = Store::start(&settings, fsync).await;
        println!("### etcd {}\n", store.describe());
        let mut results = json!({"etcd": store.version(), "fsync": fsync});
        for part in &settings.parts {
            let (name, result) = match part {
                Part::Speed => ("speed", speed::run(&settings, &mut store).await),
                Part::Client => ("client", beside::run(&settings, &mut store).await),
                Part::Damage => ("damage", damage::run(&settings, &mut store).await),
            };
            results[name] = result;
        }
        stores.push(results);
    }
    let all = json!({"keys": settings.keys, "valueBytes": store::VALUE_BYTES, "stores": stores});
    println!("```json\n{}\n```", serde_json::to_string(&all).expect("JSON"));
}
