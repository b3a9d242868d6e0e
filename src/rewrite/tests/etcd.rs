//! As much of etcd as ranges, deletes and transactions over a handful of keys need, after its documentation and source.

use std::collections::BTreeMap;

use super::pb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Request, Response, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::types::KeyRange;

/// What a store holds.
#[derive(Clone, Default)]
pub(super) struct Etcd(pub(super) BTreeMap<Vec<u8>, KeyValue>);

impl Etcd {
    const HEADER: Option<ResponseHeader> = Some(ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 77,
        raft_term: 3,
    });

    fn within(&self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        let range = KeyRange::new(key, range_end);
        self.0.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
    }

    pub(super) fn range(&self, request: &RangeRequest) -> RangeResponse {
        let mut kvs = self.within(&request.key, &request.range_end);
        let count = i64::try_from(kvs.len()).expect("there are few");
        if request.count_only {
            kvs.clear();
        }
        kvs.retain(|kv| kv.mod_revision >= request.min_mod_revision);
        let descending = request.sort_order == 2;
        kvs.sort_by(|a, b| {
            let order = match request.sort_target {
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                4 => a.value.cmp(&b.value),
                _ => a.key.cmp(&b.key),
            };
            if descending { order.reverse() } else { order }
        });
        let limit = usize::try_from(request.limit).expect("it is not negative");
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Vec::new();
            }
        }
        RangeResponse {
            header: Self::HEADER,
            kvs,
            more,
            count,
        }
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let kvs = self.within(&request.key, &request.range_end);
        for kv in &kvs {
            self.0.remove(&kv.key);
        }
        DeleteRangeResponse {
            header: Self::HEADER,
            deleted: i64::try_from(kvs.len()).expect("there are few"),
            prev_kvs: if request.prev_kv { kvs } else { Vec::new() },
        }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            ..KeyValue::default()
        };
        let before = self.0.insert(request.key.clone(), kv);
        PutResponse {
            header: Self::HEADER,
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    /// Whether a guard for equality holds.
    fn holds(&self, guard: &Compare) -> bool {
        let found = self.0.get(&guard.key);
        match guard.target {
            1 => found.is_none(),
            2 => found.map_or(0, |kv| kv.mod_revision) == guard.mod_revision,
            3 => found.is_some_and(|kv| kv.value == guard.value),
            _ => false,
        }
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|guard| self.holds(guard));
        let ops = if succeeded { &request.success } else { &request.failure };
        let responses = ops
            .iter()
            .map(|op| {
                let response = match op.request.as_ref().expect("every op has a request") {
                    Request::Range(request) => Response::Range(self.range(request)),
                    Request::Put(request) => Response::Put(self.put(request)),
                    Request::DeleteRange(request) => Response::DeleteRange(self.delete_range(request)),
                    Request::Txn(request) => Response::Txn(self.txn(request)),
                };
                ResponseOp::from(response)
            })
            .collect();
        TxnResponse {
            header: Self::HEADER,
            succeeded,
            responses,
        }
    }
}
