//! The fence: in its epoch a request comes to what it would come to without; in any other nothing is written, and that is known.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::etcd::Etcd;
use super::pb::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, PutResponse, RangeRequest, Request, RequestOp, TxnRequest,
    TxnResponse,
};
use super::world::{POD, SECRET, World, is_sealed};
use crate::rewrite::{
    Fence, FencedResponse, Lifted, OpenFailure, UnaryRequest, UnaryRpc, Unfenced, epoch_request, is_epoch,
};
use crate::types::{Epoch, StatePrefix};

const EPOCH_KEY: &[u8] = b"/etcd-encryption-proxy/epoch";

fn state() -> StatePrefix {
    StatePrefix::new(StatePrefix::DEFAULT).unwrap()
}

fn epoch(nonce: &[u8]) -> Epoch {
    Epoch::found(nonce, 7).unwrap_or(Epoch::FIRST)
}

/// A store in which the epoch is `nonce`; empty for the first one.
fn store(world: &World, nonce: &[u8]) -> Etcd {
    let mut etcd = Etcd::default();
    let mut put = |key: &[u8], value: Vec<u8>| {
        let kv = KeyValue {
            key: key.to_vec(),
            value,
            mod_revision: 5,
            create_revision: 5,
            ..KeyValue::default()
        };
        etcd.0.insert(key.to_vec(), kv);
    };
    put(SECRET, world.sealed(SECRET, b"before"));
    put(POD, b"a pod".to_vec());
    if !nonce.is_empty() {
        put(EPOCH_KEY, nonce.to_vec());
    }
    etcd
}

/// Puts the request to `etcd` under the fence; what the client gets, or `None` where it is told that nothing was written.
fn fenced<M: Message + Default>(
    world: &World,
    etcd: &mut Etcd,
    request: UnaryRequest,
    epoch: &Epoch,
    nests: bool,
) -> Option<M> {
    let state = state();
    let fence = Fence::new(epoch, &state);
    let fenced = request.fenced(&fence, nests).expect("it can be fenced");
    let message = [&fenced.head[..], &fenced.message.into_bytes(), fence.field()].concat();
    let answer = etcd.txn(&TxnRequest::decode(&message[..]).expect("a transaction"));
    let lifted = fenced.response.open(answer.encode_to_vec().into());
    let job = match lifted.expect("it matches") {
        Lifted::Answered(job) => job,
        Lifted::Either(job, _) if is_still(etcd, epoch) => job,
        Lifted::Either(_, over) | Lifted::Over(over) => {
            assert_eq!(&over, epoch);
            return None;
        }
    };
    let opened = job.run(&world.ctx()).expect("it opens");
    Some(M::decode(opened.message.into_bytes()).expect("an answer"))
}

/// Whether the epoch is still this one, as it is asked for.
fn is_still(etcd: &Etcd, asked: &Epoch) -> bool {
    let request = RangeRequest::decode(epoch_request(&state())).expect("a range");
    let found = super::pb::RangeResponse {
        kvs: etcd.0.get(&request.key).cloned().into_iter().collect(),
        ..super::pb::RangeResponse::default()
    };
    is_epoch(&found.encode_to_vec(), asked, &state()).expect("an answer")
}

fn put(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.to_vec(),
        value: value.to_vec(),
        prev_kv: true,
        ..PutRequest::default()
    }
}

fn get(key: &[u8]) -> RequestOp {
    Request::Range(RangeRequest {
        key: key.to_vec(),
        ..RangeRequest::default()
    })
    .into()
}

/// That `key` was last written at `revision`.
fn guard(key: &[u8], revision: i64) -> Compare {
    Compare {
        target: 2,
        key: key.to_vec(),
        mod_revision: revision,
        ..Compare::default()
    }
}

#[test]
fn a_put_is_carried_out_in_its_epoch_and_in_no_other() {
    let world = World::new();
    for nonce in [&b""[..], b"nonce"] {
        let mut etcd = store(&world, nonce);
        let request = world.send(UnaryRpc::Put, &put(SECRET, b"after")).unwrap();
        let answer: PutResponse = fenced(&world, &mut etcd, request, &epoch(nonce), false).expect("carried out");
        assert_eq!(answer.header, store(&world, b"").txn(&TxnRequest::default()).header);
        assert_eq!(answer.prev_kv.expect("it was asked for").value, b"before");
        assert!(is_sealed(&etcd.0[SECRET].value));
        assert_eq!(world.opened(SECRET, &etcd.0[SECRET].value), b"after");
        for other in [&b""[..], b"other"] {
            if other == nonce {
                continue;
            }
            let before = etcd.0.clone();
            let request = world.send(UnaryRpc::Put, &put(SECRET, b"late")).unwrap();
            assert_eq!(
                fenced::<PutResponse>(&world, &mut etcd, request, &epoch(other), true),
                None
            );
            assert!(etcd.0 == before, "nothing is written");
        }
    }
}

/// Transactions as clients have them: create, update, more of each branch, nested ones, branches that write.
fn txns() -> Vec<(TxnRequest, bool)> {
    let write = |value: &[u8]| RequestOp::from(Request::Put(put(SECRET, value)));
    let delete = || {
        RequestOp::from(Request::DeleteRange(DeleteRangeRequest {
            key: POD.to_vec(),
            ..DeleteRangeRequest::default()
        }))
    };
    let txn = |compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>| TxnRequest {
        compare,
        success,
        failure,
    };
    let mut all = Vec::new();
    for guards in [
        vec![],
        vec![guard(SECRET, 5)],
        vec![guard(SECRET, 0)],
        vec![guard(SECRET, 5), guard(POD, 4)],
    ] {
        all.push((txn(guards.clone(), vec![write(b"v")], vec![]), false));
        all.push((
            txn(guards.clone(), vec![write(b"v"), get(POD)], vec![get(SECRET)]),
            false,
        ));
        all.push((
            txn(
                guards.clone(),
                vec![write(b"v")],
                vec![get(SECRET), get(POD), get(SECRET)],
            ),
            false,
        ));
        let reads = Request::Txn(txn(vec![], vec![get(SECRET)], vec![])).into();
        let writes = Request::Txn(txn(vec![guard(POD, 5)], vec![write(b"w")], vec![get(POD)]));
        all.push((txn(guards.clone(), vec![write(b"v")], vec![reads]), false));
        all.push((txn(guards.clone(), vec![writes.clone().into()], vec![get(POD)]), false));
        all.push((txn(guards.clone(), vec![write(b"v")], vec![write(b"else")]), true));
        all.push((txn(guards.clone(), vec![get(POD)], vec![write(b"else")]), true));
        all.push((txn(guards.clone(), vec![write(b"v")], vec![delete()]), true));
        all.push((txn(guards, vec![write(b"v")], vec![get(POD), writes.into()]), true));
    }
    all
}

/// What is sealed differs each time; the rest must not.
fn comparable(world: &World, etcd: &Etcd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let open = |kv: &KeyValue| (kv.key.clone(), world.opened(&kv.key, &kv.value));
    etcd.0.values().map(open).collect()
}

#[test]
fn a_transaction_comes_to_the_same_in_its_epoch_and_to_nothing_in_another() {
    let world = World::new();
    for (txn, writes_on_failure) in txns() {
        for nonce in [&b""[..], b"nonce"] {
            let (mut with, mut without) = (store(&world, nonce), store(&world, nonce));
            let request = || world.send(UnaryRpc::Txn, &txn).unwrap();
            let sent = request();
            let message = TxnRequest::decode(sent.message.into_bytes()).unwrap();
            let answered = without.txn(&message);
            let job = sent.response.open(answered.encode_to_vec().into()).unwrap();
            let expected = TxnResponse::decode(job.run(&world.ctx()).unwrap().message.into_bytes()).unwrap();
            let got: TxnResponse = fenced(&world, &mut with, request(), &epoch(nonce), true).expect("carried out");
            assert_eq!(got, expected, "{txn:?}");
            assert_eq!(comparable(&world, &with), comparable(&world, &without), "{txn:?}");

            let mut late = store(&world, b"later");
            let before = late.clone();
            assert_eq!(
                fenced::<TxnResponse>(&world, &mut late, request(), &epoch(nonce), true),
                None,
                "{txn:?}"
            );
            assert_eq!(late.0, before.0, "nothing is written: {txn:?}");
        }
        let fence = Fence::new(&Epoch::FIRST, &state());
        let request = world.send(UnaryRpc::Txn, &txn).unwrap();
        let is_refused = matches!(request.fenced(&fence, false), Err(Unfenced(_)));
        assert_eq!(is_refused, writes_on_failure, "{txn:?}");
    }
}

fn response(rpc: UnaryRpc, message: &impl Message, nests: bool) -> FencedResponse {
    let world = World::new();
    let fence = Fence::new(&epoch(b"nonce"), &state());
    let request = world.send(rpc, message).unwrap();
    request.fenced(&fence, nests).expect("it can be fenced").response
}

#[test]
fn an_answer_that_does_not_tell_the_epoch_is_none() {
    let update = txns().swap_remove(1).0;
    // The client's own response is missing.
    let fenced = response(UnaryRpc::Txn, &update, false);
    let opened = fenced.open(TxnResponse::default().encode_to_vec().into());
    assert!(matches!(opened, Err(OpenFailure::Mismatch)), "{opened:?}");
    let of = |keys: &[(&[u8], &[u8])]| {
        let kvs = keys.iter().map(|(key, value)| KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            ..KeyValue::default()
        });
        let found = super::pb::RangeResponse {
            kvs: kvs.collect(),
            ..super::pb::RangeResponse::default()
        };
        is_epoch(&found.encode_to_vec(), &epoch(b"nonce"), &state())
    };
    assert_eq!(of(&[(EPOCH_KEY, b"nonce")]), Ok(true));
    assert_eq!(of(&[(EPOCH_KEY, b"other")]), Ok(false));
    assert_eq!(of(&[]), Ok(false));
    assert_eq!(of(&[(SECRET, b"nonce")]), Err(OpenFailure::Mismatch));
    of(&[(EPOCH_KEY, b"nonce"), (EPOCH_KEY, b"nonce")]).unwrap_err();
    assert_eq!(is_epoch(&[], &Epoch::FIRST, &state()), Ok(true));
}

proptest! {
    #[test]
    fn any_answer_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let update = txns();
        for (rpc, nests) in [(UnaryRpc::Put, false), (UnaryRpc::Txn, false), (UnaryRpc::Txn, true)] {
            let fenced = match rpc {
                UnaryRpc::Put => response(rpc, &put(SECRET, b"v"), nests),
                _ => response(rpc, &update[if nests { 5 } else { 1 }].0, nests),
            };
            drop(fenced.open(Bytes::from(bytes.clone())));
            drop(is_epoch(&bytes, &epoch(b"nonce"), &state()));
        }
    }
}
