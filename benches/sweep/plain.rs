//! What etcd takes: the sweep's own writes, of the same size and over the same client, and nothing else. No key is read,
//! opened or sealed, and nothing is kept track of.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use etcd_encryption_proxy::etcd::{Client, Config, Guard, KeyValue, PageAsk, Pool, Reachability, Replaced};
use etcd_encryption_proxy::transport::{Dialer, Endpoint, Flusher};
use etcd_encryption_proxy::types::Epoch;
use futures_util::stream::{self, StreamExt as _};
use tokio::runtime::{Builder, LocalOptions};

/// Writes under way at once: the best of them is what etcd takes.
pub const CONCURRENCIES: [usize; 4] = [16, 64, 128, 256];

/// Puts every secret again as it is, if nobody else has: secrets a second, for each number of writes under way.
pub async fn rates(endpoint: &str, concurrencies: &[usize]) -> Vec<f64> {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let concurrencies = concurrencies.to_vec();
    let work = move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(measure(endpoint, &concurrencies))
    };
    // A thread of its own, as in the sweep.
    tokio::task::spawn_blocking(|| thread::spawn(work).join().expect("rates"))
        .await
        .expect("rates")
}

async fn measure(endpoint: Endpoint, concurrencies: &[usize]) -> Vec<f64> {
    let flusher = Flusher::default();
    tokio::task::spawn_local(flusher.clone().run());
    let dialer = Dialer::new(endpoint, None).expect("a dialer");
    let config = Config {
        members: [dialer].into(),
        first: 0,
        reachability: Arc::new(Reachability::default()),
        kind: Arc::default(),
    };
    let client = Client::new(Pool::spawn(config, 2 * 1024 * 1024, flusher));
    let mut secrets = read(&client).await;
    let mut rates = Vec::new();
    for &concurrency in concurrencies {
        let began = Instant::now();
        let writes = secrets.iter_mut().map(|kv| async {
            let fence = Guard::epoch(b"/etcd-encryption-proxy/epoch", &Epoch::FIRST);
            let answer = client
                .replace(&kv.key, kv.mod_revision, &kv.value, kv.lease, fence)
                .await;
            let Replaced::Done(revision) = answer.expect("an answer") else {
                panic!("somebody else writes");
            };
            kv.mod_revision = revision;
        });
        let mut writes = stream::iter(writes).buffer_unordered(concurrency);
        while writes.next().await.is_some() {}
        drop(writes);
        rates.push(secrets.len() as f64 / began.elapsed().as_secs_f64());
    }
    rates
}

async fn read(client: &Client) -> Vec<KeyValue> {
    let mut all: Vec<KeyValue> = Vec::new();
    loop {
        let start = all
            .last()
            .map_or(b"/registry/secrets/".to_vec(), |kv| [&kv.key, &b"\0"[..]].concat());
        let ask = PageAsk {
            start: &start,
            end: Some(b"/registry/secrets0"),
            revision: 0,
            limit: 500,
            enough: usize::MAX,
        };
        let page = client.page(ask).await.expect("a page");
        all.extend(page.kvs);
        if !page.more {
            return all;
        }
    }
}
