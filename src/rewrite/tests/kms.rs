//! Answers whose values wait for a KMS: nothing is opened twice, nothing is left out, and an outage is no corruption.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message;

use super::pb::{
    Event, KeyValue, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, WatchResponse,
};
use crate::{
    config::ResourceSelector,
    keyring::Keyring,
    keyspace::{EtcdPrefix, KeySpace},
    rewrite::{
        Context, OnUndecryptable, OpenFailure, OpenJob, Opened, Progress, UnaryRpc, WatchSession, unary_request,
    },
    types::{GroupResource, KeyName, StatePrefix, StorageKey},
    value::{Chain, Deks, Provider, SealError, paper_plugin::PaperPlugin},
};

struct World {
    plugin: Arc<PaperPlugin>,
    keyring: Keyring,
    state: StatePrefix,
}

impl World {
    fn new() -> Self {
        let plugin = PaperPlugin::new();
        let keys = Arc::clone(&plugin);
        let chain = Chain::new(vec![Provider::kms_v1(KeyName::new("paper"), keys)]).unwrap();
        let selector = ResourceSelector::Exact(GroupResource::new("", "secrets"));
        let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
        Self {
            plugin,
            keyring: Keyring::of_chain(selector, chain, keyspace),
            state: StatePrefix::new(StatePrefix::DEFAULT).unwrap(),
        }
    }

    fn ctx<'a>(&'a self, deks: &'a Deks) -> Context<'a> {
        Context {
            keyring: &self.keyring,
            state: &self.state,
            deks,
            on_undecryptable: OnUndecryptable::ReturnCiphertext,
        }
    }

    /// The `number`th Secret as etcd holds it, with a key of its own.
    fn stored(&self, number: usize) -> KeyValue {
        let mut kv = plain(number);
        let chain = self.keyring.chain(&kv.key).unwrap();
        let mut deks = Deks::default();
        let mut out = Vec::new();
        while let Err(error) = chain.to_storage(StorageKey(&kv.key), &kv.value, &deks, &mut out) {
            assert_eq!(error, SealError::Pending);
            deks.fetch().now_or_never().unwrap();
        }
        kv.value = out;
        kv
    }

    /// Runs `job` as the data path does, in small steps. Gives how often it waited.
    fn run(&self, mut job: OpenJob) -> (Result<Opened, OpenFailure>, usize) {
        let (mut deks, mut waited) = (Deks::default(), 0);
        loop {
            match job.step(&self.ctx(&deks), 1) {
                Ok(Progress::More(rest)) => job = rest,
                Ok(Progress::Waiting(rest)) => {
                    job = rest;
                    waited += 1;
                    deks.fetch().now_or_never().unwrap();
                }
                Ok(Progress::Done(opened)) => return (Ok(opened), waited),
                Err(failure) => return (Err(failure), waited),
            }
            assert!(waited < 100, "it must come to an end");
        }
    }

    fn read(&self, answer: &RangeResponse) -> (Result<RangeResponse, OpenFailure>, usize) {
        let asked = RangeRequest {
            key: b"/registry/secrets/".to_vec(),
            range_end: b"/registry/secrets0".to_vec(),
            ..RangeRequest::default()
        };
        let deks = Deks::default();
        let request = unary_request(UnaryRpc::Range, asked.encode_to_vec().into(), &self.ctx(&deks)).unwrap();
        let job = request.response.open(Bytes::from(answer.encode_to_vec())).unwrap();
        let (opened, waited) = self.run(job);
        let decode = |opened: Opened| RangeResponse::decode(opened.message.into_bytes()).unwrap();
        (opened.map(decode), waited)
    }

    fn watched(&self, events: Vec<Event>) -> (WatchResponse, usize, usize) {
        let response = WatchResponse {
            events,
            ..WatchResponse::default()
        };
        let deks = Deks::default();
        let job = WatchSession::new().response(response.encode_to_vec().into(), &self.ctx(&deks));
        let (opened, waited) = self.run(job.unwrap().unwrap());
        let opened = opened.unwrap();
        assert_eq!(opened.undecryptable.count(), 0, "an outage is no corruption");
        let passed_on = opened.undecryptable.unavailable();
        (
            WatchResponse::decode(opened.message.into_bytes()).unwrap(),
            waited,
            passed_on,
        )
    }
}

fn plain(number: usize) -> KeyValue {
    KeyValue {
        key: format!("/registry/secrets/ns/{number}").into_bytes(),
        value: format!("value {number}").into_bytes(),
        ..KeyValue::default()
    }
}

#[test]
fn a_list_with_none_of_its_keys_at_hand_waits_once() {
    let world = World::new();
    let answer = RangeResponse {
        kvs: (0..200).map(|number| world.stored(number)).collect(),
        ..RangeResponse::default()
    };
    for expected in [1, 0] {
        let (read, waited) = world.read(&answer);
        assert_eq!(read.unwrap().kvs, (0..200).map(plain).collect::<Vec<_>>());
        assert_eq!(waited, expected);
    }
    assert_eq!(world.plugin.unwrapped.load(Relaxed), 200);
}

/// Only the last keys fetched are kept with the message, and a cache may keep none.
#[test]
fn a_list_longer_than_what_is_fetched_at_once_comes_to_an_end_without_a_cache() {
    let world = World::new();
    world.plugin.forgets.store(true, Relaxed);
    let answer = RangeResponse {
        kvs: (0..1100).map(|number| world.stored(number)).collect(),
        ..RangeResponse::default()
    };
    let (read, waited) = world.read(&answer);
    assert_eq!(read.unwrap().kvs, (0..1100).map(plain).collect::<Vec<_>>());
    assert_eq!(waited, 3);
    assert_eq!(world.plugin.unwrapped.load(Relaxed), 1100, "each was asked for once");
}

#[test]
fn an_event_whose_previous_value_waits_is_opened_once_and_whole() {
    let world = World::new();
    let [kv, prev_kv] = [1, 2].map(|number| world.stored(number));
    // The key of the first is at hand, that of the second is not.
    let warm = RangeResponse {
        kvs: vec![kv.clone()],
        ..RangeResponse::default()
    };
    world.read(&warm).0.unwrap();
    let event = Event {
        kv: Some(kv),
        prev_kv: Some(prev_kv),
        ..Event::default()
    };
    let (seen, waited, passed_on) = world.watched(vec![event.clone(), event]);
    assert_eq!((seen.events.len(), waited, passed_on), (2, 1, 0));
    for event in seen.events {
        assert_eq!((event.kv.unwrap(), event.prev_kv.unwrap()), (plain(1), plain(2)));
    }
}

/// Whether an event waits is found out before any of it is opened: what was at hand then must be so until it is open.
#[test]
fn an_event_is_opened_whole_however_soon_a_cache_forgets() {
    let world = World::new();
    let [kv, prev_kv] = [1, 2].map(|number| world.stored(number));
    let event = Event {
        kv: Some(kv.clone()),
        prev_kv: Some(prev_kv.clone()),
        ..Event::default()
    };
    for at_hand in [vec![], vec![kv.clone()], vec![prev_kv.clone()], vec![kv, prev_kv]] {
        world.plugin.gives_once.store(false, Relaxed);
        world.plugin.forget();
        let warm = RangeResponse {
            kvs: at_hand,
            ..RangeResponse::default()
        };
        world.read(&warm).0.unwrap();
        world.plugin.gives_once.store(true, Relaxed);
        let (seen, waited, passed_on) = world.watched(vec![event.clone()]);
        assert_eq!((seen.events.len(), passed_on), (1, 0));
        let seen = &seen.events[0];
        assert_eq!(
            (seen.kv.clone(), seen.prev_kv.clone()),
            (Some(plain(1)), Some(plain(2)))
        );
        assert_eq!(waited, usize::from(warm.kvs.len() < 2));
    }
}

#[test]
fn an_outage_fails_a_read_but_ends_no_watch() {
    let world = World::new();
    let kv = world.stored(1);
    let answer = RangeResponse {
        kvs: vec![kv.clone()],
        ..RangeResponse::default()
    };
    world.plugin.is_down.store(true, Relaxed);
    let failure = world.read(&answer).0.unwrap_err();
    assert!(failure.is_transient(), "{failure}");
    let event = Event {
        kv: Some(kv.clone()),
        ..Event::default()
    };
    let (seen, _, passed_on) = world.watched(vec![event]);
    assert_eq!((seen.events[0].kv.as_ref(), passed_on), (Some(&kv), 1));
    // A plugin that says that it never will open it has found corruption, and that is the client's to see.
    world.plugin.is_final.store(true, Relaxed);
    assert_eq!(world.read(&answer).0.unwrap().kvs, [kv]);
}

#[test]
fn a_put_waits_for_its_key_and_is_refused_while_there_is_none() {
    let world = World::new();
    let put = PutRequest {
        key: b"/registry/secrets/ns/1".to_vec(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    };
    let message = Bytes::from(put.encode_to_vec());
    let mut deks = Deks::default();
    let pending = unary_request(UnaryRpc::Put, message.clone(), &world.ctx(&deks)).unwrap_err();
    assert!(pending.is_pending());
    world.plugin.is_down.store(true, Relaxed);
    deks.fetch().now_or_never().unwrap();
    let refusal = unary_request(UnaryRpc::Put, message, &world.ctx(&deks)).unwrap_err();
    assert!(!refusal.is_pending(), "{refusal}");
}

#[test]
fn a_transaction_of_many_puts_waits_for_all_their_keys_at_once() {
    let world = World::new();
    let put = |number| {
        let KeyValue { key, value, .. } = plain(number);
        let put = PutRequest {
            key,
            value,
            ..PutRequest::default()
        };
        RequestOp::from(Request::Put(put))
    };
    let txn = TxnRequest {
        success: (0..100).map(put).collect(),
        failure: (100..600).map(put).collect(),
        ..TxnRequest::default()
    };
    let message = Bytes::from(txn.encode_to_vec());
    let (mut deks, mut waited) = (Deks::default(), 0);
    let sealed = loop {
        match unary_request(UnaryRpc::Txn, message.clone(), &world.ctx(&deks)) {
            Ok(sealed) => break sealed,
            Err(refusal) => assert!(refusal.is_pending(), "{refusal}"),
        }
        waited += 1;
        deks.fetch().now_or_never().unwrap();
    };
    // As many as are fetched at a time, then the rest.
    assert_eq!((waited, world.plugin.generated.load(Relaxed)), (2, 600));
    let sealed = TxnRequest::decode(sealed.message.into_bytes()).unwrap();
    let values: Vec<_> = sealed.success.iter().chain(&sealed.failure).collect();
    let wrapped = |op: &&RequestOp| match &op.request {
        Some(Request::Put(put)) => put.value[..64].to_vec(),
        other => panic!("{other:?}"),
    };
    let distinct: std::collections::HashSet<_> = values.iter().map(wrapped).collect();
    assert_eq!(distinct.len(), 600, "no two values under one key");
}
