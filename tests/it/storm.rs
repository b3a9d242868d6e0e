//! A thousand configurations and a hundred certificates taken into use under load: no request fails, and none is sealed
//! by two keyrings.
//!
//! `RELOADS` in the environment sets another number of configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::config::{KEY, KEY_2};
use crate::common::etcd::{Etcd, Setup as EtcdSetup};
use crate::common::http;
use crate::common::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::common::pb::mvccpb::event::EventType;
use crate::common::pki::{Pair, Pki};
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup, replace};
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const SECRETS: &str = "/registry/secrets/";

/// Between two rounds of each who makes load: requests at any time are wanted, not a machine that can do nothing else.
const PAUSE: Duration = Duration::from_millis(5);

/// What values begin with in etcd, by the key that writes.
const PREFIXES: [&str; 3] = [
    "k8s:enc:aescbc:v1:k0:",
    "k8s:enc:aesgcm:v1:k1:",
    "k8s:enc:secretbox:v1:k2:",
];

/// The `round`th document: every one reads what the others write, and three in a row write with different keys.
fn document(round: usize) -> String {
    let mut providers = [
        format!("  - aescbc: {{keys: [{{name: k0, secret: {KEY}}}]}}\n"),
        format!("  - aesgcm: {{keys: [{{name: k1, secret: {KEY_2}}}]}}\n"),
        format!("  - secretbox: {{keys: [{{name: k2, secret: {KEY}}}]}}\n"),
    ];
    providers.rotate_left(round % 3);
    format!(
        "# {round}\napiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n{}",
        providers.concat()
    )
}

/// Tells those who make the load when to end, and counts what they did.
#[derive(Clone, Default)]
struct Load {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    fn goes_on(&self) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }
}

fn put(key: &str, value: &str) -> RequestOp {
    RequestOp {
        request: Some(Op::RequestPut(PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        })),
    }
}

fn if_unchanged(key: &str, mod_revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Compare::default()
    }
}

/// What a value must look like to a client: its key, and a round.
fn is_intact(key: &[u8], value: &[u8]) -> bool {
    value.strip_prefix(key).is_some_and(|rest| rest.starts_with(b" of "))
}

/// Creates, updates several at once, gets and lists, as kube-apiserver does; panics at the first failure.
async fn works_on(client: Client, folder: String, load: Load) {
    for round in 0.. {
        if !load.goes_on() {
            return;
        }
        let name = |number: u64| format!("{folder}{number}");
        let value = |key: &str, step: &str| format!("{key} of {round} {step}");
        let new = name(round);
        let created = client
            .txn(TxnRequest {
                compare: vec![if_unchanged(&new, 0)],
                success: vec![put(&new, &value(&new, "created"))],
                ..TxnRequest::default()
            })
            .await;
        assert!(created.succeeded, "{new} exists already");
        let found = client.get(new.as_str()).await.expect("what was created");
        assert_eq!(found.value, value(&new, "created").into_bytes());
        // Five at once: a keyring that changed in between would show.
        let keys: Vec<_> = (0..5).map(|back| name(round.saturating_sub(back))).collect();
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let updated = client
            .txn(TxnRequest {
                compare: vec![if_unchanged(&new, found.mod_revision)],
                success: keys.iter().map(|key| put(key, &value(key, "updated"))).collect(),
                ..TxnRequest::default()
            })
            .await;
        assert!(updated.succeeded);
        let mut end = folder.clone().into_bytes();
        *end.last_mut().unwrap() += 1;
        let listed = client
            .range(RangeRequest {
                key: folder.clone().into(),
                range_end: end,
                limit: 20,
                ..RangeRequest::default()
            })
            .await;
        for kv in listed.kvs {
            assert!(is_intact(&kv.key, &kv.value), "{}", String::from_utf8_lossy(&kv.key));
        }
        sleep(PAUSE).await;
    }
}

/// Watches everything; ends with the event of the key `last`, having seen every value.
async fn watches(client: Client, last: &'static str) -> usize {
    let mut create = all_under(SECRETS, 1);
    create.prev_kv = true;
    let mut watch = Watch::open(&client, create).await;
    let mut seen = 0;
    loop {
        for event in watch.next().await.events {
            for kv in event.kv.iter().chain(&event.prev_kv) {
                assert!(is_intact(&kv.key, &kv.value), "{}", String::from_utf8_lossy(&kv.key));
            }
            seen += 1;
            if event.kv.is_some_and(|kv| kv.key == last.as_bytes()) {
                return seen;
            }
        }
    }
}

/// Waits until the proxy's metrics have `wanted` in them.
async fn until_shown(metrics_url: &str, wanted: &str) {
    let start = Instant::now();
    loop {
        sleep(Duration::from_millis(15)).await;
        let shown = http::get(metrics_url, "/metrics").await.expect("metrics").body;
        if shown.contains(wanted) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{wanted} does not come up:\n{shown}");
    }
}

/// How many configurations the storm has.
fn reloads() -> usize {
    let given = std::env::var("RELOADS").ok();
    given.map_or(1000, |number| number.parse().expect("RELOADS is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_configurations_under_load() {
    const LAST: &str = "/registry/secrets/zzz/last";
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Proxy::before(&etcd, document(0));
    let metrics_url = proxy.metrics_url();
    let load = Load::default();
    let watching = tokio::spawn(watches(proxy.client().await, LAST));
    let mut working = JoinSet::new();
    for worker in 0..4 {
        let folder = format!("{SECRETS}worker-{worker}/");
        working.spawn(works_on(proxy.client().await, folder, load.clone()));
    }
    let count = reloads();
    for round in 1..=count {
        proxy.replace_config(&document(round));
        let hash = etcd_encryption_proxy::types::Fingerprint::of(document(round).as_bytes());
        until_shown(&metrics_url, &format!("hash=\"{hash}\"")).await;
    }
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = working.join_next().await {
        ended.expect("no request fails");
    }
    proxy.client().await.put(LAST, format!("{LAST} of all")).await;
    let seen = watching.await.expect("no event is unreadable");
    let rounds = load.done.load(Ordering::Relaxed);
    assert!(rounds > 4 * 10, "there was load: {rounds} rounds");

    let metrics = proxy.metrics().await;
    let successes = metrics
        .lines()
        .find(|line| {
            line.starts_with("apiserver_encryption_config_controller_automatic_reloads_total{status=\"success\"")
        })
        .expect("a count of reloads");
    assert!(successes.ends_with(&format!(" {count}")), "{successes}");
    assert!(!metrics.contains("status=\"failure\""), "{metrics}");
    assert!(
        metrics.contains("\netcd_encryption_proxy_undecryptable_values_total 0\n"),
        "{metrics}"
    );
    each_revision_has_one_key(&etcd, seen, count).await;
}

/// Every value that etcd ever held was written with one of the keys, and all of a transaction with the same.
async fn each_revision_has_one_key(etcd: &Etcd, events: usize, count: usize) {
    let mut history = Watch::open(&etcd.client().await, all_under(SECRETS, 1)).await;
    let mut writers: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    let mut together = 0;
    let mut seen = 0;
    while seen < events {
        for event in history.next().await.events {
            assert_eq!(event.r#type(), EventType::Put);
            let kv = event.kv.unwrap();
            let matching: Vec<_> = PREFIXES
                .into_iter()
                .filter(|prefix| kv.value.starts_with(prefix.as_bytes()))
                .collect();
            assert_eq!(matching.len(), 1, "{}", String::from_utf8_lossy(&kv.key));
            together += usize::from(!writers.entry(kv.mod_revision).or_default().insert(matching[0]));
            seen += 1;
        }
    }
    for (revision, keys) in &writers {
        assert_eq!(keys.len(), 1, "revision {revision} was sealed with {keys:?}");
    }
    assert!(together > writers.len() / 2, "transactions wrote several values");
    let used: BTreeSet<_> = writers.values().flatten().collect();
    assert!(count < 10 || used.len() == PREFIXES.len(), "only {used:?} wrote");
}

/// Renames the pair over the two files, one after the other.
fn put_pair(pair: &Pair, cert: &Path, key: &Path) {
    replace(cert, fs::read(&pair.cert).unwrap());
    replace(key, fs::read(&pair.key).unwrap());
}

/// Opens connection after connection and writes and reads on each; panics at the first failure.
async fn keeps_connecting(url: String, pki: Arc<Pki>, key: String, load: Load) {
    while load.goes_on() {
        let client = Client::connect_tls(&url, pki.client_tls()).await;
        client.put(key.as_str(), "over TLS").await;
        assert_eq!(client.value(&key).await, b"over TLS");
        sleep(PAUSE).await;
    }
}

/// Asks for something that opens a connection to etcd each time.
async fn keeps_asking(url: String, load: Load) {
    while load.goes_on() {
        let answer = http::get(&url, "/version").await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_certificates_under_load() {
    let etcd = EtcdSetup::new(Version::V3_5).with_tls().start().await;
    let [ours, theirs, files] = [(); 3].map(|()| TempDir::new().unwrap());
    let pki = Arc::new(Pki::generate(ours.path(), &["127.0.0.1", "localhost"]));
    let stranger = fs::read_to_string(Pki::generate(theirs.path(), &["localhost"]).ca).unwrap();
    let [cert, key, ca, etcd_cert, etcd_key, etcd_ca] = [
        "server.pem",
        "server.key",
        "ca.pem",
        "etcd.pem",
        "etcd.key",
        "etcd-ca.pem",
    ]
    .map(|name| files.path().join(name));
    // A CA file of one certificate, then of two: who is let in does not change, what is loaded does.
    let put_authority = |of: &Path, to: &Path, round: usize| {
        let own = fs::read_to_string(of).unwrap();
        let more = if round.is_multiple_of(2) { "" } else { stranger.as_str() };
        replace(to, own + more);
    };
    let put_all = |round: usize| {
        let year = 2100 + i32::try_from(round).unwrap();
        let (pair, server_end) = pki.sign_until("next", &["127.0.0.1", "localhost"], year);
        put_pair(&pair, &cert, &key);
        put_authority(&pki.ca, &ca, round);
        let (pair, client_end) = etcd.pki().sign_until("next-client", &["client.test"], year);
        put_pair(&pair, &etcd_cert, &etcd_key);
        put_authority(&etcd.pki().ca, &etcd_ca, round);
        [("server", server_end), ("client", client_end)]
    };
    put_all(0);
    let proxy = Setup::new(etcd.endpoint(), document(0))
        .listen(&["https://127.0.0.1:0", "http://127.0.0.1:0"])
        .flag(format!("--cert-file={}", cert.display()))
        .flag(format!("--key-file={}", key.display()))
        .flag(format!("--trusted-ca-file={}", ca.display()))
        .flag(format!("--etcd-certfile={}", etcd_cert.display()))
        .flag(format!("--etcd-keyfile={}", etcd_key.display()))
        .flag(format!("--etcd-cafile={}", etcd_ca.display()))
        .start();
    let (metrics_url, load) = (proxy.metrics_url(), Load::default());
    let mut working = JoinSet::new();
    for worker in 0..2 {
        let (url, key) = (proxy.urls()[0].clone(), format!("{SECRETS}tls/{worker}"));
        working.spawn(keeps_connecting(url, Arc::clone(&pki), key, load.clone()));
    }
    working.spawn(keeps_asking(proxy.urls()[1].clone(), load.clone()));
    for round in 1..=100 {
        for (which, end) in put_all(round) {
            let name = "etcd_encryption_proxy_certificate_expiration_timestamp_seconds";
            until_shown(&metrics_url, &format!("{name}{{which=\"{which}\"}} {end}")).await;
        }
    }
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = working.join_next().await {
        ended.expect("no request fails");
    }
    let rounds = load.done.load(Ordering::Relaxed);
    assert!(rounds > 3 * 10, "there was load: {rounds} rounds");
    let metrics = proxy.metrics().await;
    assert!(!metrics.contains("status=\"failure\""), "{metrics}");
}
