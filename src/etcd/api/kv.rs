//! KV: pages of a range, one key replaced under a compare, records of our own.

use std::time::Duration;

use bytes::Bytes;

use super::call::{Rpc, framed};
use super::guard::Guard;
use super::settled::{Settled, settled};
use super::{CallError, Client, read};
use crate::types::Epoch;
use crate::wire::etcd::{key_value, op, put_request, range_request, range_response, txn_request, txn_response};
use crate::wire::{Body, Fields, WireError, put_bytes, put_varint};

/// etcd itself gives a request up after 7 s at the latest with its default election timeout.
const KV_TIMEOUT: Duration = Duration::from_secs(15);
/// A page may be large, and a compaction waits for the disk.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

const RANGE: Rpc = Rpc {
    name: "KV/Range",
    path: "/etcdserverpb.KV/Range",
    timeout: LONG_TIMEOUT,
};
/// One record is read within etcd's own few milliseconds. What takes longer is a member that stands still: the read, which does no harm
/// twice, is given up before etcd itself would, and made again with the next member.
const GET_TIMEOUT: Duration = Duration::from_secs(4);
const GET_ATTEMPTS: u32 = 4;

const GET: Rpc = Rpc {
    timeout: GET_TIMEOUT,
    ..RANGE
};
const GET_BOTH: Rpc = Rpc {
    timeout: GET_TIMEOUT,
    ..TXN
};
const TXN: Rpc = Rpc {
    name: "KV/Txn",
    path: "/etcdserverpb.KV/Txn",
    timeout: KV_TIMEOUT,
};
const COMPACT: Rpc = Rpc {
    name: "KV/Compact",
    path: "/etcdserverpb.KV/Compact",
    timeout: LONG_TIMEOUT,
};

/// `int64 RangeRequest.revision`
const RANGE_REVISION: u32 = 4;
/// `int64 PutRequest.lease`
const PUT_LEASE: u32 = 3;
/// `bytes DeleteRangeRequest.key`
const DELETE_KEY: u32 = 1;
/// `int64 KeyValue.lease`
const KV_LEASE: u32 = 6;
/// `int64 CompactionRequest.revision` and `bool physical`
const COMPACT_REVISION: u32 = 1;
const COMPACT_PHYSICAL: u32 = 2;

/// A key and what etcd holds under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The stored bytes, sealed or not; empty where only keys were asked for.
    pub value: Bytes,
    /// When the key came to be.
    pub create_revision: i64,
    /// When it was last written.
    pub mod_revision: i64,
    /// The lease that it ends with; 0 for none.
    pub lease: i64,
}

/// What to ask of a range, in key order.
#[derive(Clone, Copy, Debug)]
pub struct PageAsk<'a> {
    /// First key.
    pub start: &'a [u8],
    /// First key behind the range; `None` for no end.
    pub end: Option<&'a [u8]>,
    /// At which revision; 0 for the current one.
    pub revision: i64,
    /// At most so many keys; 0 for all.
    pub limit: i64,
    /// Bytes after which the rest of the answer is left at etcd: the page ends early then. A single key is always whole.
    pub enough: usize,
}

/// A page of a range.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The store's revision when it was read.
    pub revision: i64,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// Whether the range goes on behind them.
    pub more: bool,
    /// Keys of the whole range, those of the page included; 0 where the answer was cut before it said so.
    pub count: u64,
    /// Bytes that were read.
    pub bytes: usize,
}

/// What came of a compare-and-put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It was written, at this revision.
    Done(i64),
    /// The key had been written or deleted since, and this is what is there; `None` for nothing.
    Lost(Option<KeyValue>),
    /// Nothing was written, and nothing has happened to the key: the epoch is another one by now.
    Fenced,
}

impl Client {
    /// Keys and values of a range, as many as fit.
    pub async fn page(&self, ask: PageAsk<'_>) -> Result<Page, CallError> {
        let frame = framed(|out| {
            put_bytes(out, range_request::KEY, ask.start);
            put_bytes(out, range_request::RANGE_END, ask.end.unwrap_or(&[0]));
            put_varint(out, range_request::LIMIT, ask.limit.cast_unsigned());
            put_varint(out, RANGE_REVISION, ask.revision.cast_unsigned());
        });
        let enough = if ask.limit == 1 { usize::MAX } else { ask.enough };
        let answer = self.unary_up_to(RANGE, frame, enough).await?;
        page(&answer.message, answer.is_cut).map_err(|error| CallError::wire(RANGE.name, error))
    }

    /// One key, now; the revision of the answer with it.
    pub async fn get(&self, key: &[u8]) -> Result<(i64, Option<KeyValue>), CallError> {
        let frame = framed(|out| put_bytes(out, range_request::KEY, key));
        let message = self.unary_again(GET, frame).await?;
        let mut page = page(&message, false).map_err(|error| CallError::wire(GET.name, error))?;
        Ok((page.revision, page.kvs.pop()))
    }

    /// How many keys a range holds now, and at which revision.
    pub async fn count(&self, start: &[u8], end: Option<&[u8]>) -> Result<(i64, u64), CallError> {
        let frame = framed(|out| {
            put_bytes(out, range_request::KEY, start);
            put_bytes(out, range_request::RANGE_END, end.unwrap_or(&[0]));
            put_varint(out, range_request::COUNT_ONLY, 1);
        });
        let message = self.unary(RANGE, frame).await?;
        let read = || {
            Ok((
                read::header_revision(&message)?,
                read::number(&message, range_response::COUNT)?,
            ))
        };
        read().map_err(|error| CallError::wire(RANGE.name, error))
    }

    /// Whether history before `revision` has been compacted away.
    pub async fn is_compacted_before(&self, revision: i64) -> Result<bool, CallError> {
        if revision <= 1 {
            return Ok(true);
        }
        let frame = framed(|out| {
            put_bytes(out, range_request::KEY, &[0]);
            put_varint(out, RANGE_REVISION, (revision - 1).cast_unsigned());
            put_varint(out, range_request::COUNT_ONLY, 1);
        });
        match self.unary(RANGE, frame).await {
            Ok(_) => Ok(false),
            Err(error) if error.trouble() == super::Trouble::Compacted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Puts `value` under `key`, with `lease`, if the key was last written at `mod_revision` and `fence` holds; otherwise says
    /// what is there.
    ///
    /// The transaction is kube-apiserver's own update, one compare, one put, one range, and one more compare.
    pub async fn replace(
        &self,
        key: &[u8],
        mod_revision: i64,
        value: &[u8],
        lease: i64,
        fence: Guard<'_>,
    ) -> Result<Replaced, CallError> {
        let frame = framed(|out| {
            out.reserve(value.len() + 3 * key.len() + 64);
            put_replacement(out, key, mod_revision, value, lease, fence);
        });
        let message = self.unary(TXN, frame).await?;
        replaced(&message, mod_revision).map_err(|error| CallError::wire(TXN.name, error))
    }

    /// Puts one record of our own, with `lease`, if every guard holds: at which revision, or `None` if one did not.
    pub async fn put_if(
        &self,
        guards: &[Guard<'_>],
        key: &[u8],
        value: &[u8],
        lease: i64,
    ) -> Result<Option<i64>, CallError> {
        self.write_if(guards, op::PUT, &[put(key, value, lease)], Some(key))
            .await
    }

    /// Puts two records of our own in one transaction if every guard holds: at which revision, or `None` if one did not.
    pub async fn put_both_if(
        &self,
        guards: &[Guard<'_>],
        records: [(&[u8], &[u8]); 2],
    ) -> Result<Option<i64>, CallError> {
        let puts = records.map(|(key, value)| put(key, value, 0));
        self.write_if(guards, op::PUT, &puts, None).await
    }

    /// Calls a few times, as long as no answer comes.
    async fn unary_again(&self, rpc: Rpc, frame: Bytes) -> Result<Bytes, CallError> {
        for _ in 1..GET_ATTEMPTS {
            match self.unary(rpc, frame.clone()).await {
                Err(CallError::Timeout { .. }) => {}
                answer => return answer,
            }
        }
        self.unary(rpc, frame).await
    }

    /// Two keys, now, in one transaction and so at one revision.
    pub async fn get_both(&self, keys: [&[u8]; 2]) -> Result<[Option<KeyValue>; 2], CallError> {
        let frame = framed(|out| {
            for key in keys {
                put_op(out, txn_request::SUCCESS, op::RANGE, &range_of(key));
            }
        });
        let message = self.unary_again(GET_BOTH, frame).await?;
        let found = ranges(&message).map_err(|error| CallError::wire(TXN.name, error))?;
        <[_; 2]>::try_from(found).map_err(|found| CallError::Malformed {
            rpc: TXN.name,
            why: format!("{} answers to two ranges", found.len()),
        })
    }

    /// Deletes one record of our own if every guard holds: at which revision, or `None` if one did not.
    pub async fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> Result<Option<i64>, CallError> {
        let mut delete = Vec::with_capacity(key.len() + 8);
        put_bytes(&mut delete, DELETE_KEY, key);
        self.write_if(guards, op::DELETE_RANGE, &[delete], Some(key)).await
    }

    /// One guard, on the key that is written, is sent as kube-apiserver's own update or delete, which kine takes as well: with a range of
    /// the key where it does not hold. kine writes the key of the compare, whatever the put says, so it must be the same.
    async fn write_if(
        &self,
        guards: &[Guard<'_>],
        member: u32,
        requests: &[Vec<u8>],
        written: Option<&[u8]>,
    ) -> Result<Option<i64>, CallError> {
        let alone = Guard::alone(guards, written);
        let frame = framed(|out| {
            for guard in guards {
                guard.encode(out);
            }
            for request in requests {
                put_op(out, txn_request::SUCCESS, member, request);
            }
            if let Some((key, _)) = alone {
                put_op(out, txn_request::FAILURE, op::RANGE, &range_of(key));
            }
        });
        let message = self.unary(TXN, frame).await?;
        let settled = settled(&message, alone.map(|(_, at)| at), member == op::PUT);
        match (settled.map_err(|error| CallError::wire(TXN.name, error))?, alone) {
            (Settled::Done(revision), _) => Ok(Some(revision)),
            (Settled::Guarded, _) => Ok(None),
            (Settled::Said(revision), Some((key, _))) => match self.get(key).await?.1 {
                Some(kv) => Ok((kv.mod_revision == revision).then_some(revision)),
                None => Err(CallError::NotTaken { rpc: TXN.name }),
            },
            (Settled::NotTaken | Settled::Said(_), _) => Err(CallError::NotTaken { rpc: TXN.name }),
        }
    }

    /// Whether the store takes a transaction with the compare that late writes are kept out with. Writes nothing.
    ///
    /// # Errors
    /// It could not be asked, or answered with something that says nothing of the transaction's kind: the fence is not given up
    /// for an error that may be of this moment.
    pub async fn takes_fence(&self, key: &[u8], epoch: &Epoch) -> Result<bool, CallError> {
        let frame = framed(|out| {
            Guard::epoch(key, epoch).encode(out);
            for branch in [txn_request::SUCCESS, txn_request::FAILURE] {
                put_op(out, branch, op::RANGE, &range_of(key));
            }
        });
        match self.unary(TXN, frame).await {
            Ok(_) => Ok(true),
            // It was understood, and would not even have needed room.
            Err(error) if error.trouble() == super::Trouble::NoSpace => Ok(true),
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of history before `revision`, and waits until it is gone from the backend where `physical` is set.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<(), CallError> {
        let frame = framed(|out| {
            put_varint(out, COMPACT_REVISION, revision.cast_unsigned());
            put_varint(out, COMPACT_PHYSICAL, u64::from(physical));
        });
        self.unary(COMPACT, frame).await.map(drop)
    }
}

/// Bytes of the request that [`Client::replace`] sends.
pub fn replace_len(key: &[u8], mod_revision: i64, value: &[u8], lease: i64, fence: Guard<'_>) -> usize {
    let mut out = Vec::with_capacity(value.len() + 3 * key.len() + 64);
    put_replacement(&mut out, key, mod_revision, value, lease, fence);
    out.len()
}

fn put_replacement(out: &mut Vec<u8>, key: &[u8], mod_revision: i64, value: &[u8], lease: i64, fence: Guard<'_>) {
    Guard::mod_revision(key, mod_revision).encode(out);
    fence.encode(out);
    put_op(out, txn_request::SUCCESS, op::PUT, &put(key, value, lease));
    put_op(out, txn_request::FAILURE, op::RANGE, &range_of(key));
}

/// A `RangeRequest` of one key.
fn range_of(key: &[u8]) -> Vec<u8> {
    let mut range = Vec::with_capacity(key.len() + 8);
    put_bytes(&mut range, range_request::KEY, key);
    range
}

fn put(key: &[u8], value: &[u8], lease: i64) -> Vec<u8> {
    let mut put = Vec::with_capacity(key.len() + value.len() + 32);
    put_bytes(&mut put, put_request::KEY, key);
    put_bytes(&mut put, put_request::VALUE, value);
    put_varint(&mut put, PUT_LEASE, lease.cast_unsigned());
    put
}

/// Appends a `RequestOp` whose `member` is `request`, as field `branch` of a transaction.
fn put_op(out: &mut Vec<u8>, branch: u32, member: u32, request: &[u8]) {
    let mut op = Vec::with_capacity(request.len() + 8);
    put_bytes(&mut op, member, request);
    put_bytes(out, branch, &op);
}

/// The page in a `RangeResponse`, or in the beginning of one.
fn page(message: &Bytes, is_cut: bool) -> Result<Page, WireError> {
    let mut page = Page {
        bytes: message.len(),
        more: is_cut,
        ..Page::default()
    };
    for field in Fields::new(message) {
        let field = match field {
            Ok(field) => field,
            // Where it was cut. What stands before is whole.
            Err(WireError::Truncated) if is_cut => break,
            Err(error) => return Err(error),
        };
        match field.number {
            range_response::HEADER => page.revision = header_in(&field.body()?)?,
            range_response::KVS => page.kvs.push(key_value(message, &field.body()?)?),
            range_response::MORE => page.more |= field.flag()?,
            range_response::COUNT => page.count = field.int64()?.cast_unsigned(),
            _ => {}
        }
    }
    Ok(page)
}

/// `ResponseHeader.revision`, where the header is a message within another.
fn header_in(body: &Body<'_>) -> Result<i64, WireError> {
    let mut header = Vec::with_capacity(body.bytes.len() + 8);
    put_bytes(&mut header, read::HEADER, body.bytes);
    read::header_revision(&header)
}

fn key_value(whole: &Bytes, body: &Body<'_>) -> Result<KeyValue, WireError> {
    let mut kv = KeyValue {
        key: Bytes::new(),
        value: Bytes::new(),
        create_revision: 0,
        mod_revision: 0,
        lease: 0,
    };
    for field in body.fields() {
        let field = field?;
        match field.number {
            key_value::KEY => kv.key = read::slice(whole, &field.body()?),
            key_value::VALUE => kv.value = read::slice(whole, &field.body()?),
            key_value::CREATE_REVISION => kv.create_revision = field.int64()?,
            key_value::MOD_REVISION => kv.mod_revision = field.int64()?,
            KV_LEASE => kv.lease = field.int64()?,
            _ => {}
        }
    }
    Ok(kv)
}

fn replaced(message: &Bytes, mod_revision: i64) -> Result<Replaced, WireError> {
    if read::number(message, txn_response::SUCCEEDED)? != 0 {
        return Ok(Replaced::Done(read::header_revision(message)?));
    }
    let current = ranges(message)?.pop().flatten();
    // Where the first of the two compares holds, the other one does not.
    Ok(match current {
        Some(kv) if kv.mod_revision == mod_revision => Replaced::Fenced,
        current => Replaced::Lost(current),
    })
}

/// What each range of a transaction has found, in order: the last key of each.
pub(super) fn ranges(message: &Bytes) -> Result<Vec<Option<KeyValue>>, WireError> {
    let mut all = Vec::new();
    for field in Fields::new(message) {
        let field = field?;
        if field.number != txn_response::RESPONSES {
            continue;
        }
        for member in field.body()?.fields() {
            let member = member?;
            if member.number != op::RANGE {
                continue;
            }
            let mut current = None;
            for found in member.body()?.fields() {
                let found = found?;
                if found.number == range_response::KVS {
                    current = Some(key_value(message, &found.body()?)?);
                }
            }
            all.push(current);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded_kv(key: &[u8], value: &[u8], lease: u64) -> Vec<u8> {
        let mut kv = Vec::new();
        put_bytes(&mut kv, key_value::KEY, key);
        put_varint(&mut kv, key_value::CREATE_REVISION, 3);
        put_varint(&mut kv, key_value::MOD_REVISION, 7);
        put_bytes(&mut kv, key_value::VALUE, value);
        put_varint(&mut kv, KV_LEASE, lease);
        kv
    }

    fn header(revision: u64) -> Vec<u8> {
        let mut header = Vec::new();
        put_varint(&mut header, 3, revision);
        header
    }

    /// What a page is cut to by its bytes must be whole keys of it, and a page that was cut always has more behind it.
    #[test]
    fn a_page_that_is_cut_anywhere_gives_whole_keys_or_none() {
        let mut message = Vec::new();
        put_bytes(&mut message, range_response::HEADER, &header(9));
        put_bytes(&mut message, range_response::KVS, &encoded_kv(b"a", b"1", 0));
        put_bytes(&mut message, range_response::KVS, &encoded_kv(b"b", b"22", 5));
        put_varint(&mut message, range_response::COUNT, 2);
        let message = Bytes::from(message);
        let whole = page(&message, false).unwrap();
        assert_eq!((whole.revision, whole.kvs.len(), whole.more), (9, 2, false));
        assert_eq!(whole.kvs[1].lease, 5);
        assert_eq!(whole.kvs[1].mod_revision, 7);
        for cut in 0..message.len() {
            let part = page(&message.slice(..cut), true).unwrap();
            assert!(part.more);
            assert_eq!(part.kvs[..], whole.kvs[..part.kvs.len()]);
        }
        assert!(page(&message.slice(..message.len() - 3), false).is_err());
    }

    #[test]
    fn a_lost_race_tells_what_is_there() {
        let mut range = Vec::new();
        put_bytes(&mut range, range_response::HEADER, &header(9));
        put_bytes(&mut range, range_response::KVS, &encoded_kv(b"a", b"1", 0));
        let mut message = Vec::new();
        put_bytes(&mut message, txn_response::HEADER, &header(9));
        put_op(&mut message, txn_response::RESPONSES, op::RANGE, &range);
        let message = Bytes::from(message);
        let Ok(Replaced::Lost(Some(kv))) = replaced(&message, 6) else {
            panic!("a lost race")
        };
        assert_eq!((&kv.key[..], &kv.value[..]), (&b"a"[..], &b"1"[..]));
        assert_eq!(replaced(&message, 7), Ok(Replaced::Fenced));
        let mut gone = Vec::new();
        put_op(&mut gone, txn_response::RESPONSES, op::RANGE, &[]);
        assert_eq!(replaced(&gone.into(), 7), Ok(Replaced::Lost(None)));
    }
}
