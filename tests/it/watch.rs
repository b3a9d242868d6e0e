//! The Watch service: every kind of response, in etcd's order, with each value opened under its own key.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, Setup};
use crate::common::http;
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::watch_create_request::FilterType;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::mvccpb::event::EventType;
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};
use crate::transcript::Transcript;
use crate::twins;

const SECRET: &str = "/registry/secrets/default/a";
const PLAIN: &str = "/registry/configmaps/default/a";

/// A little of everything, in a known order of revisions 2 to 9.
async fn write_history(client: &Client) {
    for (key, value) in [(SECRET, "1"), (PLAIN, "1"), (SECRET, "2"), (PLAIN, "2"), (SECRET, "")] {
        client.put(key, value).await;
    }
    client.delete(SECRET).await;
    client.delete(PLAIN).await;
    let put = |key: &str| {
        let put = PutRequest {
            key: key.into(),
            value: b"at one revision".to_vec(),
            ..PutRequest::default()
        };
        RequestOp {
            request: Some(Op::RequestPut(put)),
        }
    };
    client
        .txn(TxnRequest {
            success: vec![put(SECRET), put(PLAIN)],
            ..TxnRequest::default()
        })
        .await;
}

/// How many events [`write_history`] makes.
const HISTORY: usize = 9;

async fn note_events(seen: &mut Transcript, what: &str, watch: &mut Watch, count: usize) {
    for event in watch.events(count).await {
        seen.note(what, &event);
    }
}

#[tokio::test]
async fn events_of_the_past_and_the_present() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        let variants = |start| {
            [
                all_under("/registry/", start),
                WatchCreateRequest {
                    prev_kv: true,
                    ..all_under("/registry/", start)
                },
                WatchCreateRequest {
                    key: SECRET.into(),
                    range_end: Vec::new(),
                    ..all_under("/", start)
                },
                WatchCreateRequest {
                    key: vec![0],
                    range_end: vec![0],
                    ..all_under("/", start)
                },
                WatchCreateRequest {
                    filters: vec![FilterType::Noput.into()],
                    ..all_under("/registry/", start)
                },
                WatchCreateRequest {
                    filters: vec![FilterType::Nodelete.into()],
                    prev_kv: true,
                    ..all_under("/registry/", start)
                },
            ]
        };
        let counts = [HISTORY, HISTORY, 5, HISTORY, 2, HISTORY - 2];
        let mut present = Vec::new();
        for create in variants(0) {
            let mut watch = Watch::open(client, create).await;
            seen.message("created", &watch.next().await);
            present.push(watch);
        }
        write_history(client).await;
        for (watch, count) in present.iter_mut().zip(counts) {
            note_events(&mut seen, "now", watch, count).await;
        }
        for (create, count) in variants(1).into_iter().zip(counts) {
            let mut watch = Watch::open(client, create).await;
            seen.message("created", &watch.next().await);
            note_events(&mut seen, "from the first revision", &mut watch, count).await;
        }
        let mut resumed = Watch::open(client, all_under("/registry/", 7)).await;
        seen.message("created", &resumed.next().await);
        note_events(&mut seen, "from the middle", &mut resumed, 4).await;
        seen
    })
    .await;
}

#[tokio::test]
async fn many_watches_on_one_stream() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        let mut watch = Watch::open(
            client,
            WatchCreateRequest {
                watch_id: 7,
                ..all_under("/registry/", 0)
            },
        )
        .await;
        seen.message("an identity of our own", &watch.next().await);
        watch.create(WatchCreateRequest {
            watch_id: 7,
            ..all_under("/registry/", 0)
        });
        seen.message("the same again", &watch.next().await);
        watch.create(all_under("/registry/secrets/", 0));
        seen.message("the server's identity", &watch.next().await);
        watch.create(WatchCreateRequest {
            key: b"b".to_vec(),
            range_end: b"a".to_vec(),
            ..all_under("/", 0)
        });
        seen.message("an empty range", &watch.next().await);
        client.put(SECRET, "v").await;
        let mut both = [watch.next().await, watch.next().await];
        both.sort_by_key(|response| response.watch_id);
        for response in &both {
            seen.message("an event", response);
        }
        watch.request_progress();
        seen.message("progress", &watch.next().await);
        watch.cancel(7);
        seen.message("canceled", &watch.next().await);
        watch.send_empty();
        client.put(SECRET, "w").await;
        seen.message("only the other", &watch.next().await);
        // etcd goes on serving a client that has nothing more to ask.
        let mut rest = watch.half_close();
        client.put(SECRET, "x").await;
        seen.message("after half-close", &rest.message().await.unwrap().unwrap());
        seen
    })
    .await;
}

#[tokio::test]
async fn compacted_revisions() {
    twins::compare(async |client, _| {
        let mut seen = Transcript::default();
        write_history(client).await;
        let compact = CompactionRequest {
            revision: 5,
            physical: true,
        };
        client.kv().compact(compact).await.unwrap();
        for start in [1, 4] {
            let mut watch = Watch::open(client, all_under("/registry/", start)).await;
            seen.message("created", &watch.next().await);
            seen.message("canceled", &watch.next().await);
        }
        let mut watch = Watch::open(
            client,
            WatchCreateRequest {
                prev_kv: true,
                ..all_under("/registry/", 5)
            },
        )
        .await;
        seen.message("created", &watch.next().await);
        note_events(&mut seen, "with what is left", &mut watch, 6).await;
        seen
    })
    .await;
}

#[tokio::test]
async fn large_events_in_fragments_and_in_one_piece() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = proxy.client().await;
        for index in 0..8_u8 {
            client
                .put(format!("/registry/secrets/default/{index}"), vec![index; 1_000_000])
                .await;
        }
        for fragment in [true, false] {
            let create = WatchCreateRequest {
                fragment,
                ..all_under("/registry/secrets/", 1)
            };
            let mut watch = Watch::open(&client, create).await;
            assert!(watch.next().await.created);
            let mut fragments = 0;
            let mut events = Vec::new();
            while events.len() < 8 {
                let response = watch.next().await;
                assert!(
                    !response.events.is_empty(),
                    "a response without events would pass for progress"
                );
                fragments += usize::from(response.fragment);
                events.extend(response.events);
            }
            assert_eq!(fragments > 0, fragment, "{version:?}: {fragments} fragments");
            for (index, event) in (0..8_u8).zip(events) {
                assert_eq!(event.kv.unwrap().value, vec![index; 1_000_000]);
            }
        }
    }
}

#[tokio::test]
async fn progress_never_overtakes_events() {
    for version in Version::all() {
        let name = match version {
            Version::V3_4 | Version::V3_5 => "experimental-watch-progress-notify-interval",
            Version::V3_6 | Version::V3_7 => "watch-progress-notify-interval",
        };
        let etcd = Setup::new(version).flag(format!("--{name}=100ms")).start().await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = proxy.client().await;
        let create = WatchCreateRequest {
            progress_notify: true,
            ..all_under("/registry/secrets/", 0)
        };
        let mut watch = Watch::open(&client, create).await;
        assert!(watch.next().await.created);
        let writer = tokio::spawn(async move {
            for index in 0..300 {
                // Large ones take longest to open.
                client
                    .put(
                        format!("/registry/secrets/default/{}", index % 7),
                        vec![1; 1 + index % 3 * 300_000],
                    )
                    .await;
                client
                    .put("/registry/configmaps/default/x", "only moves the revision")
                    .await;
            }
        });
        let (mut events, mut progress, mut passed) = (0, 0, 0);
        while events < 300 || progress < 3 {
            let response = watch.next().await;
            if response.events.is_empty() {
                progress += 1;
                passed = response.header.unwrap().revision;
            }
            for event in response.events {
                let revision = event.kv.unwrap().mod_revision;
                assert!(
                    revision > passed,
                    "{version:?}: event {revision} after progress {passed}"
                );
                events += 1;
            }
        }
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_streams() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = proxy.client().await;
        let key = |index: usize| format!("/registry/secrets/default/{index}");
        let mut watches = Vec::new();
        for index in 0..1000 {
            let create = WatchCreateRequest {
                key: key(index).into(),
                prev_kv: true,
                ..WatchCreateRequest::default()
            };
            watches.push(Watch::open(&client, create).await);
        }
        for watch in &mut watches {
            assert!(watch.next().await.created);
        }
        for index in 0..1000 {
            client.put(key(index), index.to_string()).await;
        }
        for (index, watch) in watches.iter_mut().enumerate() {
            let event = watch.events(1).await.remove(0);
            assert_eq!(event.kv.unwrap().value, index.to_string().into_bytes());
        }
        // A client that goes away leaves nothing behind in etcd.
        assert!(watchers(&etcd).await >= 1000);
        drop(watches);
        let start = Instant::now();
        while watchers(&etcd).await > 0 {
            assert!(
                start.elapsed() < PATIENCE,
                "{version:?}: {} watchers are left",
                watchers(&etcd).await
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How many watches etcd runs.
async fn watchers(etcd: &Etcd) -> u64 {
    let metrics = http::get(&etcd.endpoint(), "/metrics").await.unwrap().body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("etcd_debugging_mvcc_watcher_total"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|count| count.parse().ok())
        .unwrap()
}

#[tokio::test]
async fn a_slow_watcher_starves_nobody() {
    let etcd = Etcd::start(Version::share()).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    let create = || WatchCreateRequest {
        prev_kv: true,
        ..all_under("/registry/secrets/", 1)
    };
    // Never read until the end: what it is owed may not block the others, on the same connection or another.
    let mut slow = Watch::open(&client, create()).await;
    let mut quick = Watch::open(&client, create()).await;
    let mut elsewhere = Watch::open(&proxy.client().await, create()).await;
    let writes = 40;
    for index in 0..writes {
        client.put(SECRET, vec![index; 1_000_000]).await;
        for watch in [&mut quick, &mut elsewhere] {
            let mut events = Vec::new();
            while events.is_empty() {
                events = watch.next().await.events;
            }
            assert_eq!(events[0].kv.as_ref().unwrap().value[0], index);
        }
    }
    let mut next = 0;
    while next < writes {
        for event in slow.next().await.events {
            assert_eq!(event.kv.unwrap().value[0], next);
            assert_eq!(event.prev_kv.is_some(), next > 0);
            next += 1;
        }
    }
}

#[tokio::test]
async fn a_deletion_by_lease_shows_what_was_there() {
    let etcd = Etcd::start(Version::share()).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    client
        .lease()
        .lease_grant(LeaseGrantRequest { ttl: 3600, id: 77 })
        .await
        .unwrap();
    let put = PutRequest {
        key: SECRET.into(),
        value: b"short-lived".to_vec(),
        lease: 77,
        ..PutRequest::default()
    };
    client.kv().put(put).await.unwrap();
    let create = WatchCreateRequest {
        prev_kv: true,
        ..all_under("/registry/", 0)
    };
    let mut watch = Watch::open(&client, create).await;
    assert!(watch.next().await.created);
    client
        .lease()
        .lease_revoke(LeaseRevokeRequest { id: 77 })
        .await
        .unwrap();
    let event = watch.events(1).await.remove(0);
    assert_eq!(event.r#type(), EventType::Delete);
    assert_eq!(event.kv.unwrap().value, b"");
    assert_eq!(event.prev_kv.unwrap().value, b"short-lived");
}
