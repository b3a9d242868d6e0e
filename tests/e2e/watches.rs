//! A kube-apiserver that watches etcd for each of its own clients: thousands of watches on one connection, cancelled at once, and
//! all of them reopened when the proxy was away.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Duration, sleep, timeout};

use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::process::PATIENCE;
use crate::common::tools::Version;
use crate::common::{http, proxy};
use crate::kube::ApiServer;
use crate::rest::{Api, Events, SECRETS, name, secret, version};

const WATCHES: usize = 5000;

/// How many of them end at once.
const ENDED: usize = 4000;

/// How many are opened at a time: each is a connection to `kubectl proxy`.
const AT_ONCE: usize = 64;

/// Longer than the test may take, seconds: no watch ends by itself.
const SECONDS: u32 = 3000;

/// Opens all watches.
async fn open(api: &Api, from: u64) -> Vec<Events> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let watches = (0..WATCHES).map(|_| {
        let (api, turns) = (api.clone(), Arc::clone(&turns));
        tokio::spawn(async move {
            let _turn = turns.acquire().await.expect("a turn");
            api.watch(&from.to_string(), SECONDS).await
        })
    });
    let watches = join_all(watches).await.into_iter();
    watches.map(|watch| watch.expect("a watch")).collect()
}

/// Creates a Secret, which each of `watches` has to see.
async fn all_see(api: &Api, watches: &mut [Events], what: &str) {
    create(api, what).await;
    join_all(watches.iter_mut().map(|watch| sees(watch, what))).await;
}

async fn create(api: &Api, what: &str) {
    let (status, object) = api.send("POST", SECRETS, &secret(what, what).to_string()).await;
    assert_eq!(status, 201, "{object}");
}

/// Reads events until `what` was added.
async fn sees(watch: &mut Events, what: &str) {
    loop {
        let event = timeout(2 * PATIENCE, watch.next()).await.expect("an event in time");
        let event = event.expect("a watch that goes on");
        assert_ne!(event["type"], "ERROR", "{event}");
        if event["type"] == "ADDED" && name(&event["object"]) == what {
            return;
        }
    }
}

/// How many watches etcd has.
async fn watchers(etcd: &Etcd) -> usize {
    let metrics = http::get(&etcd.endpoint(), "/metrics").await.expect("metrics").body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
    line.expect("the number of watches").parse().expect("a number")
}

/// Waits until `holds` of the number of etcd's watches.
async fn until(etcd: &Etcd, what: &str, holds: impl Fn(usize) -> bool) {
    let begun = Instant::now();
    loop {
        let now = watchers(etcd).await;
        if holds(now) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: etcd has {now}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn nobody_was_let_go(proxy: &proxy::Proxy) {
    let metrics = proxy.metrics().await;
    let let_go = metrics.lines().filter(|line| {
        line.starts_with("etcd_encryption_proxy_client_connections_let_go_total") && !line.ends_with(" 0")
    });
    assert_eq!(let_go.count(), 0, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn a_kube_apiserver_has_thousands_of_watches() {
    let etcd = Etcd::start(Version::V3_5).await;
    let [port] = free_ports();
    let url = format!("http://127.0.0.1:{port}");
    let start = || {
        proxy::Setup::new(etcd.endpoint(), config::secrets())
            .listen(&[&url])
            .start()
    };
    let proxy = start();
    // Without its cache each watch of a client is one of etcd's.
    let server = ApiServer::start_with(&url, None, &["--watch-cache=false"]);
    let rest = server.rest();
    let api = rest.api();
    let before = (watchers(&etcd).await, proxy.resident());
    let from = version(&api.get(SECRETS).await);

    let mut watches = open(&api, from).await;
    until(&etcd, "all watches", |now| now >= before.0 + WATCHES).await;
    all_see(&api, &mut watches, "seen-by-all").await;
    drop(watches.split_off(WATCHES - ENDED));
    until(&etcd, "the others", |now| now < before.0 + WATCHES - ENDED + AT_ONCE).await;
    all_see(&api, &mut watches, "seen-by-the-others").await;
    nobody_was_let_go(&proxy).await;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    eprintln!(
        "{WATCHES} watches: {} MiB before, {} MiB at most",
        mib(before.1),
        mib(proxy.peak())
    );

    // Its worst moment: everything is opened anew at once.
    drop(proxy);
    let proxy = start();
    server.ready_again();
    all_see(&api, &mut watches, "seen-after-a-restart").await;
    nobody_was_let_go(&proxy).await;
}
