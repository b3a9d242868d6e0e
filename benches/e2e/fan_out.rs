//! One write that many watches see: how long until the last of them has, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::calls::{kv, put_request, value};
use crate::common::pb::etcdserverpb::watch_client::WatchClient;
use crate::common::pb::etcdserverpb::watch_request::RequestUnion;
use crate::common::pb::etcdserverpb::{WatchCreateRequest, WatchRequest};
use crate::measured::{Meter, Round};
use crate::target::Target;

/// Who watches, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Watchers {
    pub connections: usize,
    /// Each on a stream of its own, as kube-apiserver's caches are.
    pub watches: usize,
    pub value_bytes: usize,
}

/// How many writes everybody has seen, told by the last who has.
struct Seen {
    events: AtomicUsize,
    watches: usize,
    all: Notify,
}

/// Writes again as soon as all watches have the last write; blocks until it is done. A request is one event delivered, and
/// the latency is that of the last watch.
pub fn run(target: &Target, etcd: u32, watchers: Watchers, window: Duration) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let seen = Arc::new(Seen {
            events: AtomicUsize::new(0),
            watches: watchers.watches,
            all: Notify::new(),
        });
        let ended = open(target, watchers, &seen).await;
        let mut writer = kv(target.connect().await);
        let key = watched_key(target);
        let content = value(watchers.value_bytes);
        let mut written = 0;
        let mut write = async || {
            let asked = Instant::now();
            written += 1;
            writer
                .put(put_request(key.clone(), content.clone()))
                .await
                .expect("a put");
            while seen.events.load(Ordering::Relaxed) < written * watchers.watches {
                seen.all.notified().await;
            }
            asked.elapsed().as_secs_f64() * 1e6
        };
        for _ in 0..3 {
            write().await;
        }
        let (meter, from) = (Meter::begin(target, etcd), Instant::now());
        let mut rounds = Vec::new();
        while from.elapsed() < window {
            rounds.push(write().await);
        }
        let elapsed = from.elapsed();
        // What is counted are events; each of a write's has the latency of the last.
        let each = rounds
            .iter()
            .flat_map(|&took| std::iter::repeat_n(took, watchers.watches));
        let round = meter.end(elapsed, each.collect());
        ended.notify_waiters();
        round
    })
}

/// Opens the watches, and looks at what `observe` shows while all are there and nothing happens.
pub fn hold<T>(target: &Target, watchers: Watchers, observe: impl FnOnce() -> T) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let seen = Arc::new(Seen {
            events: AtomicUsize::new(0),
            watches: watchers.watches,
            all: Notify::new(),
        });
        let ended = open(target, watchers, &seen).await;
        let observed = observe();
        ended.notify_waiters();
        observed
    })
}

pub fn watched_key(target: &Target) -> Vec<u8> {
    format!("{}watched/one", target.prefix()).into_bytes()
}

/// Opens all watches and waits until each is there. They end when the one that is returned is notified.
async fn open(target: &Target, watchers: Watchers, seen: &Arc<Seen>) -> Arc<Notify> {
    let ended = Arc::new(Notify::new());
    for connection in 0..watchers.connections {
        let client = WatchClient::new(target.connect().await).max_decoding_message_size(usize::MAX);
        for _ in (connection..watchers.watches).step_by(watchers.connections) {
            let mut client = client.clone();
            let (asks, asked) = tokio::sync::mpsc::unbounded_channel();
            let create = WatchCreateRequest {
                key: watched_key(target),
                ..WatchCreateRequest::default()
            };
            let create = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            };
            asks.send(create).expect("an open channel");
            let mut events = client
                .watch(UnboundedReceiverStream::new(asked))
                .await
                .expect("a watch")
                .into_inner();
            let created = events.message().await.expect("an answer").expect("an open stream");
            assert!(created.created, "a watch that is not there");
            let (seen, ended) = (Arc::clone(seen), Arc::clone(&ended));
            tokio::spawn(async move {
                let _asks = asks;
                loop {
                    tokio::select! {
                        () = ended.notified() => return,
                        response = events.message() => {
                            let Ok(Some(response)) = response else { return };
                            seen.add(response.events.len());
                        }
                    }
                }
            });
        }
    }
    ended
}

impl Seen {
    fn add(&self, events: usize) {
        let now = self.events.fetch_add(events, Ordering::Relaxed) + events;
        if now.is_multiple_of(self.watches) {
            self.all.notify_one();
        }
    }
}
