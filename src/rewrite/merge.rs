//! Puts the answers to two halves of a range together, as if the range had been asked for as a whole.
//!
//! A client's range that spans the proxy's own records is sent as two that do not, in one transaction and so at one
//! revision. Values are still as etcd has them here; nothing is opened.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{
    OpenFailure,
    bounds::raw,
    pair::{self, Found},
    plan::{OpPlan, RangePlan, TxnPlan, Txns},
};
use crate::wire::{
    Body, Fields, Script, WireError,
    etcd::{delete_range_response, key_value, op, range_request, range_response, txn_response},
    once, put_bytes, put_varint,
};

/// How the halves of a `RangeResponse` become one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeMerge {
    order: Order,
    limit: Option<usize>,
    /// The values by which the halves are sorted are not for the client, who asked for keys only.
    strips_values: bool,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// The second half behind the first: keys ascend.
    FirstSecond,
    /// The first half behind the second: keys descend.
    SecondFirst,
    /// Both are sorted by this field of `KeyValue`.
    By { field: u32, descending: bool },
}

impl RangeMerge {
    /// From a `RangeRequest`'s `sort_order`, `sort_target`, `limit` and `keys_only`.
    ///
    /// As in etcd, no order means ascending where the target is not KEY. Not as in etcd: with no order, such a target and
    /// a limit, etcd cuts off by key before it sorts; here the sorted halves are cut.
    pub(super) fn new(sort_order: i32, sort_target: i32, limit: i64, keys_only: bool) -> Self {
        use range_request::{
            ORDER_ASCEND, ORDER_DESCEND, ORDER_NONE, TARGET_CREATE, TARGET_MOD, TARGET_VALUE, TARGET_VERSION,
        };
        let field = match sort_target {
            TARGET_VERSION => Some(key_value::VERSION),
            TARGET_CREATE => Some(key_value::CREATE_REVISION),
            TARGET_MOD => Some(key_value::MOD_REVISION),
            TARGET_VALUE => Some(key_value::VALUE),
            _ => None,
        };
        let order = match (field, sort_order) {
            (Some(field), ORDER_NONE | ORDER_ASCEND | ORDER_DESCEND) => Order::By {
                field,
                descending: sort_order == ORDER_DESCEND,
            },
            (None, ORDER_DESCEND) => Order::SecondFirst,
            _ => Order::FirstSecond,
        };
        let limit = usize::try_from(limit).ok().filter(|&limit| limit > 0);
        let by_value = matches!(order, Order::By { field, .. } if field == key_value::VALUE);
        Self {
            order,
            limit,
            strips_values: keys_only && by_value,
        }
    }

    /// The field without which each half must be asked for: etcd sorts by values before it leaves them out, so halves
    /// without them could not be merged.
    pub(super) fn left_out(self) -> &'static [u32] {
        if self.strips_values {
            &[range_request::KEYS_ONLY]
        } else {
            &[]
        }
    }
}

/// The `RangeResponse` to a Range that was sent as the transaction that `message` answers.
pub(super) fn range_response(message: &[u8], merge: RangeMerge) -> Result<Bytes, OpenFailure> {
    let op = OpPlan::Range(RangePlan {
        values: true,
        halves: Some(merge),
    });
    rpc_response(message, op)
}

/// The `DeleteRangeResponse` to a DeleteRange that was sent as the transaction that `message` answers.
pub(super) fn delete_range_response(message: &[u8]) -> Result<Bytes, OpenFailure> {
    rpc_response(message, OpPlan::DeleteRange { halves: true })
}

/// The `TxnResponse` `message` with the two responses to each halved operation made one, in the place of the first.
pub(super) fn txn_response(message: Bytes, txns: &Txns) -> Result<Bytes, OpenFailure> {
    let mut script = Script::new();
    pair::walk(&message, txns, true, &mut script, &mut |script, found| {
        let Found::Halves {
            op,
            frame,
            fields: [first, second],
            bodies,
        } = found
        else {
            return Ok(());
        };
        let mut member = Vec::new();
        let number = merged(op, None, bodies, &mut member)?;
        let mut response = Vec::with_capacity(member.len() + 8);
        put_bytes(&mut response, number, &member);
        let mark = script.mark();
        put_bytes(script.fresh(), txn_response::RESPONSES, &response);
        script.replace(frame, first.start, first.end, mark);
        script.remove(frame, second.start, second.end);
        Ok(())
    })?;
    Ok(script.apply(message).into_bytes())
}

fn rpc_response(message: &[u8], op: OpPlan) -> Result<Bytes, OpenFailure> {
    let mut header = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == txn_response::HEADER {
            once(&mut header, field.number, field.body()?.bytes)?;
        }
    }
    let txns = Txns(vec![TxnPlan {
        success: vec![op],
        failure: Vec::new(),
    }]);
    let mut out = Vec::new();
    // The transaction has no guard, so it has succeeded; if etcd says otherwise there is no pair, and that is a mismatch.
    let mut answered = false;
    pair::walk(message, &txns, true, &mut Script::new(), &mut |_, found| {
        if let Found::Halves { op, bodies, .. } = found {
            answered = true;
            merged(op, header, bodies, &mut out)?;
        }
        Ok(())
    })?;
    if !answered {
        return Err(OpenFailure::Mismatch);
    }
    Ok(out.into())
}

/// Appends the answer to `op` as a whole; returns its number in the oneof.
fn merged(op: &OpPlan, header: Option<&[u8]>, halves: [Body<'_>; 2], out: &mut Vec<u8>) -> Result<u32, OpenFailure> {
    match op {
        OpPlan::Range(RangePlan {
            halves: Some(merge), ..
        }) => {
            put_range_response(header, halves, *merge, out)?;
            Ok(op::RANGE)
        }
        OpPlan::DeleteRange { .. } => {
            put_delete_range_response(header, halves, out)?;
            Ok(op::DELETE_RANGE)
        }
        _ => Err(OpenFailure::Mismatch),
    }
}

/// One half, read as far as merging needs it. Both kinds of response have a header, one sum and `KeyValue`s.
#[derive(Debug, Default)]
struct Half<'a> {
    header: Option<&'a [u8]>,
    /// `KeyValue` fields, tags included.
    kvs: Vec<(Rank<'a>, &'a [u8])>,
    more: Option<bool>,
    sum: Option<i64>,
    /// Fields not known here, tags included.
    rest: Vec<&'a [u8]>,
}

/// What a `KeyValue` is sorted by. All of one response have the same variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Unsorted,
    Number(i64),
    Value(&'a [u8]),
}

fn put_range_response(
    header: Option<&[u8]>,
    [first, second]: [Body<'_>; 2],
    merge: RangeMerge,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    use range_response::{COUNT, HEADER, KVS, MORE};
    let by = match merge.order {
        Order::By { field, .. } => Some(field),
        _ => None,
    };
    let mut first = half(first, [HEADER, KVS, MORE, COUNT], by)?;
    let mut second = half(second, [HEADER, KVS, MORE, COUNT], by)?;
    let (a, b) = (std::mem::take(&mut first.kvs), std::mem::take(&mut second.kvs));
    let mut kvs = match merge.order {
        Order::FirstSecond => [a, b].concat(),
        Order::SecondFirst => [b, a].concat(),
        Order::By { descending, .. } => sorted(a, b, descending),
    };
    let mut more = first.more.unwrap_or_default() || second.more.unwrap_or_default();
    if let Some(limit) = merge.limit
        && kvs.len() > limit
    {
        kvs.truncate(limit);
        more = true;
    }
    if let Some(header) = header.or(first.header) {
        put_bytes(out, HEADER, header);
    }
    for (_, kv) in kvs {
        if merge.strips_values {
            put_without_value(out, kv)?;
        } else {
            out.extend_from_slice(kv);
        }
    }
    put_varint(out, MORE, more.into());
    put_varint(out, COUNT, sum(&first, &second));
    first.rest.iter().for_each(|field| out.extend_from_slice(field));
    Ok(())
}

/// Appends the `KeyValue` field `kv` without its value.
fn put_without_value(out: &mut Vec<u8>, kv: &[u8]) -> Result<(), WireError> {
    for kv in Fields::new(kv) {
        let kv = kv?;
        let body = kv.body()?;
        let mut stripped = Vec::with_capacity(body.bytes.len());
        for field in body.fields() {
            let field = field?;
            if field.number != key_value::VALUE {
                stripped.extend_from_slice(raw(body.bytes, body.extent.start, &field));
            }
        }
        put_bytes(out, kv.number, &stripped);
    }
    Ok(())
}

fn put_delete_range_response(
    header: Option<&[u8]>,
    [first, second]: [Body<'_>; 2],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    use delete_range_response::{DELETED, HEADER, PREV_KVS};
    // There is no field 0, so none is taken for `more`.
    let first = half(first, [HEADER, PREV_KVS, 0, DELETED], None)?;
    let second = half(second, [HEADER, PREV_KVS, 0, DELETED], None)?;
    if let Some(header) = header.or(first.header) {
        put_bytes(out, HEADER, header);
    }
    put_varint(out, DELETED, sum(&first, &second));
    let kvs = first.kvs.iter().chain(&second.kvs);
    kvs.for_each(|(_, kv)| out.extend_from_slice(kv));
    first.rest.iter().for_each(|field| out.extend_from_slice(field));
    Ok(())
}

/// Reads `response`, whose fields for header, `KeyValue`s, more and sum have these numbers, ranking by the field `by`.
fn half(response: Body<'_>, [header, kvs, more, sum]: [u32; 4], by: Option<u32>) -> Result<Half<'_>, WireError> {
    let mut half = Half::default();
    for field in response.fields() {
        let field = field?;
        let whole = raw(response.bytes, response.extent.start, &field);
        match field.number {
            number if number == header => once(&mut half.header, number, field.body()?.bytes)?,
            number if number == kvs => half.kvs.push((rank(field.body()?, by)?, whole)),
            number if number == more => once(&mut half.more, number, field.flag()?)?,
            number if number == sum => once(&mut half.sum, number, field.int64()?)?,
            _ => half.rest.push(whole),
        }
    }
    Ok(half)
}

fn rank(kv: Body<'_>, by: Option<u32>) -> Result<Rank<'_>, WireError> {
    let Some(by) = by else {
        return Ok(Rank::Unsorted);
    };
    let mut rank = None;
    for field in kv.fields() {
        let field = field?;
        if field.number == by {
            let found = match by {
                key_value::VALUE => Rank::Value(field.body()?.bytes),
                _ => Rank::Number(field.int64()?),
            };
            once(&mut rank, by, found)?;
        }
    }
    // Absent is proto3's default.
    Ok(rank.unwrap_or(match by {
        key_value::VALUE => Rank::Value(&[]),
        _ => Rank::Number(0),
    }))
}

/// Two sorted lists as one; of equals, those of the first come first.
fn sorted<'a>(
    first: Vec<(Rank<'a>, &'a [u8])>,
    second: Vec<(Rank<'a>, &'a [u8])>,
    descending: bool,
) -> Vec<(Rank<'a>, &'a [u8])> {
    let before = if descending { Ordering::Greater } else { Ordering::Less };
    let mut out = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter().peekable();
    for kv in first {
        while let Some(earlier) = second.next_if(|other| other.0.cmp(&kv.0) == before) {
            out.push(earlier);
        }
        out.push(kv);
    }
    out.extend(second);
    out
}

fn sum(first: &Half<'_>, second: &Half<'_>) -> u64 {
    let sum = first
        .sum
        .unwrap_or_default()
        .saturating_add(second.sum.unwrap_or_default());
    sum.cast_unsigned()
}
