//! What one client of a soak does with its connection, until it leaves it and comes back on another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use super::Done;
use crate::calls::{self, Client, Load};
use crate::common::pb::etcdserverpb::watch_client::WatchClient;
use crate::common::pb::etcdserverpb::watch_request::RequestUnion;
use crate::common::pb::etcdserverpb::{WatchCreateRequest, WatchRequest};
use crate::common::pb::mvccpb::event::EventType;
use crate::target::Target;

const KIB: usize = 1024;
const PAGE: usize = 500;
/// Sizes of values, and the loads of each, with how often of a thousand. The rest are lists.
const SIZES: [(usize, [(Load, u32); 3]); 5] = [
    (64, [(Load::Put, 60), (Load::Get, 100), (Load::Update, 60)]),
    (KIB, [(Load::Put, 150), (Load::Get, 250), (Load::Update, 150)]),
    (16 * KIB, [(Load::Put, 50), (Load::Get, 80), (Load::Update, 50)]),
    (256 * KIB, [(Load::Put, 6), (Load::Get, 10), (Load::Update, 6)]),
    (1024 * KIB, [(Load::Put, 1), (Load::Get, 2), (Load::Update, 1)]),
];
const ALL: u32 = 1_000;
/// Whose keys a watch sees: they are written most.
const WATCHED: usize = KIB;
/// Watches that a client has at any moment, each on a stream of its own.
const WATCHES: usize = 4;

/// How long a connection lives, and a watch.
const LIFE: std::ops::Range<u64> = 5_000..30_000;
const WATCH: std::ops::Range<u64> = 500..10_000;

/// Puts what the clients expect to find.
pub async fn fill(target: &Target, clients: usize) {
    let (channel, prefix) = (target.connect().await, target.prefix());
    for (size, _) in SIZES {
        calls::fill(channel.clone(), &prefix, Load::Get, size, clients).await;
    }
    calls::fill(channel, &prefix, Load::List(PAGE), KIB, clients).await;
}

/// One connection after the other, `rate` requests a second, for as long as it is let.
pub async fn again_and_again(target: Arc<Target>, done: Arc<Done>, client: usize, rate: f64) {
    loop {
        let mut life = JoinSet::new();
        life.spawn(live(Arc::clone(&target), Arc::clone(&done), client, rate));
        // What fails, or is answered with another value than was written, ends a life by a panic that says so.
        if let Some(Err(_)) = life.join_next().await {
            count(&done.errors, 1);
            // Where nobody answers, there need not be a million of them.
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// From connecting to leaving, with requests and watches under way.
async fn live(target: Arc<Target>, done: Arc<Done>, client: usize, rate: f64) {
    let channel = target.connect().await;
    count(&done.connections, 1);
    let prefix = target.prefix();
    // End with this life, as their connection does.
    let mut watches = JoinSet::new();
    for _ in 0..WATCHES {
        watches.spawn(watch_again_and_again(
            channel.clone(),
            prefix.clone(),
            client,
            Arc::clone(&done),
        ));
    }
    let mut loads = Vec::new();
    for (size, shares) in SIZES {
        for (load, share) in shares {
            loads.push((share, Client::new(channel.clone(), load, &prefix, size, client).await));
        }
    }
    let mut lists = Client::new(channel, Load::List(PAGE), &prefix, KIB, client).await;
    let mut due = interval(Duration::from_secs_f64(1.0 / rate));
    // A machine that was busy catches up.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + between(LIFE);
    while Instant::now() < end {
        due.tick().await;
        chosen(&mut loads).unwrap_or(&mut lists).once().await;
        count(&done.requests, 1);
        if let Some(ended) = watches.try_join_next() {
            ended.expect("a watch that goes on");
        }
    }
}

/// One of `loads` by its share of all; none where it is the rest's turn.
fn chosen(loads: &mut [(u32, Client)]) -> Option<&mut Client> {
    let mut left = rand::rng().random_range(0..ALL);
    for (share, client) in loads {
        match left.checked_sub(*share) {
            Some(rest) => left = rest,
            None => return Some(client),
        }
    }
    None
}

/// One watch after the other.
async fn watch_again_and_again(channel: Channel, prefix: String, client: usize, done: Arc<Done>) {
    let own = format!("{prefix}{WATCHED}/client-{client:05}-");
    let mut end = own.clone().into_bytes();
    *end.last_mut().expect("a prefix") += 1;
    let written = calls::value(WATCHED);
    loop {
        let create = WatchCreateRequest {
            key: own.clone().into_bytes(),
            range_end: end.clone(),
            ..WatchCreateRequest::default()
        };
        let (asks, asked) = tokio::sync::mpsc::unbounded_channel();
        let request_union = Some(RequestUnion::CreateRequest(create));
        asks.send(WatchRequest { request_union }).expect("an open channel");
        let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let stream = client.watch(UnboundedReceiverStream::new(asked)).await;
        let mut responses = stream.expect("a watch").into_inner();
        count(&done.watches, 1);
        let over = Instant::now() + between(WATCH);
        // Ends by being dropped, as a client that has gone away.
        while let Ok(response) = timeout_at(over, responses.message()).await {
            let response = response.expect("an answer").expect("an open stream");
            assert!(!response.canceled, "a watch that was canceled");
            for event in &response.events {
                let kv = event.kv.as_ref().expect("a key");
                assert!(
                    event.r#type() == EventType::Put && kv.value == written,
                    "an event that is not what was written"
                );
            }
            count(&done.events, response.events.len() as u64);
        }
    }
}

fn between(millis: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rand::rng().random_range(millis))
}

fn count(what: &AtomicU64, by: u64) {
    what.fetch_add(by, Ordering::Relaxed);
}
