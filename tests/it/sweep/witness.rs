//! Who watches all secrets straight on etcd while a sweep is at work, and judges afterwards what was seen: each write of
//! the writers exactly once and when they were told, every other event a rewrite that changed nothing but the ciphertext,
//! never two keys at one revision, and in the end a store as the events say.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::writers::Log;
use crate::common::client::Client;
use crate::common::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::common::pb::mvccpb::event::EventType;
use crate::common::pb::mvccpb::{Event, KeyValue};
use crate::common::sweep::opened;
use crate::common::watch::{Watch, all_under};

const SECRETS: &str = "/registry/secrets/";
/// Whose event ends the watch. No secret, and so no business of a sweep's.
const LAST: &str = "/registry/secrets//";

type Store = BTreeMap<Vec<u8>, KeyValue>;

/// A watch of all secrets.
#[derive(Debug)]
pub struct Witness {
    start: Store,
    seen_to: Arc<AtomicI64>,
    watch: JoinHandle<Vec<Event>>,
}

/// What was seen.
#[derive(Debug)]
pub struct Story {
    /// Rewrites: when, and of which key.
    pub rewrites: Vec<(i64, Vec<u8>)>,
    /// All secrets at the end.
    pub end: Store,
}

impl Witness {
    /// Watches from now on, on whichever of `urls` answers.
    pub async fn begin(urls: &[String]) -> Self {
        let answer = Client::connect(&urls[0]).await.range(all()).await;
        let revision = answer.header.as_ref().expect("a header").revision;
        let seen_to = Arc::new(AtomicI64::new(revision));
        let clients = urls.iter().map(|url| Client::lazy(url)).collect();
        Self {
            start: store(answer),
            watch: tokio::spawn(watch(clients, Arc::clone(&seen_to))),
            seen_to,
        }
    }

    /// The revision of the latest event, for who compacts and should leave the watch something to resume at.
    pub fn seen_to(&self) -> i64 {
        self.seen_to.load(Ordering::Relaxed)
    }

    /// Judges, once the writers that left `log` and all sweeps have ended. Keys under the leases `ended` may go.
    ///
    /// # Panics
    /// If anything is not as it should be.
    pub async fn end(self, client: &Client, log: &Log, ended: &[i64]) -> Story {
        client.put(LAST, "").await;
        let events = self.watch.await.expect("the watch");
        client.delete(LAST).await;
        let mut judge = Judge {
            log,
            ended,
            seen: HashSet::new(),
            rewrites: Vec::new(),
            now: self.start,
        };
        judge.order(&events);
        for event in &events {
            let kv = event.kv.as_ref().expect("an event's key");
            match event.r#type() {
                EventType::Put => judge.put(kv),
                EventType::Delete => judge.delete(kv),
            }
        }
        for (plaintext, put) in &log.puts {
            assert!(
                put.revision.is_none() || judge.seen.contains(plaintext),
                "an acknowledged write was never seen: {:?} in {put:?}",
                String::from_utf8_lossy(plaintext)
            );
        }
        let end = store(client.range(all()).await);
        assert!(end == judge.now, "the store is not what the events say");
        Story {
            rewrites: judge.rewrites,
            end,
        }
    }
}

struct Judge<'a> {
    log: &'a Log,
    ended: &'a [i64],
    /// Plaintexts of the writers that have been seen.
    seen: HashSet<Vec<u8>>,
    rewrites: Vec<(i64, Vec<u8>)>,
    now: Store,
}

impl Judge<'_> {
    /// Revisions only grow; a lease's end alone changes several keys at one.
    fn order(&self, events: &[Event]) {
        let of = |event: &Event| (event.kv.as_ref().expect("a key").mod_revision, event.r#type());
        for pair in events.windows(2) {
            let ((before, first), (after, second)) = (of(&pair[0]), of(&pair[1]));
            let is_of_a_lease = (first, second) == (EventType::Delete, EventType::Delete) && !self.ended.is_empty();
            assert!(before < after || (before == after && is_of_a_lease), "{pair:?}");
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        let plaintext = opened(kv);
        if let Some(before) = self.now.get(&kv.key)
            && opened(before) == plaintext
        {
            let lasting = |kv: &KeyValue| (kv.create_revision, kv.lease);
            assert_eq!(lasting(kv), lasting(before), "a rewrite of {}", kv.key.escape_ascii());
            assert_eq!(kv.version, before.version + 1);
            self.rewrites.push((kv.mod_revision, kv.key.clone()));
        } else {
            let shown = String::from_utf8_lossy(&plaintext);
            let put = self.log.puts.get(&plaintext);
            let put = put.unwrap_or_else(|| panic!("nobody wrote {shown:?} to {}", kv.key.escape_ascii()));
            assert_eq!((&put.key, put.lease), (&kv.key, kv.lease), "{shown:?}");
            assert!(
                put.revision.is_none_or(|revision| revision == kv.mod_revision),
                "{shown:?} at {}: {put:?}",
                kv.mod_revision
            );
            assert!(self.seen.insert(plaintext.clone()), "{shown:?} came back");
        }
        self.now.insert(kv.key.clone(), kv.clone());
    }

    fn delete(&mut self, kv: &KeyValue) {
        let before = self.now.remove(&kv.key).expect("only what is there can go");
        let is_by_a_writer =
            self.log.deleted.get(&kv.mod_revision) == Some(&kv.key) || self.log.perhaps_deleted.contains(&kv.key);
        assert!(
            is_by_a_writer || self.ended.contains(&before.lease),
            "nobody deleted {}",
            kv.key.escape_ascii()
        );
    }
}

/// All events until that of [`LAST`], resumed behind the latest one whenever the stream ends.
async fn watch(clients: Vec<Client>, seen_to: Arc<AtomicI64>) -> Vec<Event> {
    let mut events = Vec::new();
    for client in clients.iter().cycle() {
        let from = all_under(SECRETS, seen_to.load(Ordering::Relaxed) + 1);
        if let Ok(mut watch) = Watch::try_open(client, from).await {
            while let Ok(Some(response)) = watch.try_next().await {
                assert!(!response.canceled, "{response:?}");
                for event in response.events {
                    let kv = event.kv.as_ref().expect("an event's key");
                    if kv.key == LAST.as_bytes() {
                        return events;
                    }
                    seen_to.store(kv.mod_revision, Ordering::Relaxed);
                    events.push(event);
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    events
}

fn all() -> RangeRequest {
    let create = all_under(SECRETS, 0);
    RangeRequest {
        key: create.key,
        range_end: create.range_end,
        ..RangeRequest::default()
    }
}

fn store(answer: RangeResponse) -> Store {
    answer.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect()
}
