//! Target: the proxy before a model of etcd, beside the model alone. A client must not be able to tell them apart, nor
//! may its requests leave anything else in etcd than sealing its values would.

use bytes::Bytes;
use etcd_encryption_proxy::{
    rewrite::{OnUndecryptable, Refusal, UnaryRpc, unary_request},
    types::KeyRange,
};
use prost::{DecodeError, Message};

use super::{
    generate,
    opened::{self, Pace},
    pb::{
        etcdserverpb::{
            DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse, request_op::Request, response_op::Response,
        },
        mvccpb::KeyValue,
    },
    sent,
    source::Source,
    store::Store,
    world::{KEYS, World},
};

/// Requests of one client, at most this many.
const REQUESTS: usize = 4;

/// More than the length from which on answers are opened in place.
const LONG: usize = 270 * 1024;

/// What etcd holds at first, then requests.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let world = World::pick(&mut source);
    let pace = Pace {
        budget: 1 + source.below(4) * 100_000,
        chunk: 1_000 + source.below(4) * 20_000,
    };
    let (mut alone, mut behind) = stores(&mut source, world);
    let own: Vec<KeyValue> = own(&behind, world);
    for _ in 0..REQUESTS {
        if source.is_empty() {
            break;
        }
        let request = match source.below(4) {
            0 => Request::RequestRange(generate::range(&mut source)),
            1 => Request::RequestPut(generate::put(&mut source, world)),
            2 => Request::RequestDeleteRange(generate::delete_range(&mut source)),
            _ => Request::RequestTxn(generate::txn(&mut source, world)),
        };
        ask(&request, (&mut alone, &mut behind), world, pace);
    }
    assert_eq!(
        own,
        self::own(&behind, world),
        "a record of the proxy's own was changed"
    );
    behind.kvs.retain(|key, _| !world.state.contains(key));
    for (key, kv) in &mut behind.kvs {
        kv.value = world.opened(key, &kv.value).expect("what is stored opens");
    }
    assert_eq!(alone, behind);
}

fn ask(request: &Request, (alone, behind): (&mut Store, &mut Store), world: &World, pace: Pace) {
    let ctx = world.ctx(OnUndecryptable::Fail);
    let (rpc, message) = sent::encode(request);
    let sent = match unary_request(rpc, Bytes::from(message), &ctx) {
        Ok(sent) => sent,
        Err(refusal) => {
            assert!(is_just(request, &refusal, world), "{refusal}");
            return;
        }
    };
    let upstream = sent::drain(sent.message, pace.chunk);
    let upstream = sent::decode(sent.send_as, &upstream).expect("what is sent is a message");
    let answer = Bytes::from(encode(&behind.answer(&upstream)));
    let job = sent.response.open(answer).expect("the answer fits the request");
    let opened = opened::run(job, &ctx, pace).expect("every value opens");
    let opened = decode(rpc, &opened).expect("what is answered is a message");
    assert_eq!(opened, alone.answer(request));
}

/// Whether there is a reason for a refusal.
fn is_just(request: &Request, refusal: &Refusal, world: &World) -> bool {
    let meets = |key: &[u8], end: &[u8]| KeyRange::new(key, end).meets_prefix(world.state.as_bytes());
    let any_op = |of: &dyn Fn(&Request) -> bool| match request {
        Request::RequestTxn(txn) => txn
            .success
            .iter()
            .chain(&txn.failure)
            .filter_map(|op| op.request.as_ref())
            .any(of),
        _ => false,
    };
    let here = match (refusal, request) {
        (Refusal::StatePrefix, Request::RequestPut(put)) => world.state.contains(&put.key),
        (Refusal::StatePrefix, Request::RequestRange(range)) => meets(&range.key, &range.range_end),
        (Refusal::StatePrefix, Request::RequestDeleteRange(range)) => meets(&range.key, &range.range_end),
        (Refusal::StatePrefix, Request::RequestTxn(txn)) => txn
            .compare
            .iter()
            .any(|compare| meets(&compare.key, &compare.range_end)),
        (Refusal::ValueCompare { .. }, Request::RequestTxn(txn)) => {
            txn.compare.iter().any(|compare| compare.target == 3)
        }
        (Refusal::NoSuchLease, Request::RequestPut(put)) => put.lease >> 32 == 0x6565_7001,
        (Refusal::SortOption, Request::RequestRange(range)) => {
            !(0..=2).contains(&range.sort_order) || !(0..=4).contains(&range.sort_target)
        }
        (Refusal::ValueSort { .. }, Request::RequestRange(range)) => range.sort_target == 4,
        _ => false,
    };
    here || any_op(&|nested| is_just(nested, refusal, world))
}

/// The same values twice: as a client would store them in an etcd of its own, and sealed, among the proxy's own records.
fn stores(source: &mut Source<'_>, world: &World) -> (Store, Store) {
    let (mut alone, mut behind) = (Store::default(), Store::default());
    let present = u32::from_le_bytes([source.byte(), source.byte(), source.byte(), 0]);
    let is_long = source.rarely();
    for (index, key) in (0i64..).zip(KEYS) {
        if present >> index & 1 == 0 {
            continue;
        }
        let value = if is_long && index < 2 {
            vec![b'v'; LONG]
        } else {
            generate::not_sealed(source.bytes(40).to_vec())
        };
        let revisions = source.byte();
        let kv = KeyValue {
            key: key.to_vec(),
            value,
            create_revision: i64::from(revisions & 7),
            mod_revision: i64::from(revisions >> 3),
            version: 1 + i64::from(revisions & 1),
            lease: 0,
        };
        let sealed = KeyValue {
            value: world.sealed(key, &kv.value),
            ..kv.clone()
        };
        if !world.state.contains(key) {
            alone.kvs.insert(key.to_vec(), kv);
        }
        behind.kvs.insert(key.to_vec(), sealed);
    }
    (alone, behind)
}

fn own(store: &Store, world: &World) -> Vec<KeyValue> {
    let own = store.kvs.values().filter(|kv| world.state.contains(&kv.key));
    own.cloned().collect()
}

fn encode(response: &Response) -> Vec<u8> {
    match response {
        Response::ResponseRange(response) => response.encode_to_vec(),
        Response::ResponsePut(response) => response.encode_to_vec(),
        Response::ResponseDeleteRange(response) => response.encode_to_vec(),
        Response::ResponseTxn(response) => response.encode_to_vec(),
    }
}

fn decode(rpc: UnaryRpc, message: &[u8]) -> Result<Response, DecodeError> {
    Ok(match rpc {
        UnaryRpc::Range => Response::ResponseRange(RangeResponse::decode(message)?),
        UnaryRpc::Put => Response::ResponsePut(PutResponse::decode(message)?),
        UnaryRpc::DeleteRange => Response::ResponseDeleteRange(DeleteRangeResponse::decode(message)?),
        UnaryRpc::Txn => Response::ResponseTxn(TxnResponse::decode(message)?),
    })
}

/// Everything stored, and every kind of request.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for world in 0..4u8 {
        for salt in 0..12u8 {
            let mut seed = vec![world, salt, salt / 3, 0xff, 0xff, 0xff];
            seed.push(if salt == 0 { 0xa5 } else { 0 });
            seed.extend((0..240u8).map(|at| at.wrapping_mul(salt * 2 + 41).wrapping_add(salt * 7)));
            seeds.push(seed);
        }
        // Everything: some of it by key, by revision and by value, of which only the keys; and its deletion.
        for request in [
            [0, 18, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0],
            [0, 18, 0, 3, 2, 2, 2, 0, 0, 0, 0, 0],
            [0, 18, 0, 4, 0, 2, 2, 0, 1, 0, 0, 0],
            [2, 18, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let mut seed = vec![world, 1, 1, 0xff, 0xff, 0xff, 0];
            for (index, key) in (0u8..).zip(KEYS) {
                seed.extend([3, index, key[0], b'v', index * 9]);
            }
            seed.extend(request);
            seeds.push(seed);
        }
    }
    seeds
}
