//! A sweep beneath a kube-apiserver at work: informers see each write once and in order, and a rewrite as a modification
//! that modifies nothing; afterwards kube-apiserver alone reads everything with the new key, and without any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::etcd::Etcd;
use crate::common::pb::mvccpb::KeyValue;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::sweep::{IDENTITY, K1, K2, Sweep, document};
use crate::common::tools::Version;
use crate::informer::{Store, Told, content, follow, store};
use crate::kube::ApiServer;
use crate::rest::{Api, SECRETS, name, path, secret, version};

/// Secrets before the sweep. Every third one is left alone.
const STEADY: usize = 400;
const WRITERS: usize = 3;
/// How long one pauses after each write.
const PAUSE: Duration = Duration::from_millis(5);
/// Ends the informers.
const LAST: &str = "zz-last";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn informers_stay_consistent_over_a_sweep_and_the_new_key_alone_is_enough_etcd_3_4() {
    over_a_sweep(Version::V3_4, Sweeper::Verb).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn informers_stay_consistent_over_a_sweep_in_the_background_and_the_new_key_alone_is_enough_etcd_3_5() {
    over_a_sweep(Version::V3_5, Sweeper::Proxy).await;
}

/// Who sweeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweeper {
    Verb,
    Proxy,
}

async fn over_a_sweep(etcd_version: Version, sweeper: Sweeper) {
    let etcd = Etcd::start(etcd_version).await;
    // kube-apiserver's own encryption, with the old key.
    let alone = ApiServer::start(&etcd.endpoint(), Some(&document(&[K1])));
    let rest = alone.rest();
    for index in 0..STEADY {
        let (status, object) = rest
            .api()
            .send("POST", SECRETS, &secret(&steady(index), "first").to_string())
            .await;
        assert_eq!(status, 201, "{object}");
    }
    drop((rest, alone));

    let mut proxy = match sweeper {
        Sweeper::Verb => Proxy::before(&etcd, document(&[K2, K1])),
        Sweeper::Proxy => Setup::new(etcd.endpoint(), document(&[K1]))
            .member("one")
            .flag("--sweep-rate=100")
            .start(),
    };
    let server = ApiServer::start(proxy.url(), None);
    let rest = server.rest();
    let api = rest.api();
    let list = api.get(SECRETS).await;
    // One that has to resume all the time, and one that never has to.
    let informers = [2, 600].map(|seconds| tokio::spawn(follow(api.clone(), list.clone(), LAST, seconds)));
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|number| tokio::spawn(write(api.clone(), number, Arc::clone(&is_over))));
    let writers: Vec<JoinHandle<Log>> = writers.collect();
    let lister = tokio::spawn(list_in_pages(api.clone(), Arc::clone(&is_over)));

    let rewritten = match sweeper {
        Sweeper::Verb => by_the_verb(&etcd).await,
        Sweeper::Proxy => by_itself(&etcd, &proxy).await,
    };
    assert!(rewritten > STEADY as u64 / 2, "{rewritten} rewritten");
    is_over.store(true, Ordering::Relaxed);
    let mut log = Log::default();
    for writer in writers {
        let one = writer.await.unwrap();
        log.written.extend(one.written);
        log.deleted += one.deleted;
    }
    assert!(log.written.len() > 50, "{} writes beside the sweep", log.written.len());
    assert!(lister.await.unwrap() > 2, "lists beside the sweep");
    let (status, object) = api.send("POST", SECRETS, &secret(LAST, "").to_string()).await;
    assert_eq!(status, 201, "{object}");

    let mut end = store(&api.get(SECRETS).await);
    end.remove(LAST);
    for informer in informers {
        log.judge(&informer.await.unwrap(), &end, rewritten);
    }
    // From before the sweep to behind it at once.
    let late = follow(api, list, LAST, 60).await;
    log.judge(&late, &end, rewritten);

    let before = content_of(&server);
    drop((rest, server));
    // In good order: the record of one that is killed would live on for a while.
    proxy.process().signal("TERM");
    assert!(proxy.process().wait().success());
    let alone = ApiServer::start(&etcd.endpoint(), Some(&document(&[K2])));
    assert_eq!(content_of(&alone), before);
    alone.create_secret("by-the-new-key", "alone");
    assert_eq!(alone.secret("by-the-new-key"), "alone");
    let before = content_of(&alone);
    drop(alone);

    // And taken off altogether.
    Sweep::of(&etcd, &[IDENTITY, K2]).run().await.expect_clean();
    let bare = ApiServer::start(&etcd.endpoint(), None);
    assert_eq!(content_of(&bare), before);
    bare.update_secret("by-the-new-key", "in the clear");
    assert_eq!(bare.secret("by-the-new-key"), "in the clear");
}

/// How many values it rewrote.
async fn by_the_verb(etcd: &Etcd) -> u64 {
    let outcome = Sweep::of(etcd, &[K2, K1]).flag("--rate=100").run().await;
    outcome.expect_clean();
    outcome.number("/counts/rewritten")
}

/// The same, by the proxy that kube-apiserver goes through, because it is given a new key.
async fn by_itself(etcd: &Etcd, proxy: &Proxy) -> u64 {
    proxy.replace_config(&document(&[K2, K1]));
    let direct = etcd.client().await;
    let is_old = |kv: &KeyValue| kv.value.starts_with(b"k8s:enc:aescbc:v1:k1:");
    let swept = async {
        loop {
            let is_done = proxy.metrics().await.contains("sweep_state{state=\"done\"} 1");
            if is_done && !direct.everything().await.iter().any(is_old) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, swept).await.expect("everything is swept");
    let metrics = proxy.metrics().await;
    let mut lines = metrics.lines();
    let count =
        lines.find_map(|line| line.strip_prefix("etcd_encryption_proxy_sweep_values_total{outcome=\"rewritten\"} "));
    count.expect("the count").parse().expect("a number")
}

fn steady(index: usize) -> String {
    format!("steady-{index:04}")
}

/// Everything that there is, but for its versions.
pub fn content_of(server: &ApiServer) -> Vec<Value> {
    let objects: Value = serde_json::from_str(&server.objects()).expect("a list");
    objects["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(content)
        .collect()
}

/// What a writer was told.
#[derive(Default)]
struct Log {
    /// Creations and updates: at which version, and the object.
    written: BTreeMap<u64, Value>,
    deleted: usize,
}

/// Creates, updates and deletes Secrets, those that are being swept among them, until it is over.
async fn write(api: Api, number: usize, is_over: Arc<AtomicBool>) -> Log {
    let mut log = Log::default();
    let mut turn = 0;
    while !is_over.load(Ordering::Relaxed) {
        turn += 1;
        let payload = format!("writer {number}, turn {turn}");
        // Of its own third of those that are written at all.
        let old = steady(((turn * 7) % (STEADY / 9)) * 9 + number * 3 + 1);
        let new = format!("new-{number}-{}", turn % 10);
        match turn % 4 {
            0 => log.note(api.send("PUT", &path(&old), &secret(&old, &payload).to_string()).await),
            1 => log.note(update(&api, &old, &payload).await),
            _ => {
                let (status, object) = api.send("POST", SECRETS, &secret(&new, &payload).to_string()).await;
                if status == 409 {
                    let (status, object) = api.send("DELETE", &path(&new), "").await;
                    assert_eq!(status, 200, "{object}");
                    log.deleted += 1;
                } else {
                    log.note((status, object));
                }
            }
        }
        sleep(PAUSE).await;
    }
    log
}

/// As controllers do it: what was read is changed, and written unless somebody else did. A sweep counts as somebody.
pub async fn update(api: &Api, name: &str, payload: &str) -> (u16, Value) {
    loop {
        let mut object = api.get(&path(name)).await;
        object["data"] = secret(name, payload)["data"].clone();
        let (status, answer) = api.send("PUT", &path(name), &object.to_string()).await;
        if status != 409 {
            return (status, answer);
        }
    }
}

/// Lists in pages, each list at one version, until it is over. None that is always there may ever be missing or come twice.
async fn list_in_pages(api: Api, is_over: Arc<AtomicBool>) -> usize {
    let mut lists = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let page = api.get(&format!("{SECRETS}?limit=70&continue={token}")).await;
            names.extend(page["items"].as_array().expect("a list").iter().map(name));
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => break,
            }
        }
        let steady: Vec<_> = names.into_iter().filter(|name| name.starts_with("steady-")).collect();
        assert_eq!(steady.len(), STEADY);
        assert!(steady.is_sorted_by(|a, b| a < b));
        lists += 1;
    }
    lists
}

impl Log {
    fn note(&mut self, (status, object): (u16, Value)) {
        assert!(status == 200 || status == 201, "{status}: {object}");
        self.written.insert(version(&object), object);
    }

    /// Each write was told once and in order, every other event is a rewrite that shows what was there before, and the
    /// informer's copy is what there is.
    fn judge(&self, told: &Told, end: &Store, rewritten: u64) {
        let mut now = told.start.clone();
        let (mut seen, mut rewrites, mut deleted) = (0, 0, 0);
        for (kind, object) in &told.events {
            let before = match kind.as_str() {
                "DELETED" => now.remove(&name(object)),
                _ => now.insert(name(object), object.clone()),
            };
            assert_eq!(before.is_some(), kind != "ADDED", "{kind} {object}");
            if let Some(written) = self.written.get(&version(object)) {
                assert_eq!(object, written);
                seen += 1;
            } else if kind == "DELETED" {
                deleted += 1;
            } else {
                assert_eq!(kind, "MODIFIED", "nobody wrote {object}");
                assert_eq!(before.as_ref().map(content), Some(content(object)), "a rewrite");
                rewrites += 1;
            }
        }
        let told = (seen, deleted, rewrites);
        assert_eq!(
            told,
            (self.written.len(), self.deleted, rewritten),
            "writes, deletions, rewrites"
        );
        assert!(now == *end, "the informer's copy is not what there is");
    }
}
