//! Arbitrary etcd messages from a seed, and unknown fields for them.

use prost::Message;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    normal::Kind,
    pb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, Event, KeyValue, PutRequest, PutResponse, RangeRequest,
        RangeResponse, Request, RequestOp, Response, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        WatchResponse,
    },
    world::{CONFIG_MAP, LEASE, POD, SECRET},
};
use crate::wire::{Fields, Value, put_bytes, put_raw, put_varint};

pub(super) struct Generate(pub(super) StdRng);

impl Generate {
    pub(super) fn from_seed(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        let base = [SECRET, CONFIG_MAP, LEASE, POD, b"/other"][self.0.random_range(0..5)];
        [base, &self.bytes(3)].concat()
    }

    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.0.random_range(0..=most)).map(|_| self.0.random()).collect()
    }

    /// A value; sometimes empty, sometimes with a length around which the length prefix grows.
    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.0.random_range(0..8) {
            0 => Vec::new(),
            1 => vec![b'v'; self.0.random_range(60..140)],
            2 => vec![b'v'; self.0.random_range(16_300..16_500)],
            _ => self.bytes(50),
        }
    }

    fn number(&mut self) -> i64 {
        match self.0.random_range(0..4) {
            0 => 0,
            1 => self.0.random(),
            _ => self.0.random_range(0..300),
        }
    }

    pub(super) fn header(&mut self) -> Option<ResponseHeader> {
        self.0.random_bool(0.9).then(|| ResponseHeader {
            cluster_id: self.0.random(),
            member_id: 1,
            revision: self.number(),
            raft_term: 2,
        })
    }

    pub(super) fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.value(),
            lease: self.number(),
            prev_kv: self.0.random(),
            ignore_value: self.0.random_bool(0.1),
            ignore_lease: self.0.random(),
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let key = self.key();
        RangeRequest {
            range_end: if self.0.random() {
                Vec::new()
            } else {
                [&key[..], b"\xff"].concat()
            },
            key,
            limit: self.number(),
            revision: self.number(),
            sort_order: self.0.random_range(0..3),
            sort_target: self.0.random_range(0..4),
            serializable: self.0.random(),
            keys_only: self.0.random_bool(0.2),
            count_only: self.0.random_bool(0.2),
            min_mod_revision: self.number(),
        }
    }

    fn op(&mut self, depth: usize) -> RequestOp {
        let request = match self.0.random_range(0..if depth == 0 { 3 } else { 4 }) {
            0 => Request::Range(self.range()),
            1 => Request::Put(self.put()),
            2 => Request::DeleteRange(DeleteRangeRequest {
                key: self.key(),
                range_end: Vec::new(),
                prev_kv: self.0.random(),
            }),
            _ => Request::Txn(self.txn(depth - 1)),
        };
        request.into()
    }

    pub(super) fn txn(&mut self, depth: usize) -> TxnRequest {
        let mut ops = || (0..self.0.random_range(0..4)).map(|_| self.op(depth)).collect();
        let (success, failure) = (ops(), ops());
        let compare = (0..self.0.random_range(0..3))
            .map(|_| Compare {
                result: self.0.random_range(0..4),
                target: 2,
                key: self.key(),
                mod_revision: self.number(),
                ..Compare::default()
            })
            .collect();
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    /// Plaintext: seal it with [`map_values`](super::normal::map_values).
    pub(super) fn kv(&mut self) -> KeyValue {
        KeyValue {
            key: self.key(),
            create_revision: self.number(),
            mod_revision: self.number(),
            version: self.number(),
            // Not empty: a stored empty value is its own test.
            value: [&self.value()[..], b"."].concat(),
            lease: self.number(),
        }
    }

    pub(super) fn kvs(&mut self) -> Vec<KeyValue> {
        (0..self.0.random_range(0..5)).map(|_| self.kv()).collect()
    }

    pub(super) fn range_response(&mut self, request: &RangeRequest) -> RangeResponse {
        let mut kvs = if request.count_only { Vec::new() } else { self.kvs() };
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Vec::new();
            }
        }
        RangeResponse {
            header: self.header(),
            kvs,
            more: self.0.random(),
            count: self.number(),
        }
    }

    pub(super) fn put_response(&mut self) -> PutResponse {
        PutResponse {
            header: self.header(),
            prev_kv: self.0.random::<bool>().then(|| self.kv()),
        }
    }

    pub(super) fn delete_range_response(&mut self) -> DeleteRangeResponse {
        DeleteRangeResponse {
            header: self.header(),
            deleted: self.number(),
            prev_kvs: self.kvs(),
        }
    }

    /// An answer to `request`, whichever branches it takes.
    pub(super) fn txn_response(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = self.0.random();
        let ops = if succeeded { &request.success } else { &request.failure };
        let responses = ops
            .iter()
            .map(|op| {
                let response = match op.request.as_ref().expect("every op has a request") {
                    Request::Range(request) => Response::Range(self.range_response(request)),
                    Request::Put(_) => Response::Put(self.put_response()),
                    Request::DeleteRange(_) => Response::DeleteRange(self.delete_range_response()),
                    Request::Txn(txn) => Response::Txn(self.txn_response(txn)),
                };
                ResponseOp::from(response)
            })
            .collect();
        TxnResponse {
            header: self.header(),
            succeeded,
            responses,
        }
    }

    pub(super) fn watch_response(&mut self) -> WatchResponse {
        let events = (0..self.0.random_range(0..5))
            .map(|_| {
                let delete = self.0.random();
                let mut kv = self.kv();
                if delete {
                    kv.value = Vec::new();
                }
                Event {
                    r#type: delete.into(),
                    kv: Some(kv),
                    prev_kv: self.0.random::<bool>().then(|| self.kv()),
                }
            })
            .collect();
        WatchResponse {
            header: self.header(),
            watch_id: self.number(),
            fragment: self.0.random(),
            events,
            ..WatchResponse::default()
        }
    }

    /// `message` with unknown fields strewn over it and the messages in it.
    pub(super) fn strewn(&mut self, message: &impl Message, kind: Kind) -> Vec<u8> {
        self.strew(&message.encode_to_vec(), kind)
    }

    fn strew(&mut self, message: &[u8], kind: Kind) -> Vec<u8> {
        let mut out = Vec::new();
        for field in Fields::new(message) {
            let field = field.expect("prost wrote it");
            self.unknown(&mut out, kind);
            match (kind.nested(field.number), field.value) {
                (Some(nested), Value::Bytes(body)) => {
                    put_bytes(&mut out, field.number, &self.strew(body.bytes, nested));
                }
                _ => out.extend_from_slice(&message[field.start..field.end]),
            }
        }
        self.unknown(&mut out, kind);
        out
    }

    /// Sometimes an unknown field, of any wire type; but not in an operation, which is a oneof and nothing else.
    fn unknown(&mut self, out: &mut Vec<u8>, kind: Kind) {
        if kind == Kind::Op {
            return;
        }
        let number = self.0.random_range(1000..100_000);
        let tag = |out: &mut Vec<u8>, wire_type: u32| put_raw(out, u64::from(number << 3 | wire_type));
        match self.0.random_range(0..20) {
            0 => put_varint(out, number, self.0.random()),
            1 => put_bytes(out, number, &self.bytes(20)),
            2 => {
                tag(out, 1);
                out.extend_from_slice(&[9; 8]);
            }
            3 => {
                tag(out, 5);
                out.extend_from_slice(&[9; 4]);
            }
            4 => {
                tag(out, 3);
                put_bytes(out, 5, b"within a group");
                tag(out, 4);
            }
            _ => {}
        }
    }
}
