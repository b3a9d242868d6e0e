//! One name, two keys: values name the key that sealed them and nothing else, so a name must not change its bytes.

use std::time::Instant;

use tokio::time::{Duration, sleep};
use tonic::Code;

use crate::common::config::{KEY, KEY_2};
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{PutRequest, RangeRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup, replace};
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, document};
use crate::common::tools::Version;
use crate::common::{http, managed};

const OLD: &str = "{aescbc: {keys: [{name: key1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}";
const NEW: &str = "{aescbc: {keys: [{name: key1, secret: emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=}]}}";

const OLD_BOX: &str = "{secretbox: {keys: [{name: key1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}";
const NEW_BOX: &str = "{secretbox: {keys: [{name: key1, secret: emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=}]}}";

const VALUES: usize = 50;

fn key(index: usize) -> String {
    format!("/registry/secrets/default/s-{index:03}")
}

fn says_nothing_of_keys(text: &str) {
    for secret in [KEY, KEY_2] {
        assert!(!text.contains(&secret[..12]), "{text}");
    }
}

async fn until_metric(proxy: &Proxy, line: &str) {
    let start = Instant::now();
    while !proxy.metrics().await.lines().any(|shown| shown == line) {
        assert!(start.elapsed() < PATIENCE, "no {line}\n{}", proxy.output());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_that_gives_a_name_other_bytes_is_refused_and_one_that_lists_both_is_not() {
    let etcd = Etcd::start(Version::share()).await;
    let mut proxy = Setup::new(etcd.endpoint(), document(&[OLD_BOX, IDENTITY])).start();
    let client = proxy.client().await;
    for index in 0..VALUES {
        client.put(key(index), format!("old {index}")).await;
    }
    proxy.replace_config(&document(&[NEW_BOX, IDENTITY]));
    until_metric(&proxy, "etcd_encryption_proxy_config_reload_failing 1").await;
    let readyz = http::get(&proxy.metrics_url(), "/readyz?verbose")
        .await
        .expect("an answer")
        .body;
    for text in [&readyz, &proxy.output()] {
        for part in [
            "key1",
            "has other bytes under the same name",
            "another name",
            "a second provider",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        says_nothing_of_keys(text);
    }
    // The old key writes on: nothing is lost for whoever has the file of before.
    for index in VALUES..2 * VALUES {
        client.put(key(index), format!("old {index}")).await;
    }
    let before = Setup::new(etcd.endpoint(), document(&[OLD_BOX])).start();
    let before = before.client().await;
    for index in 0..2 * VALUES {
        assert_eq!(before.value(&key(index)).await, format!("old {index}").into_bytes());
    }

    proxy.replace_config(&document(&[NEW_BOX, OLD_BOX, IDENTITY]));
    proxy.process().wait_for("a reload", |output| {
        output
            .contains("a new encryption provider configuration is in use")
            .then_some(())
    });
    client.put(key(0), "new 0").await;
    assert_eq!(client.value(&key(0)).await, b"new 0");
    for index in 1..2 * VALUES {
        assert_eq!(client.value(&key(index)).await, format!("old {index}").into_bytes());
    }
}

/// aescbc tells its own values by their padding alone, which is right by chance once in 256.
#[tokio::test]
async fn two_aescbc_keys_never_come_to_share_a_name() {
    let etcd = Etcd::start(Version::share()).await;
    let mut proxy = Setup::new(etcd.endpoint(), document(&[OLD, IDENTITY])).start();
    proxy.replace_config(&document(&[NEW, OLD, IDENTITY]));
    until_metric(&proxy, "etcd_encryption_proxy_config_reload_failing 1").await;
    proxy.process().wait_for("the reason", |output| {
        output.contains("aescbc has no authentication").then_some(())
    });
    says_nothing_of_keys(&proxy.output());
}

#[tokio::test]
async fn a_keyring_in_etcd_that_gives_a_name_other_bytes_is_refused_too() {
    let etcd = Etcd::start(Version::share()).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &document(&[OLD, IDENTITY]));
    let proxy = shared.setup("a").start();
    let client = proxy.client().await;
    client.put(key(0), "old").await;
    let (endpoints, root) = (etcd.endpoint(), shared.path());
    let replaced = std::thread::spawn(move || {
        managed::run(async || {
            let strongbox = managed::strongbox(&endpoints, Some(root), None);
            let current = strongbox.read().await.expect("it opens").expect("it is there");
            let document = document(&[NEW, IDENTITY]);
            strongbox
                .replace(&current, document.as_bytes(), true)
                .await
                .expect("it is replaced");
        });
    });
    replaced.join().expect("it ends well");
    until_metric(&proxy, "etcd_encryption_proxy_config_reload_failing 1").await;
    assert!(
        proxy.output().contains("has other bytes under the same name"),
        "{}",
        proxy.output()
    );
    says_nothing_of_keys(&proxy.output());
    assert_eq!(client.value(&key(0)).await, b"old");
}

/// Copies of one file, of which one has another key, are loaded at the start: there is nothing to compare with but each other.
#[tokio::test]
async fn members_that_have_other_bytes_under_one_name_are_named() {
    let etcd = Etcd::start(Version::share()).await;
    let (one, other) = (
        Shared::new(&etcd, &document(&[OLD, IDENTITY])),
        Shared::new(&etcd, &document(&[NEW, IDENTITY])),
    );
    let (_a, _b) = (one.member("a"), other.member("b"));
    let status = one.status().await;
    assert_eq!(status["hashmatch"], serde_json::Value::Null, "{status:#}");
    let blocked = status["blocked"][0].as_str().expect("a reason");
    for part in ["b (http", "its aescbc key \"key1\" has OTHER BYTES than that of a"] {
        assert!(blocked.contains(part), "no {part} in {blocked}");
    }
    let outcome = one.run(&["rotate-keys", "--timeout=1s"]).await;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert!(outcome.stderr.contains("OTHER BYTES"), "{outcome:#?}");
    says_nothing_of_keys(&format!("{status} {outcome:?}"));
    // Nor does etcd hold a byte of them.
    for kv in etcd.client().await.everything().await {
        says_nothing_of_keys(&String::from_utf8_lossy(&kv.value));
    }
}

/// The newcomer writes nothing, however often either is started anew, until its file is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_with_other_bytes_under_a_name_writes_nothing_until_its_file_is_right() {
    const WRITES: &str = "etcd_encryption_proxy_may_write 1";
    const REFUSED: &str = "etcd_encryption_proxy_may_write 0";
    let etcd = Etcd::start(Version::share()).await;
    let (one, other) = (
        Shared::new(&etcd, &document(&[OLD_BOX, IDENTITY])),
        Shared::new(&etcd, &document(&[NEW_BOX, IDENTITY])),
    );
    let mut right = one.member("a");
    right.client().await.put(key(0), "by a").await;
    let mut wrong = other.member("b");
    until_metric(&wrong, REFUSED).await;
    expect_refused(&wrong).await;
    let readyz = http::get(&wrong.metrics_url(), "/readyz/writes")
        .await
        .expect("an answer")
        .body;
    for part in [
        "REFUSED since",
        "secretbox key \"key1\" has OTHER BYTES",
        "the member a (http",
        "stop a (http",
    ] {
        assert!(readyz.contains(part), "no {part:?} in {readyz}");
    }
    says_nothing_of_keys(&readyz);
    // Reads go on, but of what the other wrote, and so do writes without a rule.
    let client = wrong.client().await;
    etcd.client().await.put(key(9), "in the clear").await;
    assert_eq!(client.value(&key(9)).await, b"in the clear");
    let sealed = client.kv().range(range(&key(0))).await.expect_err("it has no such key");
    assert_eq!(sealed.code(), Code::Unavailable, "{sealed:?}");
    client.put("/registry/configmaps/default/open", "open").await;
    assert_eq!(client.value("/registry/configmaps/default/open").await, b"open");

    // Whoever was there stays the one that writes, also where it comes back.
    wrong.process().kill();
    wrong = other.member("b");
    until_metric(&wrong, REFUSED).await;
    right.process().signal("TERM");
    assert!(right.process().wait().success(), "{}", right.output());
    expect_refused(&wrong).await;
    right = one.member("a");
    until_metric(&right, WRITES).await;
    right.client().await.put(key(1), "by a again").await;
    expect_refused(&wrong).await;

    // A reload that leaves it both keys, the right one first, is taken.
    replace(&other.path(), document(&[OLD_BOX, NEW_BOX, IDENTITY]));
    until_metric(&wrong, WRITES).await;
    wrong.client().await.put(key(2), "by b").await;
    // So is the right file at the start.
    wrong.process().kill();
    replace(&other.path(), document(&[OLD_BOX, IDENTITY]));
    wrong = other.member("b");
    until_metric(&wrong, WRITES).await;
    for proxy in [&right, &wrong] {
        let client = proxy.client().await;
        for (index, value) in ["by a", "by a again", "by b"].into_iter().enumerate() {
            assert_eq!(client.value(&key(index)).await, value.as_bytes());
        }
    }
}

/// The other way out: the member that was there goes for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_with_other_bytes_writes_once_the_other_has_been_gone_for_a_minute() {
    let etcd = Etcd::start(Version::V3_4).await;
    let (one, other) = (
        Shared::new(&etcd, &document(&[OLD, IDENTITY])),
        Shared::new(&etcd, &document(&[NEW, IDENTITY])),
    );
    let mut first = one.member("a");
    let second = other.member("b");
    expect_refused(&second).await;
    first.process().signal("TERM");
    assert!(first.process().wait().success(), "{}", first.output());
    let (gone, client) = (Instant::now(), second.client().await);
    while client.kv().put(put()).await.is_err() {
        assert!(gone.elapsed() < 3 * PATIENCE, "it does not write:\n{}", second.output());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(gone.elapsed() > Duration::from_secs(50), "{:?}", gone.elapsed());
}

fn put() -> PutRequest {
    PutRequest {
        key: b"/registry/secrets/default/of-b".to_vec(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

async fn expect_refused(proxy: &Proxy) {
    let refused = proxy.client().await.kv().put(put()).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
}
