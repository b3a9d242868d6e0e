//! How fast beside a loop that only writes, and with how much memory.

use serde_json::{Value, json};

use crate::common::pb::etcdserverpb::DeleteRangeRequest;
use crate::common::sweep::sealed_with_k1;
use crate::plain::{self, CONCURRENCIES};
use crate::settings::Settings;
use crate::store::Store;
use crate::sweeping;

/// What the sweep is told, beside nothing.
const PACES: [(&str, &[&str]); 2] = [
    ("adaptive (the default)", &[]),
    ("--concurrency=256", &["--concurrency=256"]),
];
/// A tenth of the secrets, or fewer: what memory they take should be what all take.
const FEW: &str = "--prefix=/registry/secrets/default/s-00";
/// And values of nearly the size that etcd takes at most.
const LARGE: &str = "--prefix=/registry/secrets/large/";
const LARGE_KEYS: usize = 300;
const LARGE_BYTES: usize = 1024 * 1024;

pub async fn run(settings: &Settings, store: &mut Store) -> Value {
    let endpoint = store.etcd.endpoint();
    let all = plain::rates(&endpoint, &CONCURRENCIES).await;
    let (mut best, mut before) = (0, 0.0);
    for (&concurrency, &rate) in CONCURRENCIES.iter().zip(&all) {
        println!("- plain loop, {concurrency} writes under way: {rate:.0}/s");
        if rate > before {
            (best, before) = (concurrency, rate);
        }
    }
    println!(
        "\n| pace | plain loop, {best} under way, before and after | rewrite alone | with start and proof | peak memory |"
    );
    println!("|---|---|---|---|---|");
    let mut runs = Vec::new();
    for _ in 0..settings.rounds {
        for (name, flags) in PACES {
            let sweep = flags.iter().fold(store.sweep(), |sweep, flag| sweep.flag(flag));
            let swept = sweeping::run(store, sweep).await;
            swept.outcome.expect_clean();
            assert_eq!(swept.outcome.number("/counts/rewritten"), settings.keys as u64);
            store.tidy().await;
            let after = plain::rates(&endpoint, &[best]).await[0];
            store.tidy().await;
            let keys = settings.keys as f64;
            let (rewrite, whole) = (keys / swept.rewrite.as_secs_f64(), keys / swept.took.as_secs_f64());
            let part = |rate: f64| 200.0 * rate / (before + after);
            println!(
                "| {name} | {before:.0}/s, {after:.0}/s | {rewrite:.0}/s, {:.0} % | {whole:.0}/s, {:.0} % | {} |",
                part(rewrite),
                part(whole),
                mebibytes(swept.peak),
            );
            runs.push(
                json!({"pace": name, "plain": [before, after], "rewrite": rewrite, "whole": whole,
                             "peakBytes": swept.peak}),
            );
            before = after;
        }
    }
    let few = peak_of(store, FEW).await;
    for index in 0..LARGE_KEYS {
        let key = format!("/registry/secrets/large/s-{index:06}");
        let value = sealed_with_k1(&key, &vec![b'.'; LARGE_BYTES]);
        store.client.put(key, value).await;
    }
    let large = peak_of(store, LARGE).await;
    println!(
        "\nPeak memory with 10,000 of them alone: {}; with {LARGE_KEYS} of 1 MiB: {}.\n",
        mebibytes(few),
        mebibytes(large),
    );
    let request = DeleteRangeRequest {
        key: "/registry/secrets/large/".into(),
        range_end: "/registry/secrets/large0".into(),
        ..DeleteRangeRequest::default()
    };
    store.client.kv().delete_range(request).await.expect("a delete");
    store.tidy().await;
    json!({"plain": all, "concurrency": best, "runs": runs, "peakBytesFew": few, "peakBytesLarge": large})
}

/// The most memory that a sweep of those that `prefix` selects takes, there and back.
async fn peak_of(store: &mut Store, prefix: &str) -> u64 {
    let mut peak = 0;
    for _ in 0..2 {
        let sweep = store.sweep().flag(prefix);
        let swept = sweeping::run(store, sweep).await;
        swept.outcome.expect_clean();
        peak = peak.max(swept.peak);
    }
    peak
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}
