//! `key` and `range_end`, which `RangeRequest`, `DeleteRangeRequest` and `WatchCreateRequest` have as fields 1 and 2, and how
//! such a request is cut around the proxy's own records.

use super::{Context, Refusal};
use crate::{
    types::{KeyRange, Reach},
    wire::{
        Body, Field, Fields, WireError,
        etcd::range_request::{KEY, RANGE_END},
        once, put_bytes,
    },
};

/// The two fields as a request has them.
#[derive(Debug, Default)]
pub(super) struct Bounds<'a> {
    key: Option<&'a [u8]>,
    range_end: Option<&'a [u8]>,
}

impl<'a> Bounds<'a> {
    /// Takes the field if it is one of the two; says whether it was.
    pub(super) fn take(&mut self, field: &Field<'a>) -> Result<bool, WireError> {
        match field.number {
            KEY => once(&mut self.key, KEY, field.body()?.bytes)?,
            RANGE_END => once(&mut self.range_end, RANGE_END, field.body()?.bytes)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first key; empty where it is absent.
    pub(super) fn key(&self) -> &'a [u8] {
        self.key.unwrap_or_default()
    }

    /// The keys that the request names.
    pub(super) fn range(&self) -> Result<KeyRange<'a>, Refusal> {
        range(self.key(), self.range_end)
    }

    /// `key` and `range_end` of a `WatchCreateRequest`. Here etcd itself takes an empty `range_end` for an absent one, and no key for
    /// the first that there can be.
    pub(super) fn watched(&self) -> (&'a [u8], &'a [u8]) {
        let key = if self.key().is_empty() { &[0][..] } else { self.key() };
        (key, self.range_end.unwrap_or_default())
    }
}

/// The keys that `key` and `range_end` name. An empty `range_end` must be absent: gogo's decoder makes a non-nil slice of
/// an empty one, and etcd up to 3.6 then reads every key from `key` on, the proxy's own among them. An empty `key` is refused here,
/// as etcd would: not every store does, and one that does not takes it for all keys.
pub(super) fn range<'a>(key: &'a [u8], range_end: Option<&'a [u8]>) -> Result<KeyRange<'a>, Refusal> {
    match range_end {
        _ if key.is_empty() => Err(Refusal::EmptyKey),
        Some([]) => Err(WireError::EmptyRangeEnd.into()),
        range_end => Ok(KeyRange::new(key, range_end.unwrap_or_default())),
    }
}

/// What the proxy's own records leave of a request over a range.
pub(super) enum Parts<'a> {
    /// The request as it is.
    Whole,
    /// The request with another `key` and `range_end`.
    One((&'a [u8], &'a [u8])),
    /// Two requests, whose answers are to be merged.
    Two([(&'a [u8], &'a [u8]); 2]),
}

/// How a request over `range` must be cut.
///
/// # Errors
/// [`Refusal::StatePrefix`] if nothing is left of it.
pub(super) fn parts<'a>(range: KeyRange<'a>, ctx: &Context<'a>) -> Result<Parts<'a>, Refusal> {
    match ctx.state.reach(range) {
        Reach::Clear => Ok(Parts::Whole),
        Reach::Inside => Err(Refusal::StatePrefix),
        Reach::Around { before, behind } => match (before, behind) {
            (Some(before), Some(behind)) => Ok(Parts::Two([before, behind])),
            (one, other) => one.or(other).map(Parts::One).ok_or(Refusal::StatePrefix),
        },
    }
}

/// Appends `request` with another `key` and `range_end`; all its other fields but those `left_out` as they are, unknown ones
/// included.
pub(super) fn put_with_bounds(
    out: &mut Vec<u8>,
    request: Body<'_>,
    (key, range_end): (&[u8], &[u8]),
    left_out: &[u32],
) -> Result<(), WireError> {
    put_bytes(out, KEY, key);
    put_bytes(out, RANGE_END, range_end);
    let start = request.extent.start;
    for field in request.fields() {
        let field = field?;
        if field.number != KEY && field.number != RANGE_END && !left_out.contains(&field.number) {
            out.extend_from_slice(raw(request.bytes, start, &field));
        }
    }
    Ok(())
}

/// The whole of `field`, tag included, in a message that begins at `start`.
pub(super) fn raw<'a>(message: &'a [u8], start: usize, field: &Field<'_>) -> &'a [u8] {
    message.get(field.start - start..field.end - start).unwrap_or_default()
}

/// An outermost message as a body.
pub(super) fn whole(message: &[u8]) -> Body<'_> {
    Body {
        bytes: message,
        extent: crate::wire::Extent {
            len_at: 0,
            start: 0,
            end: message.len(),
        },
    }
}

/// The bounds of a request that has no other field of interest: `DeleteRangeRequest`, `WatchCreateRequest`.
pub(super) fn parse(fields: Fields<'_>) -> Result<Bounds<'_>, WireError> {
    let mut bounds = Bounds::default();
    for field in fields {
        bounds.take(&field?)?;
    }
    Ok(bounds)
}
