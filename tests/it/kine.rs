//! kine (SQLite, its own flags, ours) in etcd's place: what kube-apiserver sends is taken and sealed, nothing of the proxy's own is
//! shown, and what could not be proven there is refused. Each test does nothing where `tests/install-tools.sh` has left kine out.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::common::client::Client;
use crate::common::config;
use crate::common::http;
use crate::common::kine::Kine;
use crate::common::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::mvccpb::KeyValue;
use crate::common::process::PATIENCE;
use crate::common::proxy::{BINARY, Proxy, Setup, replace};
use crate::common::rotation::ROOT;
use crate::common::sweep::Sweep;
use crate::common::watch::{Watch, all_under};

const SECRET: &str = "/registry/secrets/default/a";
const STATE: &str = "/etcd-encryption-proxy/";

/// A proxy with the flags that it has unless told otherwise.
fn before(kine: &Kine) -> Proxy {
    Setup::new(kine.endpoint(), config::secrets()).member("m1").start()
}

fn one(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn prefix(prefix: &str) -> RangeRequest {
    let watched = all_under(prefix, 0);
    RangeRequest {
        key: watched.key,
        range_end: watched.range_end,
        ..RangeRequest::default()
    }
}

/// kube-apiserver's own transactions: create, update, delete.
fn txn(key: &str, mod_revision: i64, success: Op) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Mod.into(),
            key: key.into(),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..Compare::default()
        }],
        success: vec![op(success)],
        failure: (mod_revision != 0)
            .then(|| op(Op::RequestRange(one(key))))
            .into_iter()
            .collect(),
    }
}

fn put(key: &str, mod_revision: i64, value: &str) -> TxnRequest {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    txn(key, mod_revision, Op::RequestPut(put))
}

fn delete(key: &str, mod_revision: i64) -> TxnRequest {
    let delete = DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    };
    txn(key, mod_revision, Op::RequestDeleteRange(delete))
}

/// Writes until a write is taken: a process has to be known to others first.
async fn written(client: &Client, txn: TxnRequest) -> i64 {
    let start = Instant::now();
    loop {
        match client.kv().txn(txn.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                assert!(answer.succeeded, "nothing stands in its way");
                return answer.header.expect("a header").revision;
            }
            Err(status) => assert!(start.elapsed() < PATIENCE, "{status:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn list(client: &Client, request: RangeRequest) -> Vec<KeyValue> {
    client.kv().range(request).await.expect("a list").into_inner().kvs
}

/// The records of members.
async fn members(direct: &Client) -> Vec<KeyValue> {
    list(direct, prefix(&format!("{STATE}members/"))).await
}

#[tokio::test]
async fn what_kube_apiserver_writes_is_taken_with_default_flags_and_goes_on_being_taken() {
    let Some(kine) = Kine::start().await else { return };
    let mut proxy = before(&kine);
    let (client, direct) = (proxy.client().await, kine.client().await);
    let mut watch = Watch::open(
        &client,
        WatchCreateRequest {
            prev_kv: true,
            ..all_under("/registry/secrets/", 0)
        },
    )
    .await;
    assert!(watch.next().await.created);
    let created = written(&client, put(SECRET, 0, "one")).await;
    let updated = written(&client, put(SECRET, created, "two")).await;
    assert!(config::is_sealed(&list(&direct, one(SECRET)).await[0].value));
    assert_eq!(client.value(SECRET).await, b"two");
    // One that comes too late is told what is there.
    let late = client.txn(put(SECRET, created, "late")).await;
    assert!(!late.succeeded);
    let Some(response_op::Response::ResponseRange(found)) = &late.responses[0].response else {
        panic!("what is there")
    };
    assert_eq!(found.kvs[0].value, b"two");
    // Longer than the record would last if nobody wrote it anew.
    let first = members(&direct).await[0].mod_revision;
    let (start, mut written_at) = (Instant::now(), vec![first]);
    while written_at.len() < 5 {
        assert!(start.elapsed() < PATIENCE, "the record is not kept: {}", proxy.output());
        sleep(Duration::from_millis(100)).await;
        let now = members(&direct).await;
        assert_eq!(now.len(), 1, "{}", proxy.output());
        if !written_at.contains(&now[0].mod_revision) {
            written_at.push(now[0].mod_revision);
        }
    }
    let again = written(&client, put(SECRET, updated, "three")).await;
    written(&client, delete(SECRET, again)).await;
    assert_eq!(list(&client, one(SECRET)).await, []);
    let events = watch.events(4).await;
    let seen = |index: usize| {
        let event = &events[index];
        let value = |kv: &Option<KeyValue>| {
            kv.as_ref()
                .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
                .unwrap_or_default()
        };
        (value(&event.kv), value(&event.prev_kv))
    };
    let pair = |now: &str, before: &str| (now.to_owned(), before.to_owned());
    assert_eq!(seen(0), pair("one", ""));
    assert_eq!(seen(1), pair("two", "one"));
    assert_eq!(seen(2), pair("three", "two"));
    assert_eq!(seen(3).1, "three");
    // A process that ends is not waited for.
    proxy.process().signal("TERM");
    proxy.process().wait();
    assert_eq!(members(&direct).await, []);
}

#[tokio::test]
async fn a_kine_that_was_killed_is_written_to_again() {
    let Some(mut kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    let client = proxy.client().await;
    let created = written(&client, put(SECRET, 0, "one")).await;
    kine.kill();
    kine.spawn().await;
    written(&client, put(SECRET, created, "two")).await;
    assert_eq!(client.value(SECRET).await, b"two");
}

/// kine answers a create as done that its database refuses. A record that is not there is not relied upon.
#[tokio::test]
async fn a_record_that_the_database_refuses_is_none() {
    let Some(kine) = Kine::start_with(50).await else { return };
    let direct = kine.client().await;
    direct.txn(put("/a", 0, "x")).await;
    let lock = kine.lock();
    let said = direct.txn(put("/b", 0, "x")).await;
    assert!(
        said.succeeded && list(&direct, one("/b")).await.is_empty(),
        "what this test is about"
    );
    let proxy = before(&kine);
    let client = proxy.client().await;
    let attempt = timeout(Duration::from_secs(1), client.kv().txn(put(SECRET, 0, "one"))).await;
    assert!(
        !matches!(attempt, Ok(Ok(_))),
        "a process that is known to nobody: {attempt:?}"
    );
    assert_eq!(members(&direct).await, []);
    assert!(
        proxy.output().contains("the database behind the store has refused it"),
        "{}",
        proxy.output()
    );
    drop(lock);
    let created = written(&client, put(SECRET, 0, "one")).await;
    assert_eq!(list(&direct, one(SECRET)).await[0].mod_revision, created);
}

#[tokio::test]
async fn an_empty_key_shows_nothing_of_the_proxys_own() {
    let Some(kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    let (client, direct) = (proxy.client().await, kine.client().await);
    written(&client, put(SECRET, 0, "one")).await;
    // kine takes no key for every key.
    let all = RangeRequest {
        range_end: b"!".to_vec(),
        keys_only: true,
        ..RangeRequest::default()
    };
    let shown = list(&direct, all.clone()).await;
    assert!(shown.iter().any(|kv| kv.key.starts_with(STATE.as_bytes())), "{shown:?}");
    let refused = |status: tonic::Status| {
        let said = (status.code(), status.message().to_owned());
        assert_eq!(
            said,
            (
                tonic::Code::InvalidArgument,
                "etcdserver: key is not provided".to_owned()
            )
        );
    };
    let count_only = RangeRequest {
        count_only: true,
        ..all.clone()
    };
    for asked in [all.clone(), count_only, RangeRequest::default()] {
        refused(client.kv().range(asked.clone()).await.expect_err("no key"));
        let mut streamed = match client.kv().range_stream(asked).await {
            Err(status) => return refused(status),
            Ok(streamed) => streamed.into_inner(),
        };
        refused(streamed.message().await.expect_err("no key"));
    }
    refused(client.kv().txn(put("", 0, "x")).await.expect_err("no key"));
    refused(client.kv().txn(delete("", 7)).await.expect_err("no key"));
    refused(
        client
            .kv()
            .delete_range(DeleteRangeRequest::default())
            .await
            .expect_err("no key"),
    );
}

#[tokio::test]
async fn a_watch_of_no_key_sees_nothing_of_the_proxys_own() {
    let Some(kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    let (client, direct) = (proxy.client().await, kine.client().await);
    let created = written(&client, put(SECRET, 0, "one")).await;
    let record = members(&direct).await[0].mod_revision;
    let mut watches = Vec::new();
    for range_end in [&b""[..], b"\0", b"0"] {
        let nothing = WatchCreateRequest {
            range_end: range_end.to_vec(),
            start_revision: created,
            ..WatchCreateRequest::default()
        };
        let mut watch = Watch::open(&client, nothing).await;
        assert!(watch.next().await.created);
        // Two on one stream, which is answered in order.
        watch.create(all_under("/registry/", created));
        watches.push(watch);
    }
    let start = Instant::now();
    while members(&direct).await[0].mod_revision == record {
        assert!(start.elapsed() < PATIENCE, "the record is not written anew");
        sleep(Duration::from_millis(50)).await;
    }
    written(&client, put(SECRET, created, "two")).await;
    for mut watch in watches {
        let mut seen = Vec::new();
        while !seen.iter().any(|value| value == b"two") {
            for event in watch.next().await.events {
                let kv = event.kv.expect("a key");
                assert!(!kv.key.starts_with(STATE.as_bytes()), "{:?}", kv.key);
                seen.push(kv.value);
            }
        }
    }
}

#[tokio::test]
async fn a_streamed_list_is_opened_and_one_with_a_limit_is_left_to_range() {
    let Some(kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    let (client, direct) = (proxy.client().await, kine.client().await);
    for index in 0..35 {
        written(
            &client,
            put(
                &format!("/registry/secrets/default/{index:02}"),
                0,
                &format!("s{index}"),
            ),
        )
        .await;
    }
    let streamed = async |client: &Client, limit: i64| {
        let request = RangeRequest {
            limit,
            ..prefix("/registry/secrets/")
        };
        let mut stream = client.kv().range_stream(request).await?.into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await? {
            chunks.push(chunk.range_response.expect("a part"));
        }
        Ok::<_, tonic::Status>(chunks)
    };
    let chunks = streamed(&client, 0).await.expect("a list");
    assert!(chunks.len() > 1);
    let values: Vec<_> = chunks
        .iter()
        .flat_map(|chunk| &chunk.kvs)
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
        .collect();
    assert_eq!(values, (0..35).map(|index| format!("s{index}")).collect::<Vec<_>>());
    // What it is refused for: where this is mended, so can that be.
    let direct = streamed(&direct, 10).await.expect("a list");
    let keys: usize = direct.iter().map(|chunk| chunk.kvs.len()).sum();
    assert_eq!((keys, direct.last().expect("a part").more), (11, false));
    let status = streamed(&client, 10).await.expect_err("a limit");
    assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");
    let page = RangeRequest {
        limit: 10,
        ..prefix("/registry/secrets/")
    };
    let page = client.range(page).await;
    assert_eq!((page.kvs.len(), page.more, page.count), (10, true, 35));
}

#[tokio::test]
async fn a_list_around_the_proxys_own_records_is_what_a_client_of_its_own_store_would_get() {
    let Some(kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    let (client, direct) = (proxy.client().await, kine.client().await);
    let mut revisions = Vec::new();
    for index in 0..6 {
        for key in [format!("/a/{index}"), format!("/registry/secrets/default/{index}")] {
            revisions.push(written(&client, put(&key, 0, &format!("v{index}"))).await);
        }
    }
    let all = list(&direct, prefix("/")).await;
    let theirs = |kv: &&KeyValue| !kv.key.starts_with(STATE.as_bytes());
    let expected: Vec<_> = all.iter().filter(theirs).map(|kv| kv.key.clone()).collect();
    assert!(expected.len() < all.len());
    // kine has a key of its own behind all of Kubernetes', which is in a range without an end.
    let endless = [&expected[..], &[b"compact_rev_key".to_vec()]].concat();
    for (range_end, expected) in [(&b"0"[..], &expected), (b"\0", &endless)] {
        let whole = RangeRequest {
            range_end: range_end.to_vec(),
            ..prefix("/")
        };
        let answer = client.range(whole.clone()).await;
        let keys: Vec<_> = answer.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(&keys, expected);
        assert_eq!(
            (answer.count, answer.more),
            (i64::try_from(expected.len()).unwrap(), false)
        );
        let secret = answer
            .kvs
            .iter()
            .find(|kv| kv.key == b"/registry/secrets/default/3")
            .expect("it is there");
        assert_eq!(secret.value, b"v3");
        let limited = client
            .range(RangeRequest {
                limit: 8,
                ..whole.clone()
            })
            .await;
        let keys: Vec<_> = limited.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(
            (&keys[..], limited.more, limited.count),
            (&expected[..8], true, answer.count)
        );
        let past = RangeRequest {
            revision: revisions[3],
            keys_only: true,
            ..whole.clone()
        };
        let past = client.range(past).await;
        assert!(
            past.kvs
                .iter()
                .all(|kv| kv.value.is_empty() && kv.mod_revision <= revisions[3])
        );
        assert!(past.kvs.iter().any(|kv| kv.mod_revision == revisions[3]));
        let counted = client
            .range(RangeRequest {
                count_only: true,
                ..whole
            })
            .await;
        assert_eq!((counted.kvs.len(), counted.count), (0, answer.count));
    }
}

#[tokio::test]
async fn what_could_not_be_proven_is_refused_and_it_is_said_which_store_it_is() {
    let Some(kine) = Kine::start().await else { return };
    let proxy = before(&kine);
    written(&proxy.client().await, put(SECRET, 0, "one")).await;
    let ready = http::get(&proxy.metrics_url(), "/readyz?verbose")
        .await
        .expect("a check");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let line = ready
        .body
        .lines()
        .find(|line| line.contains("]etcd "))
        .expect("the check");
    assert!(line.contains("kine"), "{}", ready.body);
    assert!(
        proxy.output().contains("the store is no etcd but kine"),
        "{}",
        proxy.output()
    );
    for flags in [&[][..], &["--dry-run"], &["--force"]] {
        let sweep = Sweep::on(&kine.endpoint(), &[crate::common::sweep::K1]);
        let swept = flags.iter().fold(sweep, |sweep, flag| sweep.flag(flag)).run().await;
        assert_ne!(swept.code, Some(0));
        assert!(swept.stderr.contains("a sweep is refused here"), "{}", swept.stderr);
    }
    let run = |words: &[&str]| -> Output {
        Command::new(BINARY)
            .args(words)
            .arg(format!("--etcd-servers={}", kine.endpoint()))
            .arg(format!("--encryption-provider-config={}", proxy.config().display()))
            .output()
            .expect("it runs")
    };
    for verb in [
        &["rotate-keys"][..],
        &["prepare"],
        &["status", "--count"],
        &["reencrypt"],
    ] {
        let refused = run(&[&["secrets-encrypt"], verb].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{verb:?}");
        assert!(said.contains("refused here"), "{verb:?}: {said}");
    }
    let status = run(&["secrets-encrypt", "status"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(
        said.contains("kine"),
        "{said}{}",
        String::from_utf8_lossy(&status.stderr)
    );
    let root = proxy.folder().join("root.yaml");
    replace(&root, ROOT);
    let (code, said) = Setup::managed(kine.endpoint(), &root).member("m2").refused();
    assert!(!code.success());
    assert!(said.contains("a keyring in the store is refused here"), "{said}");
}
