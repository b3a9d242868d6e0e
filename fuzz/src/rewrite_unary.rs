//! Target: the four unary calls of the KV service, requests and answers, well formed or not.

use bytes::Bytes;
use etcd_encryption_proxy::rewrite::{Context, Refusal, ResponsePlan, UnaryRpc, unary_request};
use prost::Message;

use super::{
    generate,
    opened::{self, Opening, Pace},
    pb::etcdserverpb::{
        DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, ResponseOp, TxnResponse, request_op::Request,
        response_op::Response,
    },
    sent,
    source::{Source, input},
    world::{MARKER, World, holds, policy},
};

/// A request, then an answer to it; each either made from choices or bytes as they are.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let world = World::pick(&mut source);
    let policy = policy(&mut source);
    let ctx = world.ctx(policy);
    let rpc = *source.pick(&sent::RPCS);
    let pace = Pace {
        budget: 1 + source.below(200),
        chunk: 1 + source.below(200),
    };
    let marked = holds(data, MARKER);
    let is_made = source.flag();
    let message = if is_made {
        sent::encode(&request(&mut source, rpc, world)).1
    } else {
        source.block().to_vec()
    };
    let message = Bytes::from(message);
    let request = match unary_request(rpc, message.clone(), &ctx) {
        Ok(request) => request,
        Err(refusal) => {
            let malformed = matches!(refusal, Refusal::Malformed(_));
            assert!(!is_made || !malformed, "a sound message was refused: {refusal}");
            let shown = format!("{refusal} {refusal:?}");
            assert!(marked || !is_made || !holds(shown.as_bytes(), MARKER), "{shown}");
            return;
        }
    };
    let send_as = request.send_as;
    let bytes = sent::drain(request.message, pace.chunk);
    sent::check(rpc, &message, send_as, &bytes, world);
    assert!(!is_made || marked || !holds(&bytes, MARKER), "a value is sent in clear");

    let answer = if source.flag() {
        answer(&mut source, rpc, send_as, world)
    } else {
        source.block().to_vec()
    };
    let opening = Opening { world, policy };
    check_answer(
        request.response,
        &message,
        &answer,
        (rpc, send_as),
        (opening, &ctx, pace),
    );
}

fn request(source: &mut Source<'_>, rpc: UnaryRpc, world: &World) -> Request {
    match rpc {
        UnaryRpc::Range => Request::RequestRange(generate::range(source)),
        UnaryRpc::Put => Request::RequestPut(generate::put(source, world)),
        UnaryRpc::DeleteRange => Request::RequestDeleteRange(generate::delete_range(source)),
        UnaryRpc::Txn => Request::RequestTxn(generate::txn(source, world)),
    }
}

/// An answer that has the right type, and as many parts as choices say.
fn answer(source: &mut Source<'_>, rpc: UnaryRpc, send_as: UnaryRpc, world: &World) -> Vec<u8> {
    let mut one = |rpc| match rpc {
        UnaryRpc::Range => Response::ResponseRange(generate::range_response(source, world)),
        UnaryRpc::Put => Response::ResponsePut(generate::put_response(source, world)),
        _ => Response::ResponseDeleteRange(generate::delete_range_response(source, world)),
    };
    if send_as == UnaryRpc::Txn {
        let kinds: &[UnaryRpc] = match rpc {
            UnaryRpc::Txn => &[UnaryRpc::Put, UnaryRpc::Range, UnaryRpc::DeleteRange],
            UnaryRpc::Range => &[UnaryRpc::Range; 2],
            _ => &[UnaryRpc::DeleteRange; 2],
        };
        let responses = kinds.iter().map(|&kind| ResponseOp {
            response: Some(one(kind)),
        });
        let responses = responses.collect();
        return TxnResponse {
            succeeded: true,
            responses,
            ..TxnResponse::default()
        }
        .encode_to_vec();
    }
    match one(rpc) {
        Response::ResponseRange(answer) => answer.encode_to_vec(),
        Response::ResponsePut(answer) => answer.encode_to_vec(),
        Response::ResponseDeleteRange(answer) => answer.encode_to_vec(),
        Response::ResponseTxn(answer) => answer.encode_to_vec(),
    }
}

/// Of what was sent as a transaction nothing is compared: `rewrite_etcd` does that, with answers that fit.
fn check_answer(
    plan: ResponsePlan,
    request: &[u8],
    answer: &[u8],
    (rpc, send_as): (UnaryRpc, UnaryRpc),
    (opening, ctx, pace): (Opening<'_>, &Context<'_>, Pace),
) {
    let opened = plan
        .open(Bytes::copy_from_slice(answer))
        .and_then(|job| opened::run(job, ctx, pace));
    match rpc {
        UnaryRpc::Range if send_as == rpc => {
            let Ok(asked) = RangeRequest::decode(request) else {
                return;
            };
            let expected = RangeResponse::decode(answer).ok().map(|answer| {
                Ok(RangeResponse {
                    kvs: if asked.keys_only || asked.count_only {
                        answer.kvs
                    } else {
                        opening.kvs(answer.kvs, true)?
                    },
                    ..answer
                })
            });
            opened::check(opened, expected);
        }
        UnaryRpc::Put => {
            let expected = PutResponse::decode(answer).ok().map(|answer| {
                Ok(PutResponse {
                    prev_kv: answer.prev_kv.map(|kv| opening.kv(kv, false)).transpose()?,
                    ..answer
                })
            });
            opened::check(opened, expected);
        }
        UnaryRpc::DeleteRange if send_as == rpc => {
            let expected = DeleteRangeResponse::decode(answer).ok().map(|answer| {
                Ok(DeleteRangeResponse {
                    prev_kvs: opening.kvs(answer.prev_kvs, false)?,
                    ..answer
                })
            });
            opened::check(opened, expected);
        }
        UnaryRpc::Range | UnaryRpc::DeleteRange | UnaryRpc::Txn => drop(opened),
    }
}

/// Bytes as they are, of sound messages; and choices.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, world) in (0u8..4).zip(World::all()) {
        for (rpc, choice) in sent::RPCS.into_iter().zip(0u8..) {
            for salt in 0..6u8 {
                let choices: Vec<u8> = (0..200u8)
                    .map(|at| at.wrapping_mul(salt * 2 + 37).wrapping_add(salt * 11))
                    .collect();
                let mut source = Source::new(&choices);
                let (_, message) = sent::encode(&request(&mut source, rpc, world));
                let answer = answer(&mut source, rpc, rpc, world);
                let head = [index, salt, choice, 50, 50];
                let mut as_bytes = input(&[&head[..], &[0]].concat(), &[&message]);
                as_bytes.extend(input(&[0], &[&answer]));
                seeds.push(as_bytes);
                seeds.push([&head[..], &[1], &choices].concat());
            }
        }
    }
    seeds
}
