//! `sweep` on real etcds, as an operator would run it.

mod beside;
mod changes;
mod kills;
mod limit;
mod outages;
mod owners;
mod plugins;
mod witness;
mod writers;

use std::time::Duration;

use rand::RngExt as _;

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::process::Process;
use crate::common::sweep::opened;
use witness::{Story, Witness};
use writers::Writers;

/// How values begin that were written under the first key, and under the second.
const CBC_1: &str = "k8s:enc:aescbc:v1:k1:";
const CBC_2: &str = "k8s:enc:aescbc:v1:k2:";

/// Keys under the state prefix.
const OWNER: &str = "/etcd-encryption-proxy/sweep/owner";
const CHECKPOINT: &str = "/etcd-encryption-proxy/sweep/checkpoint";

/// How many secrets a store has: `usual`, or what `SWEEP_KEYS` says.
fn keys(usual: usize) -> usize {
    let wanted = std::env::var("SWEEP_KEYS").ok();
    wanted.map_or(usual, |text| text.parse().expect("a number of keys"))
}

/// What a test's chances come from: `SWEEP_SEED`, or a new one, which is printed for when the test fails.
fn seed() -> u64 {
    let wanted = std::env::var("SWEEP_SEED").ok();
    let seed = wanted.map_or_else(|| rand::rng().random(), |text| text.parse().expect("a seed"));
    eprintln!("SWEEP_SEED={seed}");
    seed
}

async fn revision(client: &Client) -> i64 {
    let answer = client.range(RangeRequest {
        key: b"nothing".to_vec(),
        ..RangeRequest::default()
    });
    answer.await.header.expect("a header").revision
}

/// Waits until a sweep says this.
fn wait_for(process: &mut Process, text: &str) {
    process.wait_for(text, |output| output.contains(text).then_some(()));
}

/// Fails the test unless a sweep ends with this code; gives what it said.
fn expect_end(process: &mut Process, code: i32) -> String {
    let status = process.wait();
    let output = process.output();
    assert_eq!(status.code(), Some(code), "{output}");
    output
}

/// Writers and a watch of all that happens to secrets.
struct Beside {
    writers: Writers,
    witness: Witness,
}

impl Beside {
    /// On the etcd at `urls`, which has the first `keys` secrets; some writes are under a lease of `leases`.
    async fn begin(urls: &[String], keys: usize, leases: &[i64], seed: u64) -> Self {
        let witness = Witness::begin(urls).await;
        let pause = Duration::from_millis(2);
        Self {
            writers: Writers::begin(urls, keys, leases, pause, seed),
            witness,
        }
    }

    /// Ends the writers and judges what was seen; keys under leases `ended` may be gone.
    async fn end(self, client: &Client, ended: &[i64]) -> Story {
        let log = self.writers.end().await;
        self.witness.end(client, &log, ended).await
    }
}

impl Story {
    /// Fails the test unless every secret is under the second key, and no sweep has written one twice.
    fn expect_rotated_once(&self) {
        for kv in self.end.values() {
            assert!(
                kv.value.starts_with(CBC_2.as_bytes()),
                "{}: {}",
                kv.key.escape_ascii(),
                opened(kv).escape_ascii()
            );
        }
        let mut keys: Vec<_> = self.rewrites.iter().map(|(_, key)| key).collect();
        keys.sort();
        assert!(keys.is_sorted_by(|a, b| a < b), "a key was rewritten twice");
    }
}
