//! Two rotations in a row, each to another algorithm, beneath a kube-apiserver at work: no request fails, and an informer
//! sees nothing but what was written, and rewrites that modify nothing. Then kube-apiserver alone reads everything with the
//! file that is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::common::etcd::Etcd;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;
use crate::informer::{Told, content, follow, store};
use crate::kube::ApiServer;
use crate::rest::{Api, SECRETS, name, secret, version};
use crate::sweep::{content_of, update};

const SIZE: usize = 150;
/// So many writes beside the rotations at least.
const WRITES: usize = 50;
const PAUSE: Duration = Duration::from_millis(10);
/// Ends the informer.
const LAST: &str = "zz-last";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn two_rotations_beneath_kube_apiserver_and_the_file_that_is_left_is_enough() {
    two_rotations_beneath_kube_apiserver(Home::File).await;
}

/// Nothing but the keyring's document is needed to go back to kube-apiserver alone.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn two_rotations_of_the_keyring_in_etcd_beneath_kube_apiserver_and_what_it_holds_is_enough() {
    two_rotations_beneath_kube_apiserver(Home::Etcd).await;
}

async fn two_rotations_beneath_kube_apiserver(home: Home) {
    let etcd = Etcd::start(Version::V3_5).await;
    let shared = Shared::at(home, &etcd.endpoint(), &document(&[K1, IDENTITY]));
    let mut proxy = shared.member("one");
    let server = ApiServer::start(proxy.url(), None);
    let rest = server.rest();
    let api = rest.api();
    for index in 0..SIZE {
        create(&api, &steady(index)).await;
    }
    let list = api.get(SECRETS).await;
    let informer = tokio::spawn(follow(api.clone(), list, LAST, 600));
    let is_over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let writer = tokio::spawn(write(api.clone(), Arc::clone(&is_over), Arc::clone(&done)));
    // Twice at least, and as often as it takes for enough writes to come in between.
    loop {
        for of in ["secretbox", "aesgcm"] {
            let words = ["rotate-keys", "--compact", &format!("--key-type={of}")];
            shared.succeed(&words, "keys rotated, reencryption finished").await;
            assert_eq!(shared.providers(), [of, "identity"]);
        }
        if done.load(Ordering::Relaxed) > WRITES {
            break;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let written = writer.await.expect("no request has failed");
    assert!(written.len() > WRITES, "{} writes", written.len());
    create(&api, LAST).await;
    judge(&informer.await.expect("an informer"), &written, &api.get(SECRETS).await);

    let under = format!("k8s:enc:aesgcm:v1:{}:", shared.keys()[0]);
    for kv in etcd.client().await.everything().await {
        let is_secret = kv.key.starts_with(b"/registry/secrets/");
        assert!(
            !is_secret || kv.value.starts_with(under.as_bytes()),
            "{}",
            kv.key.escape_ascii()
        );
    }
    let before = content_of(&server);
    drop((rest, server));
    proxy.process().signal("TERM");
    assert!(proxy.process().wait().success());
    let alone = ApiServer::start(&etcd.endpoint(), Some(&shared.text()));
    assert_eq!(content_of(&alone), before);
    alone.create_secret("without-the-proxy", "alone");
    assert_eq!(alone.secret("without-the-proxy"), "alone");
}

fn steady(index: usize) -> String {
    format!("steady-{index:04}")
}

async fn create(api: &Api, name: &str) {
    let (status, object) = api.send("POST", SECRETS, &secret(name, "first").to_string()).await;
    assert_eq!(status, 201, "{object}");
}

/// Updates one Secret after the other until it is over: at which version, and the object.
async fn write(api: Api, is_over: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> BTreeMap<u64, Value> {
    let mut written = BTreeMap::new();
    let mut turn = 0;
    while !is_over.load(Ordering::Relaxed) {
        let (status, object) = update(&api, &steady(turn % SIZE), &format!("turn {turn}")).await;
        assert_eq!(status, 200, "{object}");
        written.insert(version(&object), object);
        done.fetch_add(1, Ordering::Relaxed);
        turn += 1;
        sleep(PAUSE).await;
    }
    written
}

/// Each write was told, every other event shows what was there before, and the informer's copy is what there is.
fn judge(told: &Told, written: &BTreeMap<u64, Value>, end: &Value) {
    let mut now = told.start.clone();
    let mut seen = 0;
    for (kind, object) in &told.events {
        assert_eq!(kind, "MODIFIED", "{object}");
        let before = now.insert(name(object), object.clone());
        if let Some(wanted) = written.get(&version(object)) {
            assert_eq!(object, wanted);
            seen += 1;
        } else {
            assert_eq!(before.as_ref().map(content), Some(content(object)), "a rewrite");
        }
    }
    assert_eq!(seen, written.len());
    // Whatever was not written meanwhile.
    let rewrites = told.events.len() - seen;
    assert!(rewrites > SIZE / 2, "{rewrites} rewrites");
    let mut end = store(end);
    end.remove(LAST);
    assert!(now == end, "the informer's copy is not what there is");
}
