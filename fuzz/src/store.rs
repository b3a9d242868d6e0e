//! A model of etcd: a map, and the four calls of the KV service as etcd 3.5 answers them. No history, no leases, and of
//! what etcd refuses only a compare of nothing.

use std::{cmp::Ordering, collections::BTreeMap};

use etcd_encryption_proxy::types::KeyRange;

use super::pb::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
        RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Store {
    pub(super) kvs: BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
}

impl Store {
    /// Carries out one call.
    pub(super) fn answer(&mut self, request: &Request) -> Response {
        self.revision += 1;
        self.apply(request)
    }

    fn apply(&mut self, request: &Request) -> Response {
        match request {
            Request::RequestRange(request) => Response::ResponseRange(self.range(request)),
            Request::RequestPut(request) => Response::ResponsePut(self.put(request)),
            Request::RequestDeleteRange(request) => Response::ResponseDeleteRange(self.delete_range(request)),
            Request::RequestTxn(request) => Response::ResponseTxn(self.txn(request)),
        }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision,
            ..ResponseHeader::default()
        }
    }

    fn within(&self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        let range = KeyRange::new(key, range_end);
        let found = self.kvs.values().filter(|kv| range.contains(&kv.key));
        found.cloned().collect()
    }

    /// As `applyRange` has it: the limit is the storage's own unless something has to be sorted or filtered first.
    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let mut kvs = self.within(&request.key, &request.range_end);
        let count = i64::try_from(kvs.len()).unwrap_or_default();
        let limit = usize::try_from(request.limit).ok().filter(|&limit| limit > 0);
        let filters = request.min_mod_revision != 0 || request.max_create_revision != 0;
        if let Some(limit) = limit
            && request.sort_order == 0
            && !filters
        {
            kvs.truncate(limit + 1);
        }
        if request.count_only {
            kvs.clear();
        }
        kvs.retain(|kv| {
            (request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision)
                && (request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision)
        });
        sort(&mut kvs, request.sort_order, request.sort_target);
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        if request.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        RangeResponse {
            header: Some(self.header()),
            kvs,
            more,
            count,
        }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let before = self.kvs.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            value: match &before {
                Some(before) if request.ignore_value => before.value.clone(),
                _ => request.value.clone(),
            },
            create_revision: before.as_ref().map_or(self.revision, |before| before.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            lease: request.lease,
        };
        if before.is_some() || !request.ignore_value {
            self.kvs.insert(request.key.clone(), kv);
        }
        PutResponse {
            header: Some(self.header()),
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone = self.within(&request.key, &request.range_end);
        for kv in &gone {
            self.kvs.remove(&kv.key);
        }
        DeleteRangeResponse {
            header: Some(self.header()),
            deleted: i64::try_from(gone.len()).unwrap_or_default(),
            prev_kvs: if request.prev_kv { gone } else { Vec::new() },
        }
    }

    fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        let responses = ops.iter().map(|RequestOp { request }| ResponseOp {
            response: request.as_ref().map(|request| self.apply(request)),
        });
        let responses = responses.collect();
        TxnResponse {
            header: Some(self.header()),
            succeeded,
            responses,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.within(&compare.key, &compare.range_end);
        if kvs.is_empty() {
            return compare.target != 3 && holds_of(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| holds_of(compare, kv))
    }
}

fn holds_of(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target_union {
        Some(TargetUnion::Version(version)) => kv.version.cmp(version),
        Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
        Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
        Some(TargetUnion::Value(value)) => kv.value.cmp(value),
        Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
        None => return false,
    };
    match compare.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        _ => order != Ordering::Equal,
    }
}

/// No order means ascending where the target is not KEY, by which they are sorted already.
fn sort(kvs: &mut [KeyValue], order: i32, target: i32) {
    let by = |a: &KeyValue, b: &KeyValue| match target {
        0 => a.key.cmp(&b.key),
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        4 => a.value.cmp(&b.value),
        _ => Ordering::Equal,
    };
    match order {
        0 | 1 => kvs.sort_by(by),
        2 => kvs.sort_by(|a, b| by(b, a)),
        _ => {}
    }
}
