//! A proxy that can reach no member: where the cluster has others it gets out of its clients' way and comes back; where it has
//! none, calls wait.

use std::time::Duration;

use prost::Message;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::common::cluster::Cluster;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::link::Link;
use crate::common::pb::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, watch_request};
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::{Ended, RawCall, RawClient, frame};
use crate::common::tools::Version;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const KEY: &str = "/registry/secrets/default/a";

fn get() -> Vec<u8> {
    let request = RangeRequest {
        key: KEY.into(),
        ..RangeRequest::default()
    };
    frame(&request.encode_to_vec())
}

fn put() -> Vec<u8> {
    let request = PutRequest {
        key: KEY.into(),
        value: b"a secret".to_vec(),
        ..PutRequest::default()
    };
    frame(&request.encode_to_vec())
}

async fn watch(client: &RawClient) -> RawCall {
    let create = WatchCreateRequest {
        key: KEY.into(),
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    };
    let mut call = client.open("/etcdserverpb.Watch/Watch", &[]).await;
    call.data(frame(&request.encode_to_vec()), false);
    call
}

/// Whether somebody listens there.
async fn is_listening(proxy: &Proxy) -> bool {
    let address = proxy.url().strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.is_ok()
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// Proxies that know each its own member, with the flags of a member or without.
fn proxies(cluster: &Cluster, flags: &[&str]) -> Vec<Proxy> {
    let one = |(index, member): (usize, &Etcd)| {
        let setup = Setup::new(member.endpoint(), config::secrets()).member(&format!("p{index}"));
        let mut proxy = flags.iter().fold(setup, |setup, flag| setup.flag(*flag)).start();
        proxy.process().wait_for("it knows the cluster", |output| {
            output.contains("members=3").then_some(())
        });
        proxy
    };
    cluster.members.iter().enumerate().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_member_is_gone_sends_its_clients_elsewhere_and_comes_back() {
    let mut cluster = Cluster::start(Version::share()).await;
    let proxies = proxies(&cluster, &[]);
    let away = &proxies[0];
    let client = RawClient::connect(away.url()).await;
    assert_eq!(client.call(PUT, put()).await.code(), Some(0));
    let watching = watch(&client).await;
    until("it watches", async || {
        away.metrics().await.contains("etcd_encryption_proxy_open_watches 1\n")
    })
    .await;
    let mut begun = client.open(PUT, &[]).await;
    cluster.members[0].kill_or_stop();

    // What etcd would say of itself; and nothing is begun any more.
    let ended = watching.end().await;
    assert_eq!(ended.code(), Some(14), "{ended:?}");
    until("nobody listens", async || !is_listening(away).await).await;
    // What has not been sent to etcd is known not to have been: gRPC's clients send it again, elsewhere.
    begun.data(put(), true);
    let ended = begun.end().await;
    assert!(
        matches!(&ended, Ended::Reset(why) if why.contains("refused stream")),
        "{ended:?}"
    );
    let metrics = away.metrics().await;
    assert!(metrics.contains("etcd_encryption_proxy_withdrawn 1\n"), "{metrics}");
    for other in &proxies[1..] {
        assert_eq!(other.client().await.value(KEY).await, b"a secret");
    }

    cluster.members[0].spawn();
    until("it listens again", async || is_listening(away).await).await;
    assert_eq!(away.client().await.value(KEY).await, b"a secret");
    let metrics = away.metrics().await;
    assert!(metrics.contains("etcd_encryption_proxy_withdrawn 0\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_members_are_the_whole_cluster_calls_wait_as_long_as_their_callers() {
    let mut etcd = Etcd::start(Version::share()).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = RawClient::connect(proxy.url()).await;
    assert_eq!(client.call(PUT, put()).await.code(), Some(0));
    etcd.kill_or_stop();

    // Nothing that concerns one member waits for it, or for another.
    until("it is gone", async || {
        client.call(STATUS, frame(b"")).await.code() == Some(14)
    })
    .await;
    let mut impatient = client.open(RANGE, &[("grpc-timeout", "100m")]).await;
    impatient.data(get(), true);
    let ended = impatient.end().await;
    assert_eq!(ended.code(), Some(14), "{ended:?}");
    let mut patient = client.open(RANGE, &[]).await;
    patient.data(get(), true);
    assert!(is_listening(&proxy).await);
    etcd.spawn();
    let ended = patient.end().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_told_to_hold_calls_does() {
    let mut cluster = Cluster::start(Version::share()).await;
    let proxies = proxies(&cluster, &["--on-unreachable=hold"]);
    let client = RawClient::connect(proxies[0].url()).await;
    assert_eq!(client.call(PUT, put()).await.code(), Some(0));
    cluster.members[0].kill_or_stop();
    until("it is gone", async || {
        client.call(STATUS, frame(b"")).await.code() == Some(14)
    })
    .await;
    let mut held = client.open(RANGE, &[]).await;
    held.data(get(), true);
    // Longer than it would take to withdraw.
    sleep(Duration::from_millis(600)).await;
    assert!(is_listening(&proxies[0]).await);
    cluster.members[0].spawn();
    let ended = held.end().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

/// An operator may know of other ways when the store tells of none.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_told_to_withdraw_does() {
    let mut etcd = Etcd::start(Version::share()).await;
    let proxy = Setup::new(etcd.endpoint(), config::secrets())
        .flag("--on-unreachable=withdraw")
        .start();
    assert!(is_listening(&proxy).await);
    etcd.kill_or_stop();
    until("nobody listens", async || !is_listening(&proxy).await).await;
    etcd.spawn();
    until("it listens again", async || is_listening(&proxy).await).await;
}

/// A connection that is lost while its member is well is replaced at once, however often: the wait does not grow, as it does for a
/// member that cannot be reached. Forty waits of three seconds would be longer than any patience.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_lost_again_and_again_are_replaced_each_time() {
    let etcd = Etcd::start(Version::share()).await;
    let link = Link::start(&etcd.endpoint()).await;
    let proxy = Setup::new(link.url(), config::secrets()).start();
    let client = RawClient::connect(proxy.url()).await;
    assert_eq!(client.call(PUT, put()).await.code(), Some(0));
    let again_and_again = async {
        for _ in 0..40 {
            link.cut();
            link.mend();
            // What was under way has ended; what comes next is served.
            while client.call(RANGE, get()).await.code() != Some(0) {}
        }
    };
    timeout(PATIENCE, again_and_again).await.expect("in time");
    // Somebody who looks at the log wants to know that, and not forty times.
    let lines = proxy.output().matches("left an etcd member").count();
    assert!((1..40).contains(&lines), "{lines} lines");
}
