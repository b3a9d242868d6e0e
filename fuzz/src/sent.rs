//! What must hold of a request that was accepted, by what prost makes of it before and after.

use bytes::Bytes;
use etcd_encryption_proxy::{
    rewrite::UnaryRpc,
    types::{KeyRange, Reach},
    value::is_sealed,
    wire::Spliced,
};
use prost::{DecodeError, Message};

use super::{
    normal::{Kind, normal},
    pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request},
    world::World,
};

pub(super) const RPCS: [UnaryRpc; 4] = [UnaryRpc::Range, UnaryRpc::Put, UnaryRpc::DeleteRange, UnaryRpc::Txn];

pub(super) fn decode(rpc: UnaryRpc, message: &[u8]) -> Result<Request, DecodeError> {
    Ok(match rpc {
        UnaryRpc::Range => Request::RequestRange(RangeRequest::decode(message)?),
        UnaryRpc::Put => Request::RequestPut(PutRequest::decode(message)?),
        UnaryRpc::DeleteRange => Request::RequestDeleteRange(DeleteRangeRequest::decode(message)?),
        UnaryRpc::Txn => Request::RequestTxn(TxnRequest::decode(message)?),
    })
}

pub(super) fn encode(request: &Request) -> (UnaryRpc, Vec<u8>) {
    match request {
        Request::RequestRange(request) => (UnaryRpc::Range, request.encode_to_vec()),
        Request::RequestPut(request) => (UnaryRpc::Put, request.encode_to_vec()),
        Request::RequestDeleteRange(request) => (UnaryRpc::DeleteRange, request.encode_to_vec()),
        Request::RequestTxn(request) => (UnaryRpc::Txn, request.encode_to_vec()),
    }
}

/// The whole of a message that is handed out in chunks of at most `most` bytes, as long as it said.
pub(super) fn drain(mut message: Spliced, most: usize) -> Bytes {
    let promised = message.len();
    if message.as_untouched().is_some() {
        return message.into_bytes();
    }
    let mut out = Vec::with_capacity(promised);
    while let Some(chunk) = message.next_chunk(most) {
        assert!((1..=most).contains(&chunk.len()));
        out.extend_from_slice(&chunk);
        assert_eq!(message.len(), promised - out.len());
    }
    assert_eq!(out.len(), promised);
    out.into()
}

/// Checks what became of the client's `message`.
pub(super) fn check(rpc: UnaryRpc, message: &[u8], send_as: UnaryRpc, sent: &[u8], world: &World) {
    let Ok(asked) = decode(rpc, message) else {
        assert!(decode(send_as, sent).is_err(), "a request was mended");
        return;
    };
    let plain = Rewriting { world }.opened(decode(send_as, sent).expect("what is sent is a message"));
    let expected = Rewriting { world }.cut(asked.clone());
    let is_cut = expected != [asked.clone()];
    let expected = match <[Request; 1]>::try_from(expected) {
        Ok([one]) => one,
        Err(halves) => Request::RequestTxn(TxnRequest {
            success: halves.into_iter().map(in_the_present).map(op).collect(),
            ..TxnRequest::default()
        }),
    };
    assert_eq!(plain, expected);
    if is_cut {
        return;
    }
    assert_eq!(send_as, rpc);
    if (Rewriting { world }).seals(&asked) {
        let kind = match rpc {
            UnaryRpc::Put => Kind::Put,
            UnaryRpc::Txn => Kind::Txn,
            UnaryRpc::Range | UnaryRpc::DeleteRange => Kind::Other,
        };
        let before = normal(message, kind, &|_, value| value.to_vec());
        let after = normal(sent, kind, &|key, value| match world.sealing(key) {
            Some(_) if is_sealed(value) => world.opened(key, value).unwrap_or_else(|_| value.to_vec()),
            _ => value.to_vec(),
        });
        assert_eq!(before, after, "more than a value was changed");
    } else {
        assert_eq!(message, sent, "there was nothing to change");
    }
}

/// A half of a Range as it stands in a transaction, where a negative revision is not the present.
fn in_the_present(half: Request) -> Request {
    match half {
        Request::RequestRange(range) => Request::RequestRange(RangeRequest {
            revision: range.revision.max(0),
            ..range
        }),
        other => other,
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Whether it must have no value, as etcd keeps the one that it has.
fn keeps_value(put: &PutRequest) -> bool {
    put.ignore_value && put.value.is_empty()
}

struct Rewriting<'w> {
    world: &'w World,
}

impl Rewriting<'_> {
    /// Whether any Put in it is sealed.
    fn seals(&self, request: &Request) -> bool {
        match request {
            Request::RequestPut(put) => !keeps_value(put) && self.world.sealing(&put.key).is_some(),
            Request::RequestTxn(txn) => txn
                .success
                .iter()
                .chain(&txn.failure)
                .filter_map(|op| op.request.as_ref())
                .any(|request| self.seals(request)),
            Request::RequestRange(_) | Request::RequestDeleteRange(_) => false,
        }
    }

    /// A request as it was sent, with its values opened.
    fn opened(&self, request: Request) -> Request {
        match request {
            Request::RequestPut(put) => Request::RequestPut(self.opened_put(put)),
            Request::RequestTxn(txn) => {
                let ops = |ops: Vec<RequestOp>| {
                    ops.into_iter()
                        .map(|op| RequestOp {
                            request: op.request.map(|request| self.opened(request)),
                        })
                        .collect()
                };
                Request::RequestTxn(TxnRequest {
                    compare: txn.compare,
                    success: ops(txn.success),
                    failure: ops(txn.failure),
                })
            }
            other => other,
        }
    }

    fn opened_put(&self, put: PutRequest) -> PutRequest {
        assert!(
            !self.world.state.contains(&put.key),
            "a record of the proxy's own is written"
        );
        if keeps_value(&put) || self.world.sealing(&put.key).is_none() {
            return put;
        }
        assert!(is_sealed(&put.value), "a value is sent in clear");
        let value = self.world.opened(&put.key, &put.value).expect("what was sealed opens");
        PutRequest { value, ..put }
    }

    /// A request without the proxy's own records: as two where they lie in the middle of its range.
    fn cut(&self, request: Request) -> Vec<Request> {
        match request {
            Request::RequestPut(_) => vec![request],
            Request::RequestRange(range) => {
                let parts = self.parts(&range.key, &range.range_end);
                // Two halves that are sorted by values must have them to be merged.
                let has_values = parts.len() > 1 && range.sort_target == 4 && (0..3).contains(&range.sort_order);
                let with = |(key, end): (&[u8], &[u8])| {
                    Request::RequestRange(RangeRequest {
                        key: key.to_vec(),
                        range_end: end.to_vec(),
                        keys_only: range.keys_only && !has_values,
                        ..range.clone()
                    })
                };
                parts.into_iter().map(with).collect()
            }
            Request::RequestDeleteRange(range) => {
                let with = |(key, end): (&[u8], &[u8])| {
                    Request::RequestDeleteRange(DeleteRangeRequest {
                        key: key.to_vec(),
                        range_end: end.to_vec(),
                        prev_kv: range.prev_kv,
                    })
                };
                self.parts(&range.key, &range.range_end).into_iter().map(with).collect()
            }
            Request::RequestTxn(txn) => {
                let ops = |ops: Vec<RequestOp>| {
                    ops.into_iter()
                        .flat_map(|op| match op.request {
                            Some(request) => self.cut(request).into_iter().map(self::op).collect(),
                            None => vec![op],
                        })
                        .collect()
                };
                vec![Request::RequestTxn(TxnRequest {
                    compare: txn.compare,
                    success: ops(txn.success),
                    failure: ops(txn.failure),
                })]
            }
        }
    }

    fn parts<'a>(&'a self, key: &'a [u8], range_end: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
        match self.world.state.reach(KeyRange::new(key, range_end)) {
            Reach::Clear => vec![(key, range_end)],
            Reach::Around { before, behind } => before.into_iter().chain(behind).collect(),
            Reach::Inside => panic!("a request for the proxy's own records was accepted"),
        }
    }
}
