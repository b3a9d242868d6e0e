//! What a request says about its answer: which parts of it hold values, and which were asked for in two halves.

use bytes::Bytes;

use super::{
    OpenFailure, OpenJob,
    found::Items,
    merge::{self, RangeMerge},
    open::Leaf,
    pair::{self, Found},
    put::Sealed,
};
use crate::wire::{
    Script,
    etcd::{delete_range_response, put_response, range_response},
};

/// How the answer to one unary request is to be read.
#[derive(Debug)]
pub struct ResponsePlan(pub(super) Plan);

#[derive(Debug)]
pub(super) enum Plan {
    /// A `RangeResponse`, or a `TxnResponse` with its two halves.
    Range(RangePlan),
    /// A `PutResponse`.
    Put(Sealed),
    /// A `DeleteRangeResponse`, or a `TxnResponse` with its two halves.
    DeleteRange { halves: bool },
    /// A `TxnResponse`.
    Txn(Txns),
}

/// How a `RangeResponse` is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangePlan {
    /// Whether it has values.
    pub(super) values: bool,
    /// Whether two of them have to be made one.
    pub(super) halves: Option<RangeMerge>,
}

/// A transaction and those nested in it; the outermost one is the first.
#[derive(Debug)]
pub(super) struct Txns(pub(super) Vec<TxnPlan>);

/// The operations of one transaction, by branch.
#[derive(Debug, Default)]
pub(super) struct TxnPlan {
    pub(super) success: Vec<OpPlan>,
    pub(super) failure: Vec<OpPlan>,
}

/// One operation.
#[derive(Debug)]
pub(super) enum OpPlan {
    /// None was given. etcd refuses the transaction.
    Empty,
    Range(RangePlan),
    Put(Sealed),
    DeleteRange {
        halves: bool,
    },
    /// A nested transaction, by its place in [`Txns`].
    Txn(usize),
}

impl OpPlan {
    /// Whether the operation is sent as two.
    pub(super) fn has_halves(&self) -> bool {
        match self {
            Self::Range(range) => range.halves.is_some(),
            Self::DeleteRange { halves } => *halves,
            Self::Empty | Self::Put(_) | Self::Txn(_) => false,
        }
    }
}

impl Txns {
    /// Whether an operation is sent as two.
    pub(super) fn have_halves(&self) -> bool {
        self.0
            .iter()
            .any(|txn| txn.success.iter().chain(&txn.failure).any(OpPlan::has_halves))
    }
}

impl ResponsePlan {
    /// Whether the request that this plan came with had a value that the client had sealed itself: kube-apiserver then has
    /// an encryption configuration too, and what is stored can't be read without this proxy.
    pub fn seals_twice(&self) -> bool {
        self.any_put(|sealed| sealed == Sealed::Twice)
    }

    /// Whether that request stores a value under a rule.
    pub fn seals(&self) -> bool {
        self.any_put(|sealed| sealed != Sealed::Not)
    }

    fn any_put(&self, is_meant: impl Fn(Sealed) -> bool) -> bool {
        let is_meant = |op: &OpPlan| matches!(op, OpPlan::Put(sealed) if is_meant(*sealed));
        match &self.0 {
            Plan::Put(sealed) => is_meant(&OpPlan::Put(*sealed)),
            Plan::Txn(txns) => txns
                .0
                .iter()
                .any(|txn| txn.success.iter().chain(&txn.failure).any(&is_meant)),
            Plan::Range(_) | Plan::DeleteRange { .. } => false,
        }
    }

    /// Begins to open `message`, etcd's answer to the request that this plan came with.
    ///
    /// Halves are merged before anything is opened: what then is opened is what etcd would have answered if the proxy's
    /// own records were not there.
    ///
    /// # Errors
    /// [`OpenFailure`] if the answer is not shaped as the request demands. That is checked to the end here, before a
    /// single value is opened.
    pub fn open(self, message: Bytes) -> Result<OpenJob, OpenFailure> {
        match self.0 {
            Plan::Range(RangePlan { values, halves }) => {
                let message = match halves {
                    Some(merge) => merge::range_response(&message, merge)?,
                    None => message,
                };
                Ok(OpenJob::of(message, items(values), true))
            }
            Plan::Put(_) => {
                let items = Items::KeyValues(put_response::PREV_KV);
                Ok(OpenJob::of(message, items, false))
            }
            Plan::DeleteRange { halves } => {
                let message = if halves {
                    merge::delete_range_response(&message)?
                } else {
                    message
                };
                let items = Items::KeyValues(delete_range_response::PREV_KVS);
                Ok(OpenJob::of(message, items, false))
            }
            Plan::Txn(txns) => {
                let message = if txns.have_halves() {
                    merge::txn_response(message, &txns)?
                } else {
                    message
                };
                let mut script = Script::new();
                let leaves = leaves(&message, &txns, &mut script)?;
                Ok(OpenJob::new(message, script, leaves))
            }
        }
    }
}

/// What of a `RangeResponse` is looked at.
pub(super) fn items(values: bool) -> Items {
    if values {
        Items::KeyValues(range_response::KVS)
    } else {
        Items::Keys(range_response::KVS)
    }
}

/// The parts of a `TxnResponse` that hold `KeyValue`s.
///
/// Once the transaction has written anything, no value in its answer may fail the call: the client would take the
/// committed write for a failed one.
fn leaves(message: &[u8], txns: &Txns, script: &mut Script) -> Result<Vec<Leaf>, OpenFailure> {
    let mut leaves = Vec::new();
    let mut writes = false;
    pair::walk(message, txns, false, script, &mut |script, found| {
        let Found::One { op, frame, body } = found else {
            return Ok(());
        };
        let items = match op {
            OpPlan::Range(RangePlan { values, .. }) => items(*values),
            OpPlan::Put(_) => Items::KeyValues(put_response::PREV_KV),
            OpPlan::DeleteRange { .. } => Items::KeyValues(delete_range_response::PREV_KVS),
            OpPlan::Empty | OpPlan::Txn(_) => return Ok(()),
        };
        writes |= !matches!(op, OpPlan::Range(_));
        leaves.push(Leaf {
            frame: script.enter(frame, body.extent),
            at: body.extent.start,
            end: body.extent.end,
            items,
            may_fail: true,
        });
        Ok(())
    })?;
    for leaf in &mut leaves {
        leaf.may_fail = !writes;
    }
    Ok(leaves)
}
