//! etcd's messages as clients and etcd make them, from choices.

use etcd_encryption_proxy::value::is_sealed;

use super::{
    pb::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
            RequestOp, ResponseHeader, TxnRequest, WatchResponse, compare::TargetUnion, request_op::Request,
        },
        mvccpb::{Event, KeyValue},
    },
    source::Source,
    world::{KEYS, MARKER, World},
};

/// How deep generated transactions nest.
const DEPTH: usize = 3;

pub(super) fn key(source: &mut Source<'_>) -> Vec<u8> {
    let base = source.byte();
    if base == 0xff {
        return source.bytes(20).to_vec();
    }
    let mut key = KEYS[usize::from(base) % KEYS.len()].to_vec();
    key.extend_from_slice(source.bytes(2));
    key
}

/// An end for a range that begins at `key`. Often none.
fn range_end(source: &mut Source<'_>, key: &[u8]) -> Vec<u8> {
    match source.below(6) {
        0 | 1 => Vec::new(),
        2 => vec![0],
        3 => [key, b"\xff"].concat(),
        4 => b"/registry0".to_vec(),
        _ => self::key(source),
    }
}

/// The marker where `key` is sealed, and some more; nowhere else.
fn plaintext(source: &mut Source<'_>, key: &[u8], world: &World) -> Vec<u8> {
    let mut value = match source.below(4) {
        0 => return Vec::new(),
        1 => vec![b'v'; usize::from(source.byte()) * 2],
        _ => source.bytes(60).to_vec(),
    };
    if world.sealing(key).is_some() {
        value.extend_from_slice(MARKER);
    }
    not_sealed(value)
}

/// A plaintext that identity would store but, like kube-apiserver's, not read again, changed into one that it reads.
pub(super) fn not_sealed(mut value: Vec<u8>) -> Vec<u8> {
    if is_sealed(&value) {
        value.insert(0, b' ');
    }
    value
}

pub(super) fn put(source: &mut Source<'_>, world: &World) -> PutRequest {
    let key = key(source);
    PutRequest {
        value: plaintext(source, &key, world),
        key,
        lease: source.number(),
        prev_kv: source.flag(),
        ignore_value: source.below(16) == 1,
        ignore_lease: source.flag(),
    }
}

pub(super) fn range(source: &mut Source<'_>) -> RangeRequest {
    let key = key(source);
    let sort_target = i32::try_from(source.below(5)).unwrap_or_default();
    let limit = source.number();
    let mut sort_order = i32::try_from(source.below(3)).unwrap_or_default();
    // With a limit, a target and no order, etcd cuts by key and then sorts, and the proxy does it the other way round.
    if sort_order == 0 && sort_target != 0 && limit > 0 {
        sort_order = 1;
    }
    RangeRequest {
        range_end: range_end(source, &key),
        key,
        limit,
        sort_order,
        sort_target,
        serializable: source.flag(),
        keys_only: source.below(8) == 1,
        count_only: source.below(8) == 1,
        min_mod_revision: source.number().rem_euclid(8),
        max_create_revision: source.number().rem_euclid(32),
        ..RangeRequest::default()
    }
}

pub(super) fn delete_range(source: &mut Source<'_>) -> DeleteRangeRequest {
    let key = key(source);
    DeleteRangeRequest {
        range_end: range_end(source, &key),
        key,
        prev_kv: source.flag(),
    }
}

pub(super) fn txn(source: &mut Source<'_>, world: &World) -> TxnRequest {
    nested_txn(source, world, DEPTH)
}

fn nested_txn(source: &mut Source<'_>, world: &World, depth: usize) -> TxnRequest {
    let compare = (0..source.below(3)).map(|_| compare(source)).collect();
    let mut ops = || (0..source.below(4)).map(|_| op(source, world, depth)).collect();
    TxnRequest {
        compare,
        success: ops(),
        failure: ops(),
    }
}

fn op(source: &mut Source<'_>, world: &World, depth: usize) -> RequestOp {
    let request = match source.below(8) {
        0..3 => Request::RequestPut(put(source, world)),
        3 | 4 => Request::RequestRange(range(source)),
        5 => Request::RequestDeleteRange(delete_range(source)),
        6 if depth > 0 => Request::RequestTxn(nested_txn(source, world, depth - 1)),
        _ => return RequestOp::default(),
    };
    RequestOp { request: Some(request) }
}

fn compare(source: &mut Source<'_>) -> Compare {
    let key = key(source);
    let target_union = match source.below(6) {
        0 => TargetUnion::Version(source.number()),
        1 => TargetUnion::CreateRevision(source.number()),
        2 => TargetUnion::Value(source.bytes(4).to_vec()),
        3 => TargetUnion::Lease(source.number()),
        _ => TargetUnion::ModRevision(source.number()),
    };
    let target = match target_union {
        TargetUnion::Version(_) => 0,
        TargetUnion::CreateRevision(_) => 1,
        TargetUnion::ModRevision(_) => 2,
        TargetUnion::Value(_) => 3,
        TargetUnion::Lease(_) => 4,
    };
    Compare {
        result: i32::try_from(source.below(4)).unwrap_or_default(),
        target,
        range_end: if source.flag() {
            range_end(source, &key)
        } else {
            Vec::new()
        },
        key,
        target_union: Some(target_union),
    }
}

/// A stored `KeyValue`: sealed as it should be, in another key's name, damaged, or never sealed at all.
pub(super) fn stored(source: &mut Source<'_>, world: &World) -> KeyValue {
    let key = key(source);
    let plaintext = plaintext(source, &key, world);
    let value = match source.below(8) {
        0 => plaintext,
        1 => [b"k8s:enc:", source.bytes(40)].concat(),
        2 => world.sealed(KEYS[source.below(KEYS.len())], &plaintext),
        3 => {
            let mut sealed = world.sealed(&key, &plaintext);
            if let Some(byte) = sealed.last_mut() {
                *byte ^= source.byte();
            }
            sealed
        }
        _ => world.sealed(&key, &plaintext),
    };
    KeyValue {
        key,
        value,
        create_revision: source.number(),
        mod_revision: source.number(),
        version: source.number(),
        lease: source.number(),
    }
}

fn header(source: &mut Source<'_>) -> Option<ResponseHeader> {
    source.flag().then(|| ResponseHeader {
        revision: source.number(),
        ..ResponseHeader::default()
    })
}

pub(super) fn range_response(source: &mut Source<'_>, world: &World) -> RangeResponse {
    RangeResponse {
        header: header(source),
        kvs: (0..source.below(5)).map(|_| stored(source, world)).collect(),
        more: source.flag(),
        count: source.number(),
    }
}

pub(super) fn put_response(source: &mut Source<'_>, world: &World) -> PutResponse {
    PutResponse {
        header: header(source),
        prev_kv: source.flag().then(|| stored(source, world)),
    }
}

pub(super) fn delete_range_response(source: &mut Source<'_>, world: &World) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: header(source),
        deleted: source.number(),
        prev_kvs: (0..source.below(5)).map(|_| stored(source, world)).collect(),
    }
}

/// Often of few watches, and with nothing but events of the proxy's own records.
pub(super) fn watch_response(source: &mut Source<'_>, world: &World) -> WatchResponse {
    let is_own = source.below(3) == 1;
    let event = |source: &mut Source<'_>| {
        let mut kv = (source.below(8) > 0).then(|| stored(source, world));
        if let Some(kv) = &mut kv
            && is_own
        {
            kv.key = [world.state.as_bytes(), source.bytes(2)].concat();
        }
        Event {
            r#type: source.flag().into(),
            kv,
            prev_kv: source.flag().then(|| stored(source, world)),
        }
    };
    WatchResponse {
        events: (0..source.below(5)).map(|_| event(source)).collect(),
        header: header(source),
        watch_id: if source.rarely() {
            source.number()
        } else {
            i64::from(source.flag())
        },
        created: source.below(16) == 1,
        canceled: source.below(16) == 1,
        compact_revision: i64::from(source.below(16) == 1),
        fragment: source.flag(),
        ..WatchResponse::default()
    }
}
