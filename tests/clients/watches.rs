//! Very many watches of etcd's own library for Go: all get every event, thousands may be cancelled at once, and none is let go.

use tokio::time::{Duration, Instant, sleep};

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;
use crate::gocli::{Gocli, Watches};

const KEY: &str = "/registry/secrets/default/a";
const CONNECTIONS: u64 = 64;
const PUTS: u64 = 3;

/// Looks until each watch that is open has seen `events` in all, and says what was seen.
async fn until(client: &mut Gocli, open: u64, events: u64) -> Watches {
    let start = Instant::now();
    loop {
        let seen = client.look().await;
        assert!(seen.errors == 0 && seen.texts.is_empty(), "{seen:?}");
        if (seen.open, seen.events) == (open, events) {
            return seen;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{seen:?}, not {open} and {events}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

async fn hold(watches: u64, cancelled: u64, flags: &[&str]) {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let before = proxy.resident();
    let (count, connections) = (format!("-watches={watches}"), format!("-clients={CONNECTIONS}"));
    let key = format!("-key={KEY}");
    let flags: Vec<_> = [&*count, &*connections, &*key]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
    let mut client = Gocli::watch(&[proxy.url()], &flags).await;
    let standing = proxy.resident();

    let writer = proxy.client().await;
    for _ in 0..PUTS {
        writer.put(KEY, b"a secret".to_vec()).await;
    }
    until(&mut client, watches, PUTS * watches).await;
    client.say(&format!("cancel {cancelled}")).await;
    until(&mut client, watches - cancelled, PUTS * watches).await;
    writer.put(KEY, b"another".to_vec()).await;
    until(&mut client, watches - cancelled, PUTS * watches + (watches - cancelled)).await;

    let metrics = proxy.metrics().await;
    let let_go = metrics
        .lines()
        .filter(|line| line.starts_with("etcd_encryption_proxy_client_connections_let_go_total"));
    let let_go: Vec<_> = let_go.filter(|line| !line.ends_with(" 0")).collect();
    assert!(let_go.is_empty(), "{let_go:?}");
    let mib = |bytes: u64| bytes / (1024 * 1024);
    eprintln!(
        "{watches} watches, {flags:?}: {} MiB before, {} MiB with them, {} MiB at most",
        mib(before),
        mib(standing),
        mib(proxy.peak())
    );
    let ended: Watches = client.finish().await;
    assert_eq!(
        (ended.watches, ended.open, ended.errors),
        (watches, watches - cancelled, 0),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn twenty_thousand_watches_share_streams() {
    hold(20_000, 4_000, &[]).await;
}

/// A stream for each, as kube-apiserver has it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn five_thousand_watches_have_streams_of_their_own() {
    hold(5_000, 4_000, &["-own-streams"]).await;
}
