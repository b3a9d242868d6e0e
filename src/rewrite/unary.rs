//! The four unary calls of the KV service that carry keys and values.

use bytes::Bytes;

use super::{
    Context, Refusal, ResponsePlan,
    bounds::{self, Parts, put_with_bounds, whole},
    plan::{Plan, RangePlan},
    put,
    range::RangeRequest,
    txn,
};
use crate::wire::{
    Body, Fields, Frame, Script, Spliced,
    etcd::{op, txn_request},
    put_bytes,
};

/// A unary call of `etcdserverpb.KV` whose messages carry values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryRpc {
    /// `Range`
    Range,
    /// `Put`
    Put,
    /// `DeleteRange`
    DeleteRange,
    /// `Txn`
    Txn,
}

/// A request as it goes on to etcd.
#[derive(Debug)]
pub struct UnaryRequest {
    /// The call to make: [`UnaryRpc::Txn`] for a Range or DeleteRange that spans the proxy's own records, otherwise the
    /// client's own.
    pub send_as: UnaryRpc,
    /// The message to send.
    pub message: Spliced,
    /// How to read the answer to it, which becomes the answer to the client's call.
    pub response: ResponsePlan,
}

/// Makes of the client's `message` what etcd is to get.
///
/// # Errors
/// A [`Refusal`], which the client gets instead of an answer; nothing must be sent then.
pub fn unary_request(rpc: UnaryRpc, message: Bytes, ctx: &Context<'_>) -> Result<UnaryRequest, Refusal> {
    match rpc {
        UnaryRpc::Range => range(&message, ctx),
        UnaryRpc::Put => {
            let mut script = Script::new();
            let sealed = put::seal(whole(&message), Frame::TOP, &mut script, ctx)?;
            Ok(request(rpc, script.apply(message), Plan::Put(sealed)))
        }
        UnaryRpc::DeleteRange => delete_range(&message, ctx),
        UnaryRpc::Txn => {
            let mut script = Script::new();
            let txns = txn::request(&message, &mut script, ctx)?;
            Ok(request(rpc, script.apply(message), Plan::Txn(txns)))
        }
    }
}

fn range(message: &Bytes, ctx: &Context<'_>) -> Result<UnaryRequest, Refusal> {
    let read = RangeRequest::parse(Fields::new(message))?;
    let values = read.returns_values();
    let parts = bounds::parts(read.range(ctx)?, ctx)?;
    let halves = matches!(parts, Parts::Two(_)).then(|| read.merge());
    let plan = Plan::Range(RangePlan { values, halves });
    ranged(
        UnaryRpc::Range,
        (op::RANGE, read.left_out_of_rpc()),
        &parts,
        message,
        plan,
    )
}

fn delete_range(message: &Bytes, ctx: &Context<'_>) -> Result<UnaryRequest, Refusal> {
    let range = bounds::parse(Fields::new(message))?.range()?;
    let parts = bounds::parts(range, ctx)?;
    let halves = matches!(parts, Parts::Two(_));
    ranged(
        UnaryRpc::DeleteRange,
        (op::DELETE_RANGE, &[]),
        &parts,
        message,
        Plan::DeleteRange { halves },
    )
}

/// `message` cut into `parts`; two are operations `number` of a transaction, without the fields `left_out`.
fn ranged(
    rpc: UnaryRpc,
    (number, left_out): (u32, &[u32]),
    parts: &Parts<'_>,
    message: &Bytes,
    plan: Plan,
) -> Result<UnaryRequest, Refusal> {
    let asked: Body<'_> = whole(message);
    match parts {
        Parts::Whole => Ok(request(rpc, Spliced::untouched(message.clone()), plan)),
        Parts::One(part) => {
            let mut out = Vec::new();
            put_with_bounds(&mut out, asked, *part, &[])?;
            Ok(request(rpc, Spliced::untouched(out.into()), plan))
        }
        Parts::Two(parts) => {
            let mut txn = Vec::new();
            for part in parts {
                let mut asked_part = Vec::new();
                put_with_bounds(&mut asked_part, asked, *part, left_out)?;
                let mut op = Vec::new();
                put_bytes(&mut op, number, &asked_part);
                put_bytes(&mut txn, txn_request::SUCCESS, &op);
            }
            Ok(request(UnaryRpc::Txn, Spliced::untouched(txn.into()), plan))
        }
    }
}

fn request(send_as: UnaryRpc, message: Spliced, plan: Plan) -> UnaryRequest {
    UnaryRequest {
        send_as,
        message,
        response: ResponsePlan(plan),
    }
}
