//! `RangeRequest`: what of it decides how the answer is read.

use super::{Context, EscapedKey, Refusal, bounds::Bounds, merge::RangeMerge};
use crate::{
    types::KeyRange,
    wire::{
        Fields, WireError,
        etcd::range_request::{
            COUNT_ONLY, KEYS_ONLY, LIMIT, ORDER_DESCEND, ORDER_NONE, REVISION, SORT_ORDER, SORT_TARGET, TARGET_KEY,
            TARGET_VALUE,
        },
        once,
    },
};

/// The fields of a `RangeRequest` that are read here.
#[derive(Debug, Default)]
pub(super) struct RangeRequest<'a> {
    bounds: Bounds<'a>,
    limit: Option<i64>,
    revision: Option<i64>,
    sort_order: Option<i32>,
    sort_target: Option<i32>,
    keys_only: Option<bool>,
    count_only: Option<bool>,
}

impl<'a> RangeRequest<'a> {
    pub(super) fn parse(fields: Fields<'a>) -> Result<Self, WireError> {
        let mut request = Self::default();
        for field in fields {
            let field = field?;
            if request.bounds.take(&field)? {
                continue;
            }
            match field.number {
                LIMIT => once(&mut request.limit, LIMIT, field.int64()?)?,
                REVISION => once(&mut request.revision, REVISION, field.int64()?)?,
                SORT_ORDER => once(&mut request.sort_order, SORT_ORDER, field.enumeration()?)?,
                SORT_TARGET => once(&mut request.sort_target, SORT_TARGET, field.enumeration()?)?,
                KEYS_ONLY => once(&mut request.keys_only, KEYS_ONLY, field.flag()?)?,
                COUNT_ONLY => once(&mut request.count_only, COUNT_ONLY, field.flag()?)?,
                _ => {}
            }
        }
        Ok(request)
    }

    /// The keys asked for, unless they are to be sorted by values of which etcd has only ciphertext, or by what it does not know:
    /// as etcd's own check has it, whatever the keys are and whether or not a branch with it is taken.
    ///
    /// Whatever the order: etcd takes none for ascending where the target is not KEY. A single key needs no sorting.
    pub(super) fn range(&self, ctx: &Context<'_>) -> Result<KeyRange<'a>, Refusal> {
        let range = self.bounds.range()?;
        let is_known = (ORDER_NONE..=ORDER_DESCEND).contains(&self.sort_order.unwrap_or_default())
            && (TARGET_KEY..=TARGET_VALUE).contains(&self.sort_target.unwrap_or_default());
        if !is_known {
            return Err(Refusal::SortOption);
        }
        let sorts = self.sort_target == Some(TARGET_VALUE) && !matches!(range, KeyRange::One(_));
        if sorts && ctx.keyring.may_cover(&range) {
            let key = EscapedKey::new(self.bounds.key());
            return Err(Refusal::ValueSort { key });
        }
        Ok(range)
    }

    /// Whether the answer's `KeyValue`s have their values. Without them an absent value is not an empty one.
    pub(super) fn returns_values(&self) -> bool {
        !self.keys_only.unwrap_or_default() && !self.count_only.unwrap_or_default()
    }

    /// The revision that is asked for; 0 for the present.
    pub(super) fn revision(&self) -> i64 {
        self.revision.unwrap_or_default().max(0)
    }

    /// Whether the answer is to have no more than so many keys.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some_and(|limit| limit > 0)
    }

    /// The fields without which each half of a Range must be asked for in a transaction. Beside [`RangeMerge::left_out`] that is a
    /// negative revision: for a Range etcd takes it for the present, in a transaction for one that has been compacted.
    pub(super) fn left_out_of_rpc(&self) -> &'static [u32] {
        let values = self.merge().left_out();
        match self.revision {
            Some(..0) if values.is_empty() => &[REVISION],
            Some(..0) => &[REVISION, KEYS_ONLY],
            _ => values,
        }
    }

    /// How the answers of two halves of this request become the answer to the whole.
    pub(super) fn merge(&self) -> RangeMerge {
        RangeMerge::new(
            self.sort_order.unwrap_or_default(),
            self.sort_target.unwrap_or_default(),
            self.limit.unwrap_or_default(),
            self.keys_only.unwrap_or_default(),
        )
    }
}
