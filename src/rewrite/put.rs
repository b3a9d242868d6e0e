//! `PutRequest`: its value is sealed by the rule for its own key.

use super::{Context, EscapedKey, Refusal};
use crate::{
    types::{StorageKey, is_own_lease},
    value,
    wire::{
        Body, Frame, Script,
        etcd::put_request::{IGNORE_VALUE, KEY, LEASE, VALUE},
        once,
    },
};

/// How often the value of a put is sealed by the time it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// Not at all: no rule covers it, or there is none.
    Not,
    /// By its rule, which may say that it is stored as it came.
    Once,
    /// The client had sealed it before: kube-apiserver has an encryption configuration of its own.
    Twice,
}

/// Records in `script` what the `PutRequest` `put`, which is `frame`, becomes.
///
/// An absent value is an empty one, and sealed like any other; but with `ignore_value` it must stay absent, because etcd
/// keeps the stored value and refuses any beside that flag. One that a client sends all the same is sealed: etcd refuses
/// it sealed as it would in clear, and no value leaves here in the hope that it will be refused.
pub(super) fn seal(put: Body<'_>, frame: Frame, script: &mut Script, ctx: &Context<'_>) -> Result<Sealed, Refusal> {
    let (mut key, mut content, mut lease, mut ignore_value) = (None, None, None, None);
    for field in put.fields() {
        let field = field?;
        match field.number {
            KEY => once(&mut key, KEY, field.body()?.bytes)?,
            VALUE => once(&mut content, VALUE, (field.start, field.end, field.body()?.bytes))?,
            LEASE => once(&mut lease, LEASE, field.int64()?)?,
            IGNORE_VALUE => once(&mut ignore_value, IGNORE_VALUE, field.flag()?)?,
            _ => {}
        }
    }
    let key = key.filter(|key| !key.is_empty()).ok_or(Refusal::EmptyKey)?;
    if ctx.state.contains(key) {
        return Err(Refusal::StatePrefix);
    }
    if lease.is_some_and(is_own_lease) {
        return Err(Refusal::NoSuchLease);
    }
    let end = put.extent.end;
    let (start, end, plaintext) = content.unwrap_or((end, end, &[]));
    if ignore_value.unwrap_or_default() && plaintext.is_empty() {
        return Ok(Sealed::Not);
    }
    let Some(chain) = ctx.keyring.chain(key) else {
        return Ok(Sealed::Not);
    };
    let mark = script.mark();
    chain
        .to_storage(StorageKey(key), plaintext, ctx.deks, script.fresh())
        .map_err(|source| Refusal::Seal {
            key: EscapedKey::new(key),
            source,
        })?;
    if script.fresh_since(mark) == plaintext {
        script.discard(mark);
    } else {
        script.set_field(frame, start, end, VALUE, mark);
    }
    Ok(if value::is_sealed(plaintext) {
        Sealed::Twice
    } else {
        Sealed::Once
    })
}
