//! What a reader gets for a value that does not open, by where it comes from.

use prost::Message;

use super::{
    pb::{
        DeleteRangeRequest, DeleteRangeResponse, Event, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse,
        Request, RequestOp, Response, ResponseOp, TxnRequest, TxnResponse, WatchResponse,
    },
    world::{CONFIG_MAP, LEASE, POD, SECRET, World, one_key},
};
use crate::{
    rewrite::{OnUndecryptable, OpenFailure, OpenJob, UnaryRpc, WatchSession},
    value::OpenError,
};

fn kv(key: &[u8], value: &[u8]) -> KeyValue {
    KeyValue {
        key: key.to_vec(),
        value: value.to_vec(),
        version: 3,
        ..KeyValue::default()
    }
}

/// A value that another key with the same name sealed.
fn foreign(key: &[u8]) -> Vec<u8> {
    let mut sealed = World::with_key(8).sealed(key, b"unreadable");
    // One of 256 whole ones would open to rubbish, since aescbc has nothing but its padding to tell by.
    sealed.pop();
    sealed
}

fn policies() -> [World; 2] {
    let mut strict = World::new();
    strict.on_undecryptable = OnUndecryptable::Fail;
    [World::new(), strict]
}

/// What a Range gives for a stored value: the value, and how many did not open.
fn read(world: &World, key: &[u8], stored: &[u8]) -> Result<(Vec<u8>, usize), OpenFailure> {
    let request = world.send(UnaryRpc::Range, &one_key()).expect("it is well formed");
    let answer = RangeResponse {
        kvs: vec![kv(key, stored)],
        ..RangeResponse::default()
    };
    run(
        world,
        request.response.open(answer.encode_to_vec().into())?,
        |answer: RangeResponse| answer.kvs[0].value.clone(),
    )
}

fn run<M: Message + Default>(
    world: &World,
    job: OpenJob,
    value: impl Fn(M) -> Vec<u8>,
) -> Result<(Vec<u8>, usize), OpenFailure> {
    let opened = job.run(&world.ctx())?;
    let count = opened.undecryptable.count();
    let message = M::decode(opened.message.into_bytes()).expect("it is the message");
    Ok((value(message), count))
}

#[test]
fn a_sealed_value_that_does_not_open_is_ciphertext_or_a_failure() {
    let [lenient, strict] = policies();
    for key in [SECRET, CONFIG_MAP, LEASE] {
        let stored = foreign(SECRET);
        assert_eq!(read(&lenient, key, &stored), Ok((stored.clone(), 1)));
        let failure = read(&strict, key, &stored).expect_err("it fails");
        assert!(failure.to_string().contains("/ns/a"));
        assert!(matches!(failure, OpenFailure::Value { .. }));
    }
    // Sealed for another key: with aescbc that opens, as it does in kube-apiserver. Without a rule nothing is opened.
    let stored = foreign(SECRET);
    assert_eq!(read(&strict, POD, &stored), Ok((stored, 0)));
}

#[test]
fn plaintext_is_a_failure_unless_identity_reads_it() {
    for world in policies() {
        for stored in [&b"plain"[..], b""] {
            assert_eq!(
                read(&world, SECRET, stored),
                Err(OpenFailure::Value {
                    key: crate::rewrite::EscapedKey::new(SECRET),
                    sealed_by: None,
                    source: OpenError::NoMatchingPrefix
                })
            );
            assert_eq!(read(&world, CONFIG_MAP, stored), Ok((stored.to_vec(), 0)));
            assert_eq!(read(&world, LEASE, stored), Ok((stored.to_vec(), 0)));
            assert_eq!(read(&world, POD, stored), Ok((stored.to_vec(), 0)));
        }
    }
}

#[test]
fn no_failure_holds_a_byte_of_the_value() {
    let [_, strict] = policies();
    for stored in [
        b"hunter2".to_vec(),
        [b"k8s:enc:aescbc:v1:key1:", &b"hunter2"[..]].concat(),
    ] {
        let failure = read(&strict, SECRET, &stored).expect_err("it fails");
        let shown = format!("{failure} {failure:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}

#[test]
fn after_a_write_nothing_fails() {
    let put = PutRequest {
        key: SECRET.to_vec(),
        prev_kv: true,
        ..PutRequest::default()
    };
    let read = RangeRequest {
        key: SECRET.to_vec(),
        ..RangeRequest::default()
    };
    for world in policies() {
        let sealed = foreign(SECRET);
        for (stored, shown) in [(&sealed[..], &sealed[..]), (b"plain", b""), (b"", b"")] {
            let shown = shown.to_vec();
            let previous = kv(SECRET, stored);

            let request = world.send(UnaryRpc::Put, &put).expect("it is well formed");
            let answer = PutResponse {
                prev_kv: Some(previous.clone()),
                ..PutResponse::default()
            };
            let job = request
                .response
                .open(answer.encode_to_vec().into())
                .expect("it is well formed");
            let value = |answer: PutResponse| answer.prev_kv.map(|kv| kv.value).unwrap_or_default();
            assert_eq!(run(&world, job, value), Ok((shown.clone(), 1)));

            let delete = DeleteRangeRequest {
                key: SECRET.to_vec(),
                ..DeleteRangeRequest::default()
            };
            let request = world.send(UnaryRpc::DeleteRange, &delete).expect("it is well formed");
            let answer = DeleteRangeResponse {
                prev_kvs: vec![previous.clone()],
                ..DeleteRangeResponse::default()
            };
            let job = request
                .response
                .open(answer.encode_to_vec().into())
                .expect("it is well formed");
            let value = |answer: DeleteRangeResponse| answer.prev_kvs[0].value.clone();
            assert_eq!(run(&world, job, value), Ok((shown.clone(), 1)));

            // A transaction that reads first and then writes, however deep.
            let inner = TxnRequest {
                success: vec![Request::Put(put.clone()).into()],
                ..TxnRequest::default()
            };
            let asked = TxnRequest {
                success: vec![Request::Range(read.clone()).into(), Request::Txn(inner).into()],
                failure: vec![Request::Range(read.clone()).into()],
                ..TxnRequest::default()
            };
            let found = || {
                ResponseOp::from(Response::Range(RangeResponse {
                    kvs: vec![previous.clone()],
                    ..RangeResponse::default()
                }))
            };
            let written = TxnResponse {
                succeeded: true,
                responses: vec![Response::Put(PutResponse::default()).into()],
                ..TxnResponse::default()
            };
            let answer = TxnResponse {
                succeeded: true,
                responses: vec![found(), Response::Txn(written).into()],
                ..TxnResponse::default()
            };
            let value = |answer: TxnResponse| match answer.responses[0].response.clone() {
                Some(Response::Range(range)) => range.kvs[0].value.clone(),
                _ => panic!("it was a range"),
            };
            let request = world.send(UnaryRpc::Txn, &asked).expect("it is well formed");
            let job = request
                .response
                .open(answer.encode_to_vec().into())
                .expect("it matches");
            assert_eq!(run(&world, job, value), Ok((shown.clone(), 1)));

            // Its other branch writes nothing, so there the policy holds.
            let answer = TxnResponse {
                responses: vec![found()],
                ..TxnResponse::default()
            };
            let request = world.send(UnaryRpc::Txn, &asked).expect("it is well formed");
            let job = request
                .response
                .open(answer.encode_to_vec().into())
                .expect("it matches");
            let fails = shown.is_empty() || world.on_undecryptable == OnUndecryptable::Fail;
            assert_eq!(run(&world, job, value).is_err(), fails);
        }
    }
}

#[test]
fn an_event_fails_over_its_value_but_not_over_the_previous_one() {
    let event = |kind: i32, value: &[u8], previous: &[u8]| {
        WatchResponse {
            events: vec![Event {
                r#type: kind,
                kv: Some(kv(SECRET, value)),
                prev_kv: Some(kv(SECRET, previous)),
            }],
            ..WatchResponse::default()
        }
        .encode_to_vec()
    };
    for world in policies() {
        let open = |message: Vec<u8>| {
            let job = WatchSession::new().response(message.into(), &world.ctx());
            let job = job.expect("it is well formed").expect("it is passed on");
            job.run(&world.ctx()).map(|opened| opened.message.into_bytes().to_vec())
        };
        let good = world.sealed(SECRET, b"v");
        let bad = foreign(SECRET);
        assert_eq!(open(event(0, &good, &bad)), Ok(event(0, b"v", &bad)));
        assert_eq!(open(event(0, &good, b"plain")), Ok(event(0, b"v", b"")));
        assert!(open(event(0, b"plain", &good)).is_err());
        let fails = world.on_undecryptable == OnUndecryptable::Fail;
        assert_eq!(open(event(0, &bad, &good)).is_err(), fails);
        // A DELETE's kv has no value to open, and no identity to miss.
        assert_eq!(open(event(1, b"", &good)), Ok(event(1, b"", b"v")));
    }
}

#[test]
fn an_answer_that_does_not_match_is_never_guessed_at() {
    let world = World::new();
    let range = || RequestOp::from(Request::Range(one_key()));
    let put = || {
        RequestOp::from(Request::Put(PutRequest {
            key: POD.to_vec(),
            ..PutRequest::default()
        }))
    };
    let found = || ResponseOp::from(Response::Range(RangeResponse::default()));
    let written = || ResponseOp::from(Response::Put(PutResponse::default()));
    let open = |success: Vec<RequestOp>, succeeded, responses: Vec<ResponseOp>| {
        let asked = TxnRequest {
            success,
            failure: vec![put()],
            ..TxnRequest::default()
        };
        let answer = TxnResponse {
            succeeded,
            responses,
            ..TxnResponse::default()
        };
        let request = world.send(UnaryRpc::Txn, &asked).expect("it is well formed");
        request.response.open(answer.encode_to_vec().into()).map(drop)
    };
    assert_eq!(open(vec![range(), put()], true, vec![found(), written()]), Ok(()));
    assert_eq!(open(vec![range()], false, vec![written()]), Ok(()));
    for (success, succeeded, responses) in [
        (vec![range(), put()], true, vec![written(), found()]),
        (vec![range(), put()], true, vec![found()]),
        (vec![range()], true, vec![found(), found()]),
        (vec![range()], true, vec![ResponseOp { response: None }]),
        (vec![range()], false, vec![found()]),
    ] {
        assert_eq!(open(success, succeeded, responses), Err(OpenFailure::Mismatch));
    }
    // Halves of a range that spans the proxy's own records.
    let all = RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    };
    for (succeeded, responses) in [
        (true, vec![found()]),
        (false, vec![found(), found()]),
        (true, vec![found(), written()]),
        (false, vec![]),
    ] {
        let answer = TxnResponse {
            succeeded,
            responses,
            ..TxnResponse::default()
        };
        let request = world.send(UnaryRpc::Range, &all).expect("it is well formed");
        let opened = request.response.open(answer.encode_to_vec().into());
        assert!(matches!(opened, Err(OpenFailure::Mismatch)));
    }
}
