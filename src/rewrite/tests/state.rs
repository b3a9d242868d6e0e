//! The proxy's own records are as good as not there: what a client gets is what an etcd without them would answer.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use rand::RngExt;

use super::{
    etcd::Etcd,
    generate::Generate,
    pb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, KeyValue, LeaseTimeToLiveResponse, PutRequest, RangeRequest,
        RangeResponse, RangeStreamResponse, Request, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    },
    world::{POD, SECRET, STATE, World},
};
use crate::{
    rewrite::{
        OpenFailure, Refusal, RefusalKind, UnaryRequest, UnaryRpc, WatchSession, lease_revoke_request,
        lease_time_to_live_response, range_stream_request, unary_request,
    },
    types::{StatePrefix, own_lease},
    wire::{put_bytes, put_varint},
};

/// A store with keys before, under and behind the state prefix; and the same without those under it, as plaintext.
fn stores(generate: &mut Generate, world: &World) -> (Etcd, Etcd) {
    let (mut stored, mut visible) = (Etcd::default(), Etcd::default());
    for _ in 0..generate.0.random_range(0..12) {
        let mut kv = KeyValue {
            key: any_key(generate),
            create_revision: generate.0.random_range(1..5),
            mod_revision: generate.0.random_range(1..5),
            version: generate.0.random_range(0..3),
            value: vec![b'v', generate.0.random_range(b'0'..=b'9')],
            lease: 0,
        };
        if !world.ctx().state.contains(&kv.key) {
            visible.0.insert(kv.key.clone(), kv.clone());
        }
        kv.value = world.sealed(&kv.key, &kv.value);
        stored.0.insert(kv.key.clone(), kv);
    }
    (stored, visible)
}

/// A store that reads ranges otherwise, as kine before 0.16.3 does, must not show what it was not asked for.
#[test]
fn an_answer_with_a_record_of_the_proxys_own_is_refused() {
    let world = World::new();
    let asked = RangeRequest {
        key: POD.to_vec(),
        range_end: b"/z".to_vec(),
        ..RangeRequest::default()
    };
    let kv = |key: &[u8]| KeyValue {
        key: key.to_vec(),
        value: b"v".to_vec(),
        ..KeyValue::default()
    };
    let answer = |keys: &[&[u8]]| RangeResponse {
        kvs: keys.iter().map(|key| kv(key)).collect(),
        ..RangeResponse::default()
    };
    let read = |request: &RangeRequest, answer: &RangeResponse| {
        let sent = unary_request(UnaryRpc::Range, request.encode_to_vec().into(), &world.ctx()).expect("it is allowed");
        let job = sent.response.open(answer.encode_to_vec().into())?;
        job.run(&world.ctx()).map(drop)
    };
    let keys_only = RangeRequest {
        keys_only: true,
        ..asked.clone()
    };
    for request in [&asked, &keys_only] {
        assert_eq!(read(request, &answer(&[POD])), Ok(()));
        assert_eq!(read(request, &answer(&[POD, STATE])), Err(OpenFailure::Stray));
        let streamed = range_stream_request(request.encode_to_vec().into(), &world.ctx()).expect("it is allowed");
        let chunk = RangeStreamResponse {
            range_response: Some(answer(&[STATE])),
        };
        let job = streamed
            .responses
            .open(chunk.encode_to_vec().into())
            .expect("it is well formed");
        assert_eq!(job.run(&world.ctx()).map(drop), Err(OpenFailure::Stray));
    }
}

fn any_key(generate: &mut Generate) -> Vec<u8> {
    let base = [
        &b"\0"[..],
        b"/a",
        POD,
        SECRET,
        b"/z",
        b"/etcd-encryption-proxy",
        b"/etcd-encryption-proxy/",
    ];
    let tail = [&b""[..], b"/", b"a", b"\xff"];
    [base[generate.0.random_range(0..7)], tail[generate.0.random_range(0..4)]].concat()
}

fn bounds(generate: &mut Generate) -> (Vec<u8>, Vec<u8>) {
    let end = match generate.0.random_range(0..4) {
        0 => Vec::new(),
        1 => vec![0],
        _ => any_key(generate),
    };
    (any_key(generate), end)
}

fn range(generate: &mut Generate) -> RangeRequest {
    let (key, range_end) = bounds(generate);
    let (mut sort_order, sort_target) = (generate.0.random_range(0..3), generate.0.random_range(0..4));
    let limit = generate.0.random_range(0..5);
    if sort_target != 0 && limit != 0 {
        // With a limit and no order etcd cuts before it sorts, which is not reproduced.
        sort_order = sort_order.max(1);
    }
    RangeRequest {
        key,
        range_end,
        limit,
        sort_order,
        sort_target,
        keys_only: generate.0.random_bool(0.2),
        count_only: generate.0.random_bool(0.2),
        min_mod_revision: generate.0.random_range(0..3),
        serializable: true,
        revision: 0,
    }
}

fn delete(generate: &mut Generate) -> DeleteRangeRequest {
    let (key, range_end) = bounds(generate);
    DeleteRangeRequest {
        key,
        range_end,
        prev_kv: generate.0.random(),
    }
}

fn sent<M: Message + Default>(request: &mut UnaryRequest) -> M {
    let mut out = Vec::new();
    while let Some(chunk) = request.message.next_chunk(7) {
        out.extend_from_slice(&chunk);
    }
    M::decode(&out[..]).expect("it is the message")
}

/// Whether nothing but state lies in the range.
fn is_inside(key: &[u8], range_end: &[u8]) -> bool {
    let state = StatePrefix::new(StatePrefix::DEFAULT).expect("it is a prefix");
    if range_end.is_empty() {
        state.contains(key)
    } else {
        state.contains(key) && range_end != [0] && range_end <= &b"/etcd-encryption-proxy0"[..] && key < range_end
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn ranges_do_not_see_them(seed: u64) {
        let (world, mut generate) = (World::new(), Generate::from_seed(seed));
        let (mut stored, visible) = stores(&mut generate, &world);
        let asked = range(&mut generate);
        let mut request = match world.send(UnaryRpc::Range, &asked) {
            Ok(request) => request,
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::StatePrefix);
                prop_assert!(is_inside(&asked.key, &asked.range_end));
                return Ok(());
            }
        };
        let answer: RangeResponse = if request.send_as == UnaryRpc::Txn {
            let asked: TxnRequest = sent(&mut request);
            world.answer(request, &stored.txn(&asked)).expect("it is well formed")
        } else {
            let asked: RangeRequest = sent(&mut request);
            world.answer(request, &stored.range(&asked)).expect("it is well formed")
        };
        prop_assert_eq!(answer, visible.range(&asked));
    }

    #[test]
    fn deletes_do_not_touch_them(seed: u64) {
        let (world, mut generate) = (World::new(), Generate::from_seed(seed));
        let (mut stored, mut visible) = stores(&mut generate, &world);
        let before = stored.clone();
        let asked = delete(&mut generate);
        let Ok(mut request) = world.send(UnaryRpc::DeleteRange, &asked) else {
            prop_assert!(is_inside(&asked.key, &asked.range_end));
            return Ok(());
        };
        let answer: DeleteRangeResponse = if request.send_as == UnaryRpc::Txn {
            let asked: TxnRequest = sent(&mut request);
            world.answer(request, &stored.txn(&asked)).expect("it is well formed")
        } else {
            let asked: DeleteRangeRequest = sent(&mut request);
            world.answer(request, &stored.delete_range(&asked)).expect("it is well formed")
        };
        prop_assert_eq!(answer, visible.delete_range(&asked));
        let state = world.ctx().state;
        prop_assert!(before.0.keys().filter(|key| state.contains(key)).all(|key| stored.0.contains_key(key)));
    }

    #[test]
    fn transactions_do_not_see_or_touch_them(seed: u64) {
        let (world, mut generate) = (World::new(), Generate::from_seed(seed));
        let (mut stored, mut visible) = stores(&mut generate, &world);
        let asked = txn(&mut generate, 2);
        let Ok(mut request) = world.send(UnaryRpc::Txn, &asked) else {
            return Ok(());
        };
        let before = stored.clone();
        let asked_of_etcd: TxnRequest = sent(&mut request);
        let answer: TxnResponse = world.answer(request, &stored.txn(&asked_of_etcd)).expect("it is well formed");
        prop_assert_eq!(answer, visible.txn(&asked));
        let state = world.ctx().state;
        prop_assert!(before.0.iter().filter(|(key, _)| state.contains(key)).all(|(key, kv)| stored.0.get(key) == Some(kv)));
    }
}

fn txn(generate: &mut Generate, depth: usize) -> TxnRequest {
    let compare = if generate.0.random() {
        Vec::new()
    } else {
        vec![Compare {
            key: POD.to_vec(),
            ..Compare::default()
        }]
    };
    let mut ops = || {
        (0..generate.0.random_range(0..4))
            .map(|_| {
                let request = match generate.0.random_range(0..if depth == 0 { 3 } else { 4 }) {
                    0 => Request::Range(range(generate)),
                    1 => Request::DeleteRange(delete(generate)),
                    2 => Request::Put(PutRequest {
                        key: SECRET.to_vec(),
                        value: if generate.0.random() {
                            b"new".to_vec()
                        } else {
                            Vec::new()
                        },
                        prev_kv: true,
                        ..PutRequest::default()
                    }),
                    _ => Request::Txn(txn(generate, depth - 1)),
                };
                request.into()
            })
            .collect()
    };
    let (success, failure) = (ops(), ops());
    TxnRequest {
        compare,
        success,
        failure,
    }
}

/// etcd sorts by values before it leaves them out.
#[test]
fn keys_alone_are_sorted_by_their_values_around_them() {
    let world = World::new();
    let mut stored = Etcd::default();
    let mut visible = Etcd::default();
    for (key, value) in [
        (&b"/a"[..], b"3"),
        (b"/b", b"5"),
        (STATE, b"0"),
        (b"/f", b"4"),
        (b"/g", b"6"),
    ] {
        let kv = KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            version: 1,
            ..KeyValue::default()
        };
        stored.0.insert(kv.key.clone(), kv.clone());
        if key != STATE {
            visible.0.insert(kv.key.clone(), kv);
        }
    }
    for (sort_order, limit) in [(1, 0), (2, 0), (1, 3), (2, 1)] {
        let asked = RangeRequest {
            key: b"/a".to_vec(),
            range_end: b"/h".to_vec(),
            sort_order,
            sort_target: 4,
            keys_only: true,
            limit,
            ..RangeRequest::default()
        };
        let mut request = world.send(UnaryRpc::Range, &asked).expect("it is well formed");
        let halves: TxnRequest = sent(&mut request);
        let answer: RangeResponse = world.answer(request, &stored.txn(&halves)).expect("it is well formed");
        assert_eq!(answer, visible.range(&asked));

        let asked = TxnRequest {
            success: vec![Request::Range(asked).into()],
            ..TxnRequest::default()
        };
        let mut request = world.send(UnaryRpc::Txn, &asked).expect("it is well formed");
        let cut: TxnRequest = sent(&mut request);
        let answer: TxnResponse = world.answer(request, &stored.txn(&cut)).expect("it is well formed");
        assert_eq!(answer, visible.txn(&asked));
    }
}

#[test]
fn what_is_only_about_them_is_not_permitted() {
    let world = World::new();
    let refused = |rpc, message: &dyn Fn() -> Vec<u8>| {
        unary_request(rpc, Bytes::from(message()), &world.ctx()).expect_err("it is refused")
    };
    let (key, end) = (STATE.to_vec(), b"/etcd-encryption-proxy/t".to_vec());
    let put = PutRequest {
        key: key.clone(),
        ..PutRequest::default()
    };
    let get = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let list = RangeRequest {
        key: key.clone(),
        range_end: end.clone(),
        ..RangeRequest::default()
    };
    let txn = |request: Request| TxnRequest {
        failure: vec![request.into()],
        ..TxnRequest::default()
    };
    let guarded = |key: &[u8], range_end: &[u8]| TxnRequest {
        compare: vec![Compare {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            ..Compare::default()
        }],
        ..TxnRequest::default()
    };
    for (rpc, message) in [
        (UnaryRpc::Put, put.encode_to_vec()),
        (UnaryRpc::Range, get.encode_to_vec()),
        (UnaryRpc::Range, list.encode_to_vec()),
        (UnaryRpc::DeleteRange, get.encode_to_vec()),
        (UnaryRpc::Txn, txn(Request::Put(put)).encode_to_vec()),
        (UnaryRpc::Txn, txn(Request::Range(get.clone())).encode_to_vec()),
        (UnaryRpc::Txn, guarded(STATE, b"").encode_to_vec()),
        (UnaryRpc::Txn, guarded(b"/a", b"/z").encode_to_vec()),
        (UnaryRpc::Txn, guarded(b"\0", b"\0").encode_to_vec()),
    ] {
        let refusal = refused(rpc, &|| message.clone());
        assert_eq!(refusal, Refusal::StatePrefix);
        assert_eq!(refusal.to_string(), "etcdserver: permission denied");
        assert_eq!(refusal.kind(), RefusalKind::PermissionDenied);
    }
    let watch = WatchRequest {
        create_request: Some(WatchCreateRequest {
            key,
            range_end: end,
            ..WatchCreateRequest::default()
        }),
        progress_request: None,
    };
    let refused = WatchSession::new().request(watch.encode_to_vec().into(), &world.ctx());
    assert_eq!(refused.expect_err("it is refused"), Refusal::StatePrefix);
    let stream = range_stream_request(get.encode_to_vec().into(), &world.ctx());
    assert_eq!(stream.expect_err("it is refused"), Refusal::StatePrefix);
}

#[test]
fn a_stream_over_them_is_left_to_range() {
    let world = World::new();
    let all = RangeRequest {
        key: b"\0".to_vec(),
        range_end: b"\0".to_vec(),
        ..RangeRequest::default()
    };
    let refusal = range_stream_request(all.encode_to_vec().into(), &world.ctx()).expect_err("it is refused");
    assert_eq!(refusal.kind(), RefusalKind::Unimplemented);
}

#[test]
fn a_range_that_is_cut_keeps_its_other_fields() {
    let world = World::new();
    let mut message = RangeRequest {
        key: b"\0".to_vec(),
        range_end: b"\0".to_vec(),
        revision: 12,
        serializable: true,
        ..RangeRequest::default()
    }
    .encode_to_vec();
    put_varint(&mut message, 4000, 1);
    let request = unary_request(UnaryRpc::Range, message.clone().into(), &world.ctx()).expect("it is cut");
    assert_eq!(request.send_as, UnaryRpc::Txn);
    let half = |key: &[u8], end: &[u8]| {
        let mut half = Vec::new();
        put_bytes(&mut half, 1, key);
        put_bytes(&mut half, 2, end);
        // What follows key and range_end.
        half.extend_from_slice(&message[6..]);
        let mut op = Vec::new();
        put_bytes(&mut op, 1, &half);
        op
    };
    let mut expected = Vec::new();
    put_bytes(&mut expected, 2, &half(b"\0", b"/etcd-encryption-proxy/"));
    put_bytes(&mut expected, 2, &half(b"/etcd-encryption-proxy0", b"\0"));
    assert_eq!(request.message.into_bytes(), expected);
}

#[test]
fn leases_do_not_name_them() {
    let world = World::new();
    let mut message = LeaseTimeToLiveResponse {
        id: 4,
        keys: vec![POD.to_vec(), STATE.to_vec(), SECRET.to_vec()],
        ..LeaseTimeToLiveResponse::default()
    };
    let shown =
        lease_time_to_live_response(message.encode_to_vec().into(), world.ctx().state).expect("it is well formed");
    message.keys.remove(1);
    assert_eq!(shown.into_bytes(), message.encode_to_vec());
}

#[test]
fn leases_of_theirs_are_not_a_clients_to_end() {
    let revoke = |id: i64| {
        let mut message = Vec::new();
        put_varint(&mut message, 1, id.cast_unsigned());
        message
    };
    for random in [0, 7, u32::MAX] {
        assert_eq!(
            lease_revoke_request(&revoke(own_lease(random))),
            Err(Refusal::StatePrefix)
        );
    }
    for id in [0, 77, i64::MAX, -1] {
        assert_eq!(lease_revoke_request(&revoke(id)), Ok(()));
    }
    assert_eq!(lease_revoke_request(b""), Ok(()));
    // etcd would take the last one.
    let twice = [revoke(77), revoke(own_lease(7))].concat();
    assert!(matches!(lease_revoke_request(&twice), Err(Refusal::Malformed(_))));
}
