//! What is relayed of etcd's plain HTTP endpoints: however many ask, and however slowly they read, a few connections to etcd.

use std::fs;
use std::time::Duration;

use hyper::Request;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::{Ended, RawClient};
use crate::common::tools::Version;

fn get(path: &str) -> Request<()> {
    let request = Request::get(format!("http://etcd.test{path}"));
    request.body(()).unwrap()
}

fn descriptors(proxy: &mut Proxy) -> usize {
    let folder = format!("/proc/{}/fd", proxy.process().id());
    fs::read_dir(folder).expect("a running proxy").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_at_once_take_a_few_connections() {
    let etcd = Etcd::start(Version::V3_5).await;
    let mut proxy = Proxy::before(&etcd, config::secrets());
    // All that a proxy opens by itself is open.
    proxy.client().await.put("/registry/secrets/a", "v").await;
    let before = descriptors(&mut proxy);
    let client = RawClient::connect(proxy.url()).await;
    let mut calls = JoinSet::new();
    for _ in 0..2000 {
        let call = client.send(get("/metrics"), true).await;
        calls.spawn(call.end());
    }
    let (mut answered, mut refused, mut most) = (0, 0, 0);
    while let Some(ended) = calls.join_next().await {
        most = most.max(descriptors(&mut proxy));
        match ended.unwrap() {
            Ended::Http(200) => answered += 1,
            Ended::Http(503) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answered + refused, 2000);
    assert!(answered > 0);
    assert!(most <= before + 12, "{before} descriptors before, {most} meanwhile");
    let lines = proxy.output().matches("HTTP request").count();
    assert!(lines < 10, "{lines} lines of log");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_up_nobody_for_long() {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Setup::new(etcd.endpoint(), config::secrets())
        .flag("--threads=1")
        .start();
    let lazy = RawClient::connect_with_window(proxy.url(), 1).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(lazy.send(get("/metrics"), true).await);
    }
    // Health checks have turns of their own.
    for path in ["/health", "/version"] {
        let answer = http::get(proxy.url(), path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
    }
    // And who would read gets there once the others' time is up.
    let read = async {
        while !http::get(proxy.url(), "/metrics")
            .await
            .is_ok_and(|answer| answer.status == 200)
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, read).await.expect("an answer");
}

#[tokio::test]
async fn a_connection_that_etcd_has_closed_is_no_error() {
    let mut etcd = Etcd::start(Version::V3_5).await;
    let proxy = Setup::new(etcd.endpoint(), config::secrets())
        .flag("--threads=1")
        .start();
    let get = async |path| http::get(proxy.url(), path).await.expect("an answer");
    for _ in 0..3 {
        assert_eq!(get("/version").await.status, 200);
    }
    etcd.kill();
    let down = get("/health").await;
    assert_eq!(down.status, 503);
    assert!(down.body.contains("no etcd member reachable"), "{}", down.body);
    etcd.spawn();
    etcd.ready().await;
    for path in ["/version", "/metrics", "/health"] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.is_empty(), "{path}");
    }
}
