//! Pairs a `TxnResponse` with what was asked: response i with operation i of the branch taken, nested ones likewise. What
//! does not match is a failure, never a guess. Never recurses.

use std::slice;

use super::{
    OpenFailure,
    oneof::{self, Member},
    plan::{OpPlan, TxnPlan, Txns},
};
use crate::wire::{
    Body, Field, Fields, Frame, Script,
    etcd::{
        op,
        txn_response::{RESPONSES, SUCCEEDED},
    },
    once,
};

/// What [`walk`] finds.
#[derive(Debug)]
pub(super) enum Found<'a, 'p> {
    /// The response to an operation that is no transaction.
    One {
        op: &'p OpPlan,
        /// The `ResponseOp`.
        frame: Frame,
        /// What it holds.
        body: Body<'a>,
    },
    /// The two responses to an operation that was sent in two halves.
    Halves {
        op: &'p OpPlan,
        /// The `TxnResponse`.
        frame: Frame,
        /// Its two fields, in order.
        fields: [Field<'a>; 2],
        /// What the `ResponseOp` in each of them holds.
        bodies: [Body<'a>; 2],
    },
}

/// One `TxnResponse` on the way down.
struct Level<'a, 'p> {
    fields: Fields<'a>,
    /// The operations of the branch taken that have had no response yet.
    ops: slice::Iter<'p, OpPlan>,
    frame: Frame,
    /// The first half of an operation whose second is yet to come.
    half: Option<(&'p OpPlan, Field<'a>, Body<'a>)>,
}

impl<'a, 'p> Level<'a, 'p> {
    /// `succeeded` is looked for first: protobuf does not promise that it comes before the responses.
    fn new(response: Fields<'a>, txn: Option<&'p TxnPlan>, frame: Frame) -> Result<Self, OpenFailure> {
        let mut succeeded = None;
        for field in response.clone() {
            let field = field?;
            if field.number == SUCCEEDED {
                once(&mut succeeded, SUCCEEDED, field.flag()?)?;
            }
        }
        let txn = txn.ok_or(OpenFailure::Mismatch)?;
        let branch = if succeeded.unwrap_or_default() {
            &txn.success
        } else {
            &txn.failure
        };
        Ok(Self {
            fields: response,
            ops: branch.iter(),
            frame,
            half: None,
        })
    }
}

/// Calls `found` for every response in `message`, in order. With `halves`, an operation that was sent as two has two
/// responses; without, they have been merged.
pub(super) fn walk<'a, 'p>(
    message: &'a [u8],
    txns: &'p Txns,
    halves: bool,
    script: &mut Script,
    found: &mut dyn FnMut(&mut Script, Found<'a, 'p>) -> Result<(), OpenFailure>,
) -> Result<(), OpenFailure> {
    let mut levels = vec![Level::new(Fields::new(message), txns.0.first(), Frame::TOP)?];
    while let Some(level) = levels.last_mut() {
        let Some(field) = level.fields.next().transpose()? else {
            if level.ops.next().is_some() || level.half.is_some() {
                return Err(OpenFailure::Mismatch);
            }
            levels.pop();
            continue;
        };
        if field.number != RESPONSES {
            continue;
        }
        let response = field.body()?;
        let first = level.half.take();
        let op = match &first {
            Some((op, ..)) => op,
            None => level.ops.next().ok_or(OpenFailure::Mismatch)?,
        };
        let body = match (oneof::answered(response, op::TXN)?, number(op)) {
            (Some(Member { field, body }), Some(number)) if field.number == number => body,
            (None, None) => continue,
            _ => return Err(OpenFailure::Mismatch),
        };
        if let Some((op, first_field, first_body)) = first {
            let found_halves = Found::Halves {
                op,
                frame: level.frame,
                fields: [first_field, field],
                bodies: [first_body, body],
            };
            found(script, found_halves)?;
        } else if halves && op.has_halves() {
            level.half = Some((op, field, body));
        } else {
            let frame = script.enter(level.frame, response.extent);
            if let OpPlan::Txn(index) = op {
                let frame = script.enter(frame, body.extent);
                let nested = Level::new(body.fields(), txns.0.get(*index), frame)?;
                levels.push(nested);
            } else {
                found(script, Found::One { op, frame, body })?;
            }
        }
    }
    Ok(())
}

/// The oneof member that answers `op`.
fn number(op: &OpPlan) -> Option<u32> {
    match op {
        OpPlan::Empty => None,
        OpPlan::Range(_) => Some(op::RANGE),
        OpPlan::Put(_) => Some(op::PUT),
        OpPlan::DeleteRange { .. } => Some(op::DELETE_RANGE),
        OpPlan::Txn(_) => Some(op::TXN),
    }
}
