//! `TxnRequest`: guards are checked, the puts of both branches sealed, operations over the proxy's own records cut, nested
//! transactions likewise. Never recurses.

use super::{
    Context, Refusal,
    bounds::{self, Parts, put_with_bounds},
    compare,
    merge::RangeMerge,
    oneof::{self, Member},
    plan::{OpPlan, RangePlan, TxnPlan, Txns},
    put,
    range::RangeRequest,
};
use crate::wire::{
    Body, Field, Fields, Frame, Script, WireError,
    etcd::{
        op,
        txn_request::{COMPARE, FAILURE, SUCCESS},
    },
    put_bytes,
};

/// How deep transactions may nest. etcd counts operations over all levels, each of which has at least one, and refuses
/// more than `--max-txn-ops`, 128 unless configured. Four times that is refused here, lest a message that is nothing but
/// nesting be worked on.
const MAX_DEPTH: usize = 512;

/// How many operations a request may have in all, in both branches and at every depth. An operation can be two bytes
/// long, and the plan for it is many times that; this bounds the plan to a few megabytes.
const MAX_OPS: usize = 64 * 1024;

/// One `TxnRequest` on the way down.
struct Level<'a> {
    fields: Fields<'a>,
    frame: Frame,
    /// Its place in the plan.
    txn: usize,
}

/// An operation: the field of the `TxnRequest` that it is, the `RequestOp` in it, the member of that.
#[derive(Clone, Copy)]
struct Op<'a> {
    field: Field<'a>,
    request: Body<'a>,
    member: Member<'a>,
}

/// Records in `script` what the `TxnRequest` `message` becomes; returns how its answer is to be read.
pub(super) fn request(message: &[u8], script: &mut Script, ctx: &Context<'_>) -> Result<Txns, Refusal> {
    let mut txns = vec![TxnPlan::default()];
    let mut ops = 0;
    let mut pending = None;
    let mut levels = vec![Level {
        fields: Fields::new(message),
        frame: Frame::TOP,
        txn: 0,
    }];
    while let Some(level) = levels.last_mut() {
        let Some(field) = level.fields.next().transpose()? else {
            levels.pop();
            continue;
        };
        if field.number == COMPARE {
            compare::check(field.body()?, ctx)?;
        }
        if field.number != SUCCESS && field.number != FAILURE {
            continue;
        }
        ops += 1;
        if ops > MAX_OPS {
            return Err(Refusal::TooManyOps);
        }
        let (frame, txn) = (level.frame, level.txn);
        let request = field.body()?;
        let plan = match oneof::asked(request, op::TXN)? {
            None => OpPlan::Empty,
            Some(Member { field: member, body }) if member.number == op::TXN => {
                if levels.len() >= MAX_DEPTH {
                    return Err(Refusal::TooManyOps);
                }
                let frame = script.enter(frame, request.extent);
                let nested = txns.len();
                txns.push(TxnPlan::default());
                levels.push(Level {
                    fields: body.fields(),
                    frame: script.enter(frame, body.extent),
                    txn: nested,
                });
                OpPlan::Txn(nested)
            }
            Some(member) => {
                let op = Op { field, request, member };
                match operation(op, frame, script, ctx) {
                    Ok(plan) => plan,
                    // Nothing comes of this pass. What the other puts lack is noted all the same, to be fetched along with it.
                    Err(refusal) if refusal.is_pending() && !ctx.deks.is_full() => {
                        pending = Some(refusal);
                        OpPlan::Empty
                    }
                    Err(refusal) => return Err(refusal),
                }
            }
        };
        if let Some(txn) = txns.get_mut(txn) {
            let branch = if field.number == SUCCESS {
                &mut txn.success
            } else {
                &mut txn.failure
            };
            branch.push(plan);
        }
    }
    pending.map_or(Ok(Txns(txns)), Err)
}

/// An operation of the `TxnRequest` `txn` that is no transaction itself.
fn operation(op: Op<'_>, txn: Frame, script: &mut Script, ctx: &Context<'_>) -> Result<OpPlan, Refusal> {
    match op.member.field.number {
        op::PUT => {
            let frame = script.enter(txn, op.request.extent);
            let frame = script.enter(frame, op.member.body.extent);
            Ok(OpPlan::Put(put::seal(op.member.body, frame, script, ctx)?))
        }
        op::RANGE => {
            let read = RangeRequest::parse(op.member.body.fields())?;
            let parts = bounds::parts(read.range(ctx)?, ctx)?;
            let halves = matches!(parts, Parts::Two(_)).then(|| read.merge());
            cut(op, &parts, halves.map_or(&[], RangeMerge::left_out), txn, script)?;
            Ok(OpPlan::Range(RangePlan {
                values: read.returns_values(),
                halves,
            }))
        }
        op::DELETE_RANGE => {
            let range = bounds::parse(op.member.body.fields())?.range()?;
            let parts = bounds::parts(range, ctx)?;
            cut(op, &parts, &[], txn, script)?;
            Ok(OpPlan::DeleteRange {
                halves: matches!(parts, Parts::Two(_)),
            })
        }
        _ => Err(Refusal::UnknownKind),
    }
}

/// Puts one operation for each part in the place of `op`, without its fields `left_out`.
fn cut(op: Op<'_>, parts: &Parts<'_>, left_out: &[u32], txn: Frame, script: &mut Script) -> Result<(), WireError> {
    let parts = match parts {
        Parts::Whole => return Ok(()),
        Parts::One(part) => std::slice::from_ref(part),
        Parts::Two(parts) => parts,
    };
    let mark = script.mark();
    for part in parts {
        let mut body = Vec::new();
        put_with_bounds(&mut body, op.member.body, *part, left_out)?;
        let mut request = Vec::with_capacity(body.len() + 8);
        put_bytes(&mut request, op.member.field.number, &body);
        put_bytes(script.fresh(), op.field.number, &request);
    }
    script.replace(txn, op.field.start, op.field.end, mark);
    Ok(())
}
