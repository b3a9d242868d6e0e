//! etcd and the proxy going away and coming back: no acknowledged write is lost, no event is lost or seen twice, and no
//! client is told anything that makes it replay a write or spin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::fake_etcd::FakeEtcd;
use crate::common::pb::etcdserverpb::*;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::{RawClient, frame};
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const PREFIX: &str = "/registry/secrets/default/";

/// Writers that count up, and a watcher that resumes.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<u64>>,
    watcher: JoinHandle<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// The key whose event ends the watcher.
const LAST: &str = "/registry/secrets/default/zz-last";

impl Load {
    fn start(url: &str, tolerance: Tolerance) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = (0..4)
            .map(|writer| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                tokio::spawn(write_until(Client::lazy(url), writer, stop, acknowledged, tolerance))
            })
            .collect();
        Self {
            stop,
            acknowledged,
            writers,
            watcher: tokio::spawn(watch_to_the_end(Client::lazy(url), tolerance)),
        }
    }

    /// Waits until `more` writes have been acknowledged from now on.
    async fn progress(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        let start = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(start.elapsed() < PATIENCE, "no write succeeds any more");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the writers and checks what they and the watcher saw against each other and against etcd.
    async fn finish(self, client: &Client) {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for writer in self.writers {
            counts.push(writer.await.unwrap());
        }
        client.put(LAST, "").await;
        let seen = self.watcher.await.unwrap();
        for (writer, count) in counts.into_iter().enumerate() {
            let key = format!("{PREFIX}{writer}").into_bytes();
            assert_eq!(
                client.get(key.clone()).await.unwrap().value,
                count.to_string().into_bytes()
            );
            let mut values = seen
                .iter()
                .filter(|(other, _)| *other == key)
                .map(|(_, value)| number(value));
            let mut before = 0;
            for value in values.by_ref() {
                // A write of unknown outcome is written again, so a number may come twice; none is left out.
                assert!(
                    value == before || value == before + 1,
                    "writer {writer}: {value} after {before}"
                );
                before = value;
            }
            assert_eq!(before, count, "writer {writer}: the last event");
        }
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Puts 1, 2, 3 … under one key, each until it is acknowledged.
async fn write_until(
    client: Client,
    writer: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tolerance: Tolerance,
) -> u64 {
    let mut count = 0;
    let mut is_unknown = false;
    // One of unknown outcome is written until it is known.
    while is_unknown || !stop.load(Ordering::Relaxed) {
        let request = PutRequest {
            key: format!("{PREFIX}{writer}").into_bytes(),
            value: (count + 1).to_string().into_bytes(),
            ..PutRequest::default()
        };
        match client.kv().put(request).await {
            Ok(_) => {
                count += 1;
                is_unknown = false;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                is_unknown = true;
                tolerance.check(&status).await;
            }
        }
    }
    count
}

/// Watches from the first revision on, resuming behind the last event after each failure.
async fn watch_to_the_end(client: Client, tolerance: Tolerance) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut next_revision = 1;
    loop {
        let mut watch = match Watch::try_open(&client, all_under(PREFIX, next_revision)).await {
            Ok(watch) => watch,
            Err(status) => {
                tolerance.check(&status).await;
                continue;
            }
        };
        loop {
            match watch.try_next().await {
                Ok(Some(response)) => {
                    assert!(!response.canceled, "{response:?}");
                    for kv in response.events.into_iter().filter_map(|event| event.kv) {
                        assert!(kv.mod_revision >= next_revision, "an event came twice");
                        next_revision = kv.mod_revision + 1;
                        if kv.key == LAST.as_bytes() {
                            return seen;
                        }
                        seen.push((kv.key, kv.value));
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    tolerance.check(&status).await;
                    break;
                }
            }
        }
    }
}

/// What a client may see while something is away.
#[derive(Clone, Copy)]
enum Tolerance {
    /// UNAVAILABLE, for the proxy is there to say so; and what etcd itself says while it stops.
    Unavailable,
    /// Whatever the client's own library makes of a connection that is gone.
    Anything,
}

impl Tolerance {
    /// Fails the test, or pauses before the next attempt.
    async fn check(self, status: &Status) {
        let is_of_etcd = status.code() == Code::Unknown && status.message() == "raft: stopped";
        if matches!(self, Self::Unavailable) && !is_of_etcd {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_stops_and_starts_under_load() {
    for version in Version::two() {
        let mut etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let load = Load::start(proxy.url(), Tolerance::Unavailable);
        load.progress(100).await;
        for _ in 0..3 {
            etcd.kill_or_stop();
            etcd.spawn();
            load.progress(100).await;
        }
        load.finish(&proxy.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_its_leader_under_load() {
    for version in Version::two() {
        let mut cluster = Cluster::start(version).await;
        let proxy = Setup::new(cluster.endpoints(), config::secrets()).start();
        let load = Load::start(proxy.url(), Tolerance::Unavailable);
        load.progress(100).await;
        for _ in 0..2 {
            let leader = cluster.leader().await;
            cluster.members[leader].kill();
            load.progress(100).await;
            cluster.members[leader].spawn();
            cluster.members[leader].ready().await;
            load.progress(100).await;
        }
        load.finish(&proxy.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_stops_and_starts_under_load() {
    let etcd = Etcd::start(Version::share()).await;
    let [port] = free_ports();
    let url = format!("http://127.0.0.1:{port}");
    let start = || Setup::new(etcd.endpoint(), config::secrets()).listen(&[&url]).start();
    let mut proxy = start();
    let load = Load::start(&url, Tolerance::Anything);
    load.progress(100).await;
    for signal in ["TERM", "KILL", "TERM"] {
        proxy.process().signal(signal);
        let status = proxy.process().wait();
        assert_eq!(status.success(), signal == "TERM", "{status}");
        proxy = start();
        load.progress(100).await;
    }
    load.finish(&Client::connect(&url).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_will_do() {
    let mut cluster = Cluster::start(Version::share()).await;
    let proxy = Setup::new(cluster.endpoints(), config::secrets()).start();
    let client = proxy.client().await;
    client.put(LAST, "1").await;
    for index in 0..3 {
        cluster.members[index].kill();
        let start = Instant::now();
        let request = || RangeRequest {
            key: LAST.into(),
            ..RangeRequest::default()
        };
        while let Err(status) = client.kv().range(request()).await {
            Tolerance::Unavailable.check(&status).await;
            assert!(start.elapsed() < PATIENCE, "{status:?}");
        }
        cluster.members[index].spawn();
        for member in &mut cluster.members {
            member.ready().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_starts_before_its_etcd() {
    let mut etcd = Etcd::prepare(crate::common::etcd::Setup::new(Version::share()));
    let proxy = Setup::new(etcd.endpoint(), config::secrets()).start();
    let client = proxy.client().await;
    let early = tokio::spawn(async move {
        let request = || PutRequest {
            key: LAST.into(),
            value: b"early".to_vec(),
            ..PutRequest::default()
        };
        while let Err(status) = client.kv().put(request()).await {
            Tolerance::Unavailable.check(&status).await;
        }
    });
    etcd.spawn();
    etcd.ready().await;
    early.await.unwrap();
    assert_eq!(proxy.client().await.value(LAST).await, b"early");
}

/// A proxy with `count` ranges under way, which the fake holds.
async fn with_calls_under_way(count: usize, flag: &str) -> (FakeEtcd, Proxy, RawClient, Vec<Held>) {
    let mut fake = FakeEtcd::start().await;
    let proxy = Setup::new(fake.url(), config::secrets()).flag(flag).start();
    let client = RawClient::connect(proxy.url()).await;
    let request = RangeRequest {
        key: b"/registry/configmaps/a".to_vec(),
        ..RangeRequest::default()
    };
    let mut held = Vec::new();
    for _ in 0..count {
        let mut call = client.open("/etcdserverpb.KV/Range", &[]).await;
        call.data(frame(&request.encode_to_vec()), true);
        held.push((call, fake.next().await));
    }
    (fake, proxy, client, held)
}

/// The two ends of a call under way.
type Held = (crate::common::raw::RawCall, crate::common::fake_etcd::Call);

/// Waits until the proxy takes no new connections, by which a drain shows.
async fn drains(proxy: &Proxy) {
    let start = Instant::now();
    while RawClient::try_connect(proxy.url()).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "the proxy does not drain");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_calls_end() {
    let (mut fake, mut proxy, client, held) = with_calls_under_way(16, "--shutdown-timeout=1h").await;
    let mut watch = client.open("/etcdserverpb.Watch/Watch", &[]).await;
    let create = watch_request::RequestUnion::CreateRequest(all_under("/registry/configmaps/", 0));
    watch.data(
        frame(
            &WatchRequest {
                request_union: Some(create),
            }
            .encode_to_vec(),
        ),
        false,
    );
    let _watched = fake.next().await;
    proxy.process().signal("TERM");
    drains(&proxy).await;
    // A watch has no end of its own: the client is sent elsewhere.
    assert_eq!(watch.end().await.code(), Some(14));
    for (call, arrived) in held {
        arrived.succeed(b"");
        assert_eq!(call.end().await.code(), Some(0));
    }
    assert!(proxy.process().wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let (_fake, mut proxy, _client, held) = with_calls_under_way(4, "--shutdown-timeout=1h").await;
    proxy.process().signal("TERM");
    drains(&proxy).await;
    assert!(proxy.process().is_running());
    proxy.process().signal("TERM");
    proxy.process().wait();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_an_end() {
    let (_fake, mut proxy, _client, held) = with_calls_under_way(4, "--shutdown-timeout=1s").await;
    proxy.process().signal("TERM");
    proxy.process().wait();
    for (call, _) in held {
        // Not CANCELLED or DEADLINE_EXCEEDED, on which a client would replay what it wrote.
        let ended = call.end().await;
        assert!(matches!(ended.code(), None | Some(14)), "{ended:?}");
    }
}
