//! What becomes of calls when a member, or another client of the same member, misbehaves.

use std::time::Duration;

use prost::Message;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::pb::etcdserverpb::*;
use crate::common::proxy::{self, Proxy};
use crate::common::raw::{RawCall, RawClient, frame};
use crate::common::tools::Version;
use crate::common::watch::Watch;

/// Cancelled calls are answered all the same, when the member had not heard yet. Thousands of such answers are no reason
/// to give up the connection, which others share.
#[tokio::test]
async fn clients_that_cancel_leave_the_others_alone() {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = proxy::Setup::new(etcd.endpoint(), config::secrets())
        .flag("--threads=1")
        .start();
    let client = proxy.client().await;
    let create = WatchCreateRequest {
        key: b"/registry/configmaps/a".to_vec(),
        ..WatchCreateRequest::default()
    };
    let mut watch = Watch::open(&client, create).await;
    assert!(watch.next().await.created);
    let hasty = RawClient::connect(proxy.url()).await;
    let request = frame(&StatusRequest {}.encode_to_vec());
    for _ in 0..100 {
        let mut calls = Vec::new();
        for _ in 0..100 {
            let mut call = hasty.open("/etcdserverpb.Maintenance/Status", &[]).await;
            call.data(request.clone(), true);
            calls.push(call);
        }
        // About as long as the calls take: some are answered, some are not, and some answers are on their way.
        sleep(Duration::from_millis(3)).await;
        calls.into_iter().for_each(RawCall::reset);
        // The proxy has taken note of them all, and so never sees more at once than it takes for an attack.
        let ended = hasty.call("/etcdserverpb.Maintenance/Status", request.clone()).await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
    client.put("/registry/configmaps/a", "v").await;
    assert_eq!(watch.next().await.events.len(), 1);
    assert!(!proxy.output().contains("left an etcd member"), "{}", proxy.output());
}

/// A peer that accepts connections and says nothing is no member: neither ready nor sent any calls.
#[tokio::test]
async fn a_member_that_never_answers_is_passed_over() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            accepted.push(stream);
        }
    });
    let alone = proxy::Setup::new(&silent_url, config::secrets()).start();
    let etcd = Etcd::start(Version::V3_5).await;
    let with_another = proxy::Setup::new(format!("{silent_url},{}", etcd.endpoint()), config::secrets()).start();
    let client = with_another.client().await;
    client.put("/registry/secrets/default/a", "v").await;
    assert_eq!(client.value("/registry/secrets/default/a").await, b"v");

    let ready = http::get(&metrics_url(&alone), "/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
}

fn metrics_url(proxy: &Proxy) -> String {
    let output = proxy.output();
    let line = output
        .lines()
        .find(|line| line.contains("serving metrics"))
        .expect("a metrics listener");
    let url = line.split("url=").nth(1).expect("its URL");
    url.trim_matches('"').to_owned()
}
