//! `serve` with the keyring in etcd: how members begin, on whatever etcd holds, and what they do when the keyring there is
//! no longer the one that they have.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::Code;

use crate::common::client::Client;
use crate::common::etcd::{Etcd, Setup};
use crate::common::pb::etcdserverpb::PutRequest;
use crate::common::process::PATIENCE;
use crate::common::proxy::Starting;
use crate::common::relay::Relay;
use crate::common::rotation::{Shared, write_private};
use crate::common::sweep::{key, plaintext};
use crate::common::tools::Version;

const OTHER_ROOT: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=\n";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn fill_in_the_clear(direct: &Client, count: usize) {
    for index in 0..count {
        direct.put(key(index), plaintext(index, 100)).await;
    }
}

async fn is_all_sealed(direct: &Client) -> bool {
    let all = direct.everything().await;
    let mut secrets = all.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
    secrets.all(|kv| kv.value.starts_with(b"k8s:enc:aescbc:v1:aescbckey:"))
}

fn write(key: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn three_that_start_at_once_agree_and_encrypt_what_was_there() {
    const COUNT: usize = 300;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill_in_the_clear(&direct, COUNT).await;
    let shared = Shared::managed(&etcd.endpoint());
    let starting = ["a", "b", "c"].map(|name| shared.setup(name).spawn());
    let proxies = starting.map(Starting::ready);
    let made = proxies
        .iter()
        .filter(|proxy| proxy.output().contains("A NEW KEYRING was made"));
    assert_eq!(made.count(), 1);
    until("encryption", async || is_all_sealed(&direct).await).await;
    for (index, proxy) in proxies.iter().enumerate() {
        let client = proxy.client().await;
        client.put(format!("/registry/secrets/default/of-{index}"), "own").await;
        assert_eq!(client.value(&key(COUNT - 1)).await, plaintext(COUNT - 1, 100));
    }
    for proxy in &proxies {
        let client = proxy.client().await;
        for index in 0..proxies.len() {
            assert_eq!(
                client.value(&format!("/registry/secrets/default/of-{index}")).await,
                b"own"
            );
        }
    }
    // One with another root is refused, and says which one is wanted.
    let stranger = Shared::managed(&etcd.endpoint());
    write_private(&stranger.path(), OTHER_ROOT);
    let (status, output) = stranger.setup("d").refused();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("it is sealed under the root") && output.contains("--keyring-root-file"),
        "{output}"
    );
}

/// It has found no keyring, and finds sealed values later: another member has made one meanwhile, and serves.
#[tokio::test]
async fn one_that_is_slower_than_another_does_not_take_the_keyring_for_lost() {
    let etcd = Etcd::start(Version::share()).await;
    let shared = Shared::managed(&etcd.endpoint());
    let relay = Relay::start(&etcd.endpoint()).await;
    // It has looked for a keyring when it looks for values.
    relay.hold(b"/registry/secrets/");
    let slow = shared.setup_by_way_of(relay.url(), "slow").spawn();
    relay.holds().await;
    let fast = shared.member("fast");
    fast.client().await.put(key(1), "sealed").await;
    relay.release();
    let slow = tokio::task::spawn_blocking(|| slow.ready()).await.expect("it serves");
    assert_eq!(slow.client().await.value(&key(1)).await, b"sealed");
}

#[tokio::test]
async fn sealed_values_without_their_keyring_are_no_place_to_begin() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    direct.put(key(1), "k8s:enc:aescbc:v1:aescbckey:0123456789abcdef").await;
    let (status, output) = Shared::managed(&etcd.endpoint()).setup("a").refused();
    assert_eq!(status.code(), Some(1), "{output}");
    for part in [
        "there is no keyring in etcd",
        "s-000001",
        "keyring restore",
        "--state-prefix",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(direct.get("/etcd-encryption-proxy/keyring").await.is_none());
}

#[tokio::test]
async fn an_etcd_that_comes_later_is_waited_for() {
    let mut etcd = Etcd::prepare(Setup::new(Version::share()));
    let shared = Shared::managed(&etcd.endpoint());
    let mut starting = shared.setup("a").spawn();
    starting.process().wait_for("its wait", |output| {
        output.contains("waiting for the keyring").then_some(())
    });
    etcd.spawn();
    etcd.ready().await;
    let proxy = starting.ready();
    let client = proxy.client().await;
    client.put(key(1), "one").await;
    assert_eq!(client.value(&key(1)).await, b"one");
    assert!(is_all_sealed(&etcd.client().await).await);
}

/// What would be written with a keyring that only running members have would be lost with them.
#[tokio::test]
async fn after_etcd_went_back_nothing_is_written_with_a_keyring_that_is_not_there() {
    let mut etcd = Etcd::start(Version::share()).await;
    let shared = Shared::managed(&etcd.endpoint());
    let proxies = [shared.member("a"), shared.member("b")];
    let clients = [proxies[0].client().await, proxies[1].client().await];
    clients[0].put(key(1), "before").await;
    etcd.stop();
    etcd.back_up();
    etcd.spawn();
    etcd.ready().await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    let rotated = shared.keys();
    let backup = shared.in_strongbox(async |strongbox| strongbox.backup().await.expect("a backup"));
    etcd.stop();
    etcd.restore();
    etcd.spawn();
    etcd.ready().await;
    let direct = etcd.client().await;
    for (proxy, client) in proxies.iter().zip(&clients) {
        until("the refusal", async || {
            proxy.output().contains("writes of values under a rule are refused")
        })
        .await;
        let output = proxy.output();
        assert!(
            output.contains("this process has seen generation") && output.contains("keyring restore"),
            "{output}"
        );
        let refused = client.kv().put(write(&key(2))).await.expect_err("it is refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        // What needs no key goes on.
        client.put("/registry/configmaps/default/c", "open").await;
    }
    for kv in direct.everything().await {
        let is_new = kv
            .value
            .starts_with(format!("k8s:enc:aescbc:v1:{}:", rotated[0]).as_bytes());
        assert!(!is_new, "{}", kv.key.escape_ascii());
    }
    // With the keyring back, all is as it was.
    shared.in_strongbox(async move |strongbox| strongbox.restore(&backup, false).await.expect("it is restored"));
    for client in &clients {
        until("a write", async || client.kv().put(write(&key(2))).await.is_ok()).await;
    }
}
