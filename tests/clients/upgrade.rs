//! Three proxies that are replaced one after another, under load: no call of a client that names all three fails.

use tokio::time::{Duration, Instant, sleep};

use crate::common::cluster::Cluster;
use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::rotation::{Home, Shared};
use crate::common::tools::Version;
use crate::gocli::{Gocli, Load};

/// Waits until a client is connected to `proxy`: gRPC's clients come back to an address that was away after a second or two, and
/// before that the next one must not go. Operators have the same from readiness and a pause between two.
async fn has_a_client(proxy: &Proxy) {
    let start = Instant::now();
    loop {
        let metrics = proxy.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("etcd_encryption_proxy_client_connections "));
        if line.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count >= 1.0)) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no client comes back to {}", proxy.url());
        sleep(Duration::from_millis(50)).await;
    }
}

async fn upgrade(home: Home) {
    let cluster = Cluster::with(Version::V3_5, &["--heartbeat-interval=100", "--election-timeout=1000"]).await;
    let shared = Shared::at(home, &cluster.endpoints(), &config::secrets());
    let urls = free_ports::<3>().map(|port| format!("http://127.0.0.1:{port}"));
    let start = |index: usize, member: &Etcd| {
        let setup = shared.setup_by_way_of(&member.endpoint(), &format!("p{index}"));
        setup.listen(&[&urls[index]]).start()
    };
    let members = cluster.members.iter().enumerate();
    let mut proxies: Vec<Proxy> = members.map(|(index, member)| start(index, member)).collect();
    let endpoints = [&*urls[0], &*urls[1], &*urls[2]];
    let mut load = Gocli::load(&[], &endpoints, "/registry/secrets/default/").await;
    load.begin().await;
    for (index, member) in cluster.members.iter().enumerate() {
        for proxy in &proxies {
            has_a_client(proxy).await;
        }
        proxies[index].process().signal("TERM");
        let status = proxies[index].process().wait();
        assert!(status.success(), "{status}");
        proxies[index] = start(index, member);
    }
    has_a_client(&proxies[2]).await;
    let load: Load = load.finish().await;
    eprintln!("three proxies replaced, {home:?}: {load:?}");
    assert_eq!((load.failed(), load.wrong), (0, 0), "{load:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn three_proxies_are_replaced_one_after_another() {
    upgrade(Home::File).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn three_proxies_are_replaced_one_after_another_in_managed_mode() {
    upgrade(Home::Etcd).await;
}
