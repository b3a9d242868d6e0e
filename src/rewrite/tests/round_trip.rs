//! What is sealed on the way to etcd and opened on the way back is the same; what has no value stays as it is, to the byte.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use rand::RngExt;

use super::{
    generate::Generate,
    normal::{Kind, map_values},
    pb::{KeyValue, PutRequest, RangeResponse, RangeStreamResponse},
    world::{POD, SECRET, World, is_sealed, one_key},
};
use crate::{
    rewrite::{OpenJob, Progress, UnaryRpc, WatchSession, range_stream_request, unary_request},
    wire::Spliced,
};

fn same(_: &[u8], value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

/// The whole of a message that is handed out in chunks of at most `max` bytes.
fn in_chunks(mut message: Spliced, max: usize) -> Vec<u8> {
    let promised = message.len();
    let mut out = Vec::new();
    while let Some(chunk) = message.next_chunk(max) {
        assert!(!chunk.is_empty() && chunk.len() <= max);
        out.extend_from_slice(&chunk);
        assert_eq!(message.len(), promised - out.len());
    }
    assert_eq!(out.len(), promised);
    out
}

/// Opens in steps of `budget` bytes.
fn open(mut job: OpenJob, world: &World, budget: usize) -> Spliced {
    loop {
        match job.step(&world.ctx(), budget).expect("every value opens") {
            Progress::More(rest) => job = rest,
            Progress::Waiting(_) => unreachable!("no KMS"),
            Progress::Done(opened) => {
                assert_eq!(opened.undecryptable.count(), 0);
                return opened.message;
            }
        }
    }
}

fn check_request(seed: u64, rpc: UnaryRpc, kind: Kind) {
    let world = World::new();
    let mut generate = Generate::from_seed(seed);
    let message = if rpc == UnaryRpc::Put {
        let put = generate.put();
        generate.strewn(&put, kind)
    } else {
        let txn = generate.txn(3);
        generate.strewn(&txn, kind)
    };
    let request = unary_request(rpc, message.clone().into(), &world.ctx()).expect("it is well formed");
    assert_eq!(request.send_as, rpc);
    let sent = in_chunks(request.message, generate.0.random_range(1..40_000));
    let mut sealed = 0;
    let reopened = map_values(&sent, kind, &mut |key, value| {
        if is_sealed(value) {
            sealed += 1;
            world.opened(key, value)
        } else {
            value.to_vec()
        }
    });
    assert_eq!(reopened, map_values(&message, kind, &mut same));
    if sealed == 0 {
        assert_eq!(sent, message);
    }
}

/// `answer` is plaintext: seals it, and checks that opening restores it.
fn check_answer(seed: u64, answer: &[u8], kind: Kind, begin: impl FnOnce(Bytes, &World) -> OpenJob) {
    let world = World::new();
    let mut generate = Generate::from_seed(seed);
    let stored = map_values(answer, kind, &mut |key, value| {
        if value.is_empty() {
            Vec::new()
        } else {
            world.sealed(key, value)
        }
    });
    let job = begin(stored.into(), &world);
    let opened = open(job, &world, generate.0.random_range(1..5_000));
    assert_eq!(
        in_chunks(opened, generate.0.random_range(1..40_000)),
        map_values(answer, kind, &mut same)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn puts_are_sealed_and_nothing_else_changes(seed: u64) {
        check_request(seed, UnaryRpc::Put, Kind::Put);
    }

    #[test]
    fn transactions_are_sealed_in_both_branches_and_at_every_depth(seed: u64) {
        check_request(seed, UnaryRpc::Txn, Kind::Txn);
    }

    #[test]
    fn reads_pass_as_they_are(seed: u64) {
        let world = World::new();
        let mut generate = Generate::from_seed(seed);
        let request = generate.range();
        let message = Bytes::from(generate.strewn(&request, Kind::Range));
        let sent = unary_request(UnaryRpc::Range, message.clone(), &world.ctx()).expect("it is well formed");
        let bytes = sent.message.into_bytes();
        prop_assert_eq!(bytes.as_ptr(), message.as_ptr(), "it was copied");
        prop_assert_eq!(bytes, message);

        let answer = generate.range_response(&request);
        let answer = generate.strewn(&answer, Kind::RangeResponse);
        check_answer(seed, &answer, Kind::RangeResponse, |stored, _| sent.response.open(stored).expect("it is well formed"));
    }

    #[test]
    fn previous_values_of_puts_are_opened(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let put = generate.put().encode_to_vec();
        let answer = generate.put_response();
        let answer = generate.strewn(&answer, Kind::PutResponse);
        check_answer(seed, &answer, Kind::PutResponse, |stored, world| {
            let request = unary_request(UnaryRpc::Put, put.into(), &world.ctx()).expect("it is well formed");
            request.response.open(stored).expect("it is well formed")
        });
    }

    #[test]
    fn previous_values_of_deletes_are_opened(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let answer = generate.delete_range_response();
        let answer = generate.strewn(&answer, Kind::DeleteRangeResponse);
        check_answer(seed, &answer, Kind::DeleteRangeResponse, |stored, world| {
            let delete = PutRequest { key: b"k".to_vec(), ..PutRequest::default() }.encode_to_vec();
            let request = unary_request(UnaryRpc::DeleteRange, delete.into(), &world.ctx()).expect("it is well formed");
            request.response.open(stored).expect("it is well formed")
        });
    }

    #[test]
    fn answers_to_transactions_are_opened_by_the_branch_taken(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let txn = generate.txn(3);
        let answer = generate.txn_response(&txn);
        let answer = generate.strewn(&answer, Kind::TxnResponse);
        check_answer(seed, &answer, Kind::TxnResponse, |stored, world| {
            let request = world.send(UnaryRpc::Txn, &txn).expect("it is well formed");
            request.response.open(stored).expect("it matches")
        });
    }

    #[test]
    fn events_are_opened(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let answer = generate.watch_response();
        let answer = generate.strewn(&answer, Kind::WatchResponse);
        check_answer(seed, &answer, Kind::WatchResponse, |stored, world| {
            WatchSession::new().response(stored, &world.ctx()).expect("it is well formed").expect("it is passed on")
        });
    }

    #[test]
    fn streamed_ranges_are_opened(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let request = generate.range();
        let answer = RangeStreamResponse { range_response: Some(generate.range_response(&request)) };
        let answer = generate.strewn(&answer, Kind::RangeStreamResponse);
        check_answer(seed, &answer, Kind::RangeStreamResponse, |stored, world| {
            let request = range_stream_request(request.encode_to_vec().into(), &world.ctx()).expect("it is well formed");
            request.responses.open(stored).expect("it is well formed")
        });
    }
}

#[test]
fn an_empty_put_is_sealed_and_ignore_value_is_not() {
    let world = World::new();
    let mut put = PutRequest {
        key: SECRET.to_vec(),
        lease: 5,
        ..PutRequest::default()
    };
    let sent = world
        .send(UnaryRpc::Put, &put)
        .expect("it is well formed")
        .message
        .into_bytes();
    let sent = PutRequest::decode(sent).expect("it is a put");
    assert!(is_sealed(&sent.value));
    assert_eq!(world.opened(SECRET, &sent.value), b"");
    assert_eq!(
        PutRequest {
            value: Vec::new(),
            ..sent
        },
        put
    );

    put.ignore_value = true;
    let sent = world.send(UnaryRpc::Put, &put).expect("it is well formed");
    assert_eq!(sent.message.into_bytes(), put.encode_to_vec());
}

#[test]
fn a_value_that_etcd_will_refuse_is_not_sent_in_clear() {
    let world = World::new();
    let put = PutRequest {
        key: SECRET.to_vec(),
        value: b"beside ignore_value".to_vec(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let sent = world.send(UnaryRpc::Put, &put).expect("it is well formed");
    let sent = PutRequest::decode(sent.message.into_bytes()).expect("it is a put");
    assert!(sent.ignore_value);
    assert_eq!(world.opened(SECRET, &sent.value), put.value);
}

#[test]
fn an_emptied_value_leaves_no_field() {
    let world = World::new();
    let kv = |value| KeyValue {
        key: SECRET.to_vec(),
        value,
        ..KeyValue::default()
    };
    let request = world.send(UnaryRpc::Range, &one_key()).expect("it is well formed");
    let answer = RangeResponse {
        kvs: vec![kv(world.sealed(SECRET, b""))],
        ..RangeResponse::default()
    };
    let job = request
        .response
        .open(answer.encode_to_vec().into())
        .expect("it is well formed");
    let opened = job.run(&world.ctx()).expect("it opens").message.into_bytes();
    let expected = RangeResponse {
        kvs: vec![kv(Vec::new())],
        ..RangeResponse::default()
    };
    assert_eq!(opened, expected.encode_to_vec());
}

/// Long enough to be opened in place; once with the message to itself, once with another holder.
#[test]
fn a_long_list_is_opened_in_place_or_beside() {
    let world = World::new();
    let list = |world: Option<&World>| RangeResponse {
        kvs: (0..2_000_u32)
            .map(|index| {
                let key = [if index % 3 == 0 { POD } else { SECRET }, &index.to_be_bytes()].concat();
                let value = vec![b'v'; index as usize % 700];
                KeyValue {
                    value: world.map_or_else(|| value.clone(), |world| world.sealed(&key, &value)),
                    key,
                    ..KeyValue::default()
                }
            })
            .collect(),
        more: true,
        ..RangeResponse::default()
    };
    let expected = list(None).encode_to_vec();
    let stored = Bytes::from(list(Some(&world)).encode_to_vec());
    assert!(stored.len() > 512 * 1024);
    for holder in [None, Some(stored.clone())] {
        let stored = Bytes::copy_from_slice(&stored);
        let second = holder.map(|_| stored.clone());
        let before = second.as_ref().map(|second| second.to_vec());
        let request = world.send(UnaryRpc::Range, &one_key()).expect("it is well formed");
        let job = request.response.open(stored).expect("it is well formed");
        let opened = open(job, &world, 10_000);
        assert!(in_chunks(opened, 64 * 1024) == expected);
        assert!(
            second.as_deref() == before.as_deref(),
            "another's message was written to"
        );
    }
}

#[test]
fn an_answer_without_a_sealed_value_is_not_copied() {
    let world = World::new();
    let answer = RangeResponse {
        kvs: vec![KeyValue {
            key: POD.to_vec(),
            value: b"v".to_vec(),
            ..KeyValue::default()
        }],
        ..RangeResponse::default()
    };
    let stored = Bytes::from(answer.encode_to_vec());
    let request = world.send(UnaryRpc::Range, &one_key()).expect("it is well formed");
    let job = request.response.open(stored.clone()).expect("it is well formed");
    let mut opened = job.run(&world.ctx()).expect("it opens").message;
    let chunk = opened.next_chunk(usize::MAX).expect("there is one");
    assert_eq!(chunk.as_ptr(), stored.as_ptr());
    assert!(opened.is_empty());
}

#[test]
fn a_value_that_the_client_had_sealed_is_noticed_and_sealed_again() {
    let world = World::new();
    for (value, twice) in [(&b"k8s:enc:aescbc:v1:key1:..."[..], true), (b"k8s\0plain", false)] {
        let put = PutRequest {
            key: SECRET.to_vec(),
            value: value.to_vec(),
            ..PutRequest::default()
        };
        let sent = world.send(UnaryRpc::Put, &put).expect("it is well formed");
        assert_eq!(sent.response.seals_twice(), twice);
        let sent = PutRequest::decode(sent.message.into_bytes()).expect("it is a put");
        assert_eq!(world.opened(SECRET, &sent.value), value);
    }
}
