//! Compare: a transaction's guard, which etcd evaluates over what it has stored.

use super::{Context, EscapedKey, Refusal, bounds};
use crate::{
    types::{KeyRange, Reach},
    wire::{
        Body,
        etcd::compare::{KEY, RANGE_END, TARGET, TARGET_VALUE},
        once,
    },
};

/// Checks one Compare.
///
/// # Errors
/// [`Refusal::ValueCompare`] if it compares values that etcd has only sealed, [`Refusal::StatePrefix`] if it would tell
/// anything about the proxy's own records.
pub(super) fn check(compare: Body<'_>, ctx: &Context<'_>) -> Result<(), Refusal> {
    let (mut target, mut key, mut range_end) = (None, None, None);
    for field in compare.fields() {
        let field = field?;
        match field.number {
            TARGET => once(&mut target, TARGET, field.enumeration()?)?,
            KEY => once(&mut key, KEY, field.body()?.bytes)?,
            RANGE_END => once(&mut range_end, RANGE_END, field.body()?.bytes)?,
            _ => {}
        }
    }
    let key = key.unwrap_or_default();
    let range = bounds::range(key, range_end)?;
    if ctx.state.reach(range) != Reach::Clear {
        return Err(Refusal::StatePrefix);
    }
    let sealed = match range {
        KeyRange::One(key) => ctx.keyring.chain(key).is_some(),
        range => ctx.keyring.may_cover(&range),
    };
    if target == Some(TARGET_VALUE) && sealed {
        let key = EscapedKey::new(key);
        return Err(Refusal::ValueCompare { key });
    }
    Ok(())
}
