//! Encodings that etcd's decoders read differently from one another, or from what they seem to say.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use rand::RngExt;

use super::{
    drive,
    generate::Generate,
    normal::Kind,
    pb::{Compare, PutRequest, RangeRequest, Request, TxnRequest},
    world::{POD, SECRET, World},
};
use crate::{
    rewrite::{Refusal, RefusalKind, UnaryRequest, UnaryRpc, WatchSession, range_stream_request, unary_request},
    wire::{WireError, put_bytes, put_raw, put_varint},
};

fn send(rpc: UnaryRpc, message: &[u8]) -> Result<UnaryRequest, Refusal> {
    unary_request(rpc, Bytes::copy_from_slice(message), &World::new().ctx())
}

fn refused(rpc: UnaryRpc, message: &[u8]) -> Refusal {
    send(rpc, message).map(drop).expect_err("it is refused")
}

fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, number, value);
    out
}

/// A length-delimited field with this varint for a tag.
fn tagged(tag: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_raw(&mut out, tag);
    put_raw(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

/// `inner` as the only operation of a transaction, in its failure branch.
fn in_txn(member: u32, inner: &[u8]) -> Vec<u8> {
    bytes(3, &bytes(member, inner))
}

#[test]
fn field_numbers_that_wrap_to_a_key_or_a_value_are_refused() {
    for (field, content) in [(1_u64, SECRET), (2, b"plaintext")] {
        for high in [1 << 32, 1 << 40, 7 << 32] {
            let trick = tagged((high + field) << 3 | 2, content);
            let put = [&bytes(1, SECRET)[..], &trick].concat();
            assert_eq!(refused(UnaryRpc::Put, &put), WireError::FieldNumber.into());
            assert_eq!(refused(UnaryRpc::Txn, &in_txn(2, &put)), WireError::FieldNumber.into());
        }
    }
}

#[test]
fn a_value_that_hides_in_an_overlong_tag_is_sealed() {
    let world = World::new();
    // 0x92 0x80 0x00: field 2, length-delimited, in three bytes.
    let put = [&bytes(1, SECRET)[..], &[0x92, 0x80, 0x00, 0x05], b"plain"].concat();
    let sent = send(UnaryRpc::Put, &put)
        .expect("every decoder reads it alike")
        .message
        .into_bytes();
    let sent = PutRequest::decode(sent).expect("it is a put");
    assert_eq!(world.opened(SECRET, &sent.value), b"plain");
}

#[test]
fn what_may_occur_once_may_not_occur_twice() {
    let twice = |field: Vec<u8>| [&field[..], &field].concat();
    let put = bytes(1, SECRET);
    for (rpc, message) in [
        (UnaryRpc::Put, twice(put.clone())),
        (UnaryRpc::Put, [&put[..], &twice(bytes(2, b"v"))].concat()),
        (UnaryRpc::Put, [&put[..], &varint(5, 1), &[0x28, 0x00]].concat()),
        (UnaryRpc::Range, twice(put.clone())),
        (UnaryRpc::Range, [&put[..], &bytes(2, b"z"), &bytes(2, b"\0")].concat()),
        (UnaryRpc::Range, [&put[..], &varint(6, 1), &varint(6, 4)].concat()),
        (UnaryRpc::Range, [&put[..], &twice(varint(8, 1))].concat()),
        (UnaryRpc::Range, [&put[..], &twice(varint(9, 1))].concat()),
        (
            UnaryRpc::DeleteRange,
            [&put[..], &bytes(2, b"z"), &bytes(2, b"\0")].concat(),
        ),
        (UnaryRpc::Txn, bytes(1, &[varint(2, 1), varint(2, 3)].concat())),
        (UnaryRpc::Txn, bytes(1, &[bytes(3, POD), bytes(3, SECRET)].concat())),
        (UnaryRpc::Txn, bytes(1, &[bytes(64, b"a"), bytes(64, b"b")].concat())),
    ] {
        assert!(
            matches!(refused(rpc, &message), Refusal::Malformed(WireError::Repeated(_))),
            "{message:?}"
        );
    }
    let (pod, secret) = (bytes(2, &bytes(1, POD)), bytes(2, &put));
    for op in [
        [&pod[..], &secret].concat(),
        [&secret[..], &bytes(1, &bytes(1, POD))].concat(),
        [&secret[..], &bytes(4, b"")].concat(),
    ] {
        assert_eq!(refused(UnaryRpc::Txn, &bytes(2, &op)), WireError::Oneof.into());
    }
    let watch = [
        bytes(1, &bytes(1, POD)),
        bytes(1, &bytes(1, b"/etcd-encryption-proxy/x")),
    ]
    .concat();
    let refused = WatchSession::new().request(watch.into(), &World::new().ctx());
    assert_eq!(refused.expect_err("it is refused"), WireError::Oneof.into());
}

#[test]
fn known_fields_must_have_their_wire_type() {
    for (rpc, message) in [
        (UnaryRpc::Put, varint(1, 7)),
        (UnaryRpc::Put, varint(2, 7)),
        (UnaryRpc::Put, bytes(5, b"\x01")),
        (UnaryRpc::Put, vec![0x13, 0x14]),
        (UnaryRpc::Range, varint(2, 7)),
        (UnaryRpc::Range, bytes(6, b"\x04")),
        (UnaryRpc::DeleteRange, vec![0x0d, 1, 2, 3, 4]),
        (UnaryRpc::Txn, varint(1, 1)),
        (UnaryRpc::Txn, varint(2, 1)),
        (UnaryRpc::Txn, bytes(2, &varint(2, 1))),
        (UnaryRpc::Txn, bytes(1, &bytes(2, b"\x03"))),
    ] {
        assert!(
            matches!(refused(rpc, &message), Refusal::Malformed(WireError::WrongType(_))),
            "{message:?}"
        );
    }
}

#[test]
fn an_empty_range_end_that_is_written_out_is_refused() {
    // etcd 3.4 to 3.6 answer such a Range with every key from `key` on.
    let message = [bytes(1, POD), bytes(2, b"")].concat();
    for (rpc, message) in [
        (UnaryRpc::Range, message.clone()),
        (UnaryRpc::DeleteRange, message.clone()),
        (UnaryRpc::Txn, in_txn(1, &message)),
        (UnaryRpc::Txn, in_txn(3, &message)),
        (UnaryRpc::Txn, bytes(1, &[bytes(3, POD), bytes(64, b"")].concat())),
    ] {
        assert_eq!(refused(rpc, &message), WireError::EmptyRangeEnd.into());
    }
}

#[test]
fn what_has_no_key_is_refused_wherever_it_stands() {
    // etcd refuses all of these; kine takes the ranges for every key that it has.
    let end = bytes(2, b"!");
    for (rpc, message) in [
        (UnaryRpc::Range, end.clone()),
        (UnaryRpc::Range, Vec::new()),
        (UnaryRpc::Range, [bytes(1, b""), end.clone(), varint(8, 1)].concat()),
        (UnaryRpc::Range, [end.clone(), varint(9, 1)].concat()),
        (UnaryRpc::Put, bytes(2, b"value")),
        (UnaryRpc::DeleteRange, end.clone()),
        (UnaryRpc::Txn, in_txn(1, &end)),
        (UnaryRpc::Txn, in_txn(2, &[bytes(2, b"value"), varint(3, 7)].concat())),
        (UnaryRpc::Txn, in_txn(3, &end)),
        (UnaryRpc::Txn, in_txn(4, &in_txn(1, &end))),
        (UnaryRpc::Txn, bytes(3, &bytes(1, &end))),
        (UnaryRpc::Txn, bytes(1, &varint(2, 2))),
    ] {
        assert_eq!(refused(rpc, &message), Refusal::EmptyKey, "{rpc:?} {message:?}");
    }
    let world = World::new();
    let streamed = range_stream_request(end.into(), &world.ctx()).map(drop);
    assert_eq!(streamed, Err(Refusal::EmptyKey));
}

#[test]
fn value_compares_and_sorts_are_refused_only_over_ciphertext() {
    let compare = |key: &[u8], range_end: &[u8], target: u64| {
        let compare = Compare {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            ..Compare::default()
        };
        bytes(1, &[compare.encode_to_vec(), varint(2, target)].concat())
    };
    let value_compare = |message: &[u8]| {
        let refusal = refused(UnaryRpc::Txn, message);
        assert!(matches!(refusal, Refusal::ValueCompare { .. }) && refusal.kind() == RefusalKind::InvalidArgument);
    };
    value_compare(&compare(SECRET, b"", 3));
    value_compare(&compare(b"/registry/a", b"/registry/z", 3));
    // etcd cuts an enum to 32 bits.
    value_compare(&compare(SECRET, b"", (1 << 32) + 3));
    value_compare(&bytes(2, &bytes(4, &compare(SECRET, b"", 3))));
    for fine in [
        compare(POD, b"", 3),
        compare(SECRET, b"", 2),
        compare(b"/registry/pods/", b"/registry/pods0", 3),
    ] {
        assert!(send(UnaryRpc::Txn, &fine).is_ok());
    }

    let sort = |key: &[u8], range_end: &[u8], target: u64| {
        let range = RangeRequest {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            ..RangeRequest::default()
        };
        [range.encode_to_vec(), varint(6, target)].concat()
    };
    for trick in [
        sort(b"/registry/", b"/registry0", 4),
        sort(b"/registry/", b"/registry0", (1 << 40) + 4),
    ] {
        assert!(matches!(refused(UnaryRpc::Range, &trick), Refusal::ValueSort { .. }));
        assert!(matches!(
            refused(UnaryRpc::Txn, &in_txn(1, &trick)),
            Refusal::ValueSort { .. }
        ));
    }
    for fine in [
        sort(SECRET, b"", 4),
        sort(b"/registry/pods/", b"/registry/pods0", 4),
        sort(b"/registry/", b"/registry0", 3),
    ] {
        assert!(send(UnaryRpc::Range, &fine).is_ok());
    }
}

#[test]
fn a_hundred_thousand_nested_transactions_are_a_clean_error() {
    // Built from the back, innermost first, lest the test be quadratic.
    let mut reversed: Vec<u8> = Vec::new();
    for tag in [0x22, 0x12].repeat(100_000) {
        let mut prefix = vec![tag];
        put_raw(&mut prefix, reversed.len() as u64);
        reversed.extend(prefix.iter().rev());
    }
    reversed.reverse();
    let refusal = refused(UnaryRpc::Txn, &reversed);
    assert_eq!(refusal, Refusal::TooManyOps);
    assert_eq!(refusal.to_string(), "etcdserver: too many operations in txn request");
}

#[test]
fn a_million_operations_are_a_clean_error() {
    assert_eq!(
        refused(UnaryRpc::Txn, &[0x12, 0x00].repeat(1_000_000)),
        Refusal::TooManyOps
    );
    assert!(send(UnaryRpc::Txn, &[0x1a, 0x00].repeat(10_000)).is_ok());
}

#[test]
fn what_etcd_carries_out_is_not_too_deep() {
    let world = World::new();
    let mut txn = TxnRequest {
        success: vec![
            Request::Put(PutRequest {
                key: SECRET.to_vec(),
                value: b"v".to_vec(),
                ..PutRequest::default()
            })
            .into(),
        ],
        ..TxnRequest::default()
    };
    for _ in 0..128 {
        txn = TxnRequest {
            success: vec![Request::Txn(txn).into()],
            ..TxnRequest::default()
        };
    }
    let message = txn.encode_to_vec();
    let sent = send(UnaryRpc::Txn, &message)
        .expect("it is allowed")
        .message
        .into_bytes();
    // The put is in there, sealed, behind 128 adjusted lengths.
    let reopened = super::normal::map_values(&sent, Kind::Txn, &mut |key, value| world.opened(key, value));
    assert_eq!(reopened, message);
}

#[test]
fn an_operation_of_an_unknown_kind_is_not_passed_on() {
    assert_eq!(refused(UnaryRpc::Txn, &bytes(2, &bytes(5, b"x"))), Refusal::UnknownKind);
    // Beside a known one too: to the etcd that knows it, the last one counts.
    let beside = [bytes(1, &bytes(1, POD)), bytes(5, b"x")].concat();
    assert_eq!(refused(UnaryRpc::Txn, &bytes(2, &beside)), Refusal::UnknownKind);
    let watch = WatchSession::new().request(bytes(4, b"x").into(), &World::new().ctx());
    assert_eq!(watch.expect_err("it is refused"), Refusal::UnknownKind);
    // None at all is etcd's to refuse.
    assert!(send(UnaryRpc::Txn, &bytes(2, b"")).is_ok());
}

#[test]
fn a_message_cut_off_anywhere_is_refused_or_a_shorter_message() {
    let mut generate = Generate::from_seed(11);
    let whole = loop {
        let txn = generate.txn(3);
        let message = generate.strewn(&txn, Kind::Txn);
        if (500..5_000).contains(&message.len()) {
            break message;
        }
    };
    let mut refused = 0;
    for len in 0..whole.len() {
        match send(UnaryRpc::Txn, &whole[..len]) {
            // prost, another decoder, must be able to read what is let through.
            Ok(request) => drop(TxnRequest::decode(request.message.into_bytes()).expect("it is whole")),
            Err(Refusal::Malformed(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > whole.len() / 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What prost refuses may pass (it knows more fields), but no plaintext value that prost sees may.
    #[test]
    fn no_decoder_sees_a_plaintext_value_in_a_mutated_put(seed: u64) {
        let mut generate = Generate::from_seed(seed);
        let put = PutRequest { key: SECRET.to_vec(), value: b"plaintext".to_vec(), ..generate.put() };
        let put = PutRequest { ignore_value: false, ..put };
        let mut message = generate.strewn(&put, Kind::Put);
        for _ in 0..generate.0.random_range(1..4) {
            let at = generate.0.random_range(0..message.len());
            message[at] = generate.0.random();
        }
        let world = World::new();
        if let Ok(request) = send(UnaryRpc::Put, &message)
            && let Ok(sent) = PutRequest::decode(request.message.into_bytes())
            && world.ctx().keyring.chain(&sent.key).is_some()
            && !sent.ignore_value
            && !sent.key.starts_with(b"/registry/leases/")
        {
            world.opened(&sent.key, &sent.value);
        }
    }

    #[test]
    fn any_bytes_are_survived(data: Vec<u8>, answer: Vec<u8>) {
        let world = World::new();
        drive::unary(&data, &answer, &world.ctx());
        drive::streams(&data, &world.ctx());
    }

    #[test]
    fn mutated_messages_are_survived(seed: u64) {
        let world = World::new();
        let mut generate = Generate::from_seed(seed);
        let txn = generate.txn(2);
        let answer = generate.txn_response(&txn);
        let watch = generate.watch_response();
        let mut mutated = |message: Vec<u8>| {
            let mut message = message;
            if !message.is_empty() {
                for _ in 0..generate.0.random_range(0..3) {
                    let at = generate.0.random_range(0..message.len());
                    message[at] = generate.0.random();
                }
            }
            message
        };
        drive::unary(&mutated(txn.encode_to_vec()), &mutated(answer.encode_to_vec()), &world.ctx());
        drive::streams(&mutated(watch.encode_to_vec()), &world.ctx());
    }
}
