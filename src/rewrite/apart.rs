//! A range around the proxy's own records, asked for in parts: of a store that takes no transaction of two ranges. The parts after
//! the first are asked for at the first one's revision, so that all together are what such a transaction answers.
//!
//! Such a store may read ranges otherwise than etcd, or leave out what its database broke off. So the keys of the parts are counted, and
//! those of the whole: unless both come to the same, no part is believed.

use bytes::Bytes;

use super::{
    Context, OpenFailure, Refusal,
    bounds::{self, Parts, put_with_bounds, whole},
    range::RangeRequest,
};
use crate::{
    types::prefix_end,
    wire::{
        Fields, WireError,
        etcd::{
            op,
            range_request::{COUNT_ONLY, KEYS_ONLY, LIMIT, REVISION, SORT_ORDER, SORT_TARGET},
            range_response, txn_response,
        },
        once, put_bytes, put_varint,
    },
};

/// `int64 ResponseHeader.revision`
const HEADER_REVISION: u32 = 3;

/// What etcd means by an end of `\0`, in words that a store takes that compares names as text: no name is behind this one.
const LAST_NAME: &[u8] = "\u{10ffff}".as_bytes();

/// The fields that a count does without.
const NOT_COUNTED: [u32; 6] = [LIMIT, REVISION, SORT_ORDER, SORT_TARGET, KEYS_ONLY, COUNT_ONLY];

/// A range in parts.
#[derive(Debug)]
pub struct ApartRange {
    first: Vec<u8>,
    second: Vec<u8>,
    /// All of it, and the proxy's own: to be counted.
    counted: [Vec<u8>; 2],
    /// The revision that the client asks for.
    revision: i64,
}

impl ApartRange {
    /// The client's `RangeRequest` in parts; `None` if it does not go around the proxy's own records.
    ///
    /// # Errors
    /// As for the request as a whole.
    pub fn of(message: &Bytes, ctx: &Context<'_>) -> Result<Option<Self>, Refusal> {
        let read = RangeRequest::parse(Fields::new(message))?;
        let Parts::Two([(key, before), (behind, end)]) = bounds::parts(read.range(ctx)?, ctx)? else {
            return Ok(None);
        };
        let end = if end == [0] { LAST_NAME } else { end };
        let asked = whole(message);
        let left_out = [read.left_out_of_rpc(), &[REVISION]].concat();
        let part = |key: &[u8], end: &[u8], left_out: &[u32]| {
            let mut out = Vec::new();
            put_with_bounds(&mut out, asked, (key, end), left_out)?;
            Ok::<_, WireError>(out)
        };
        let count = |key: &[u8], end: &[u8]| {
            let mut out = part(key, end, &NOT_COUNTED)?;
            put_varint(&mut out, COUNT_ONLY, 1);
            Ok::<_, WireError>(out)
        };
        let own = ctx.state.as_bytes();
        let own_end = prefix_end(own).unwrap_or_else(|| LAST_NAME.to_vec());
        Ok(Some(Self {
            first: part(key, before, &left_out)?,
            second: part(behind, end, &left_out)?,
            counted: [count(key, end)?, count(own, &own_end)?],
            revision: read.revision(),
        }))
    }

    /// The request for the first part.
    pub fn first(&self) -> Bytes {
        at(&self.first, self.revision)
    }

    /// The requests for what else there is, once the first part has been answered: the second part, and two counts.
    ///
    /// # Errors
    /// The answer is no `RangeResponse` with a revision.
    pub fn others(&self, first: &[u8]) -> Result<[Bytes; 3], OpenFailure> {
        let revision = if self.revision > 0 {
            self.revision
        } else {
            revision_of(first)?
        };
        let [all, own] = &self.counted;
        Ok([&self.second, all, own].map(|request| at(request, revision)))
    }
}

/// The `TxnResponse` that etcd answers to a transaction of both parts, of the answers to all requests.
///
/// # Errors
/// [`OpenFailure::Incomplete`] if the parts are not the whole.
pub fn joined(first: &[u8], [second, all, own]: [&[u8]; 3]) -> Result<Bytes, OpenFailure> {
    let parts = [first, second, own].map(count);
    let [first_count, second_count, own_count] = parts;
    let together = first_count?
        .checked_add(second_count?)
        .and_then(|both| both.checked_add(own_count.ok()?));
    if together != Some(count(all)?) {
        return Err(OpenFailure::Incomplete);
    }
    let mut out = Vec::with_capacity(first.len() + second.len() + 64);
    if let Some(header) = header(first)? {
        put_bytes(&mut out, txn_response::HEADER, header);
    }
    put_varint(&mut out, txn_response::SUCCEEDED, 1);
    for part in [first, second] {
        let mut response = Vec::with_capacity(part.len() + 8);
        put_bytes(&mut response, op::RANGE, part);
        put_bytes(&mut out, txn_response::RESPONSES, &response);
    }
    Ok(out.into())
}

/// `request` at `revision`.
fn at(request: &[u8], revision: i64) -> Bytes {
    let mut out = request.to_vec();
    put_varint(&mut out, REVISION, revision.max(0).cast_unsigned());
    out.into()
}

/// How many keys a `RangeResponse` says that its range has.
fn count(answer: &[u8]) -> Result<i64, WireError> {
    let mut found = None;
    for field in Fields::new(answer) {
        let field = field?;
        if field.number == range_response::COUNT {
            once(&mut found, range_response::COUNT, field.int64()?)?;
        }
    }
    Ok(found.unwrap_or_default())
}

fn header(answer: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let mut found = None;
    for field in Fields::new(answer) {
        let field = field?;
        if field.number == range_response::HEADER {
            once(&mut found, range_response::HEADER, field.body()?.bytes)?;
        }
    }
    Ok(found)
}

fn revision_of(answer: &[u8]) -> Result<i64, OpenFailure> {
    let mut found = None;
    for field in Fields::new(header(answer)?.unwrap_or_default()) {
        let field = field?;
        if field.number == HEADER_REVISION {
            once(&mut found, HEADER_REVISION, field.int64()?)?;
        }
    }
    found.filter(|revision| *revision > 0).ok_or(OpenFailure::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(count: u64, revision: u64) -> Vec<u8> {
        let (mut out, mut header) = (Vec::new(), Vec::new());
        put_varint(&mut header, HEADER_REVISION, revision);
        put_bytes(&mut out, range_response::HEADER, &header);
        put_varint(&mut out, range_response::COUNT, count);
        out
    }

    #[test]
    fn parts_that_are_not_the_whole_are_not_joined() {
        let join = |counts: [u64; 4]| {
            let [first, second, all, own] = counts.map(|count| answer(count, 7));
            joined(&first, [&second, &all, &own]).map(drop)
        };
        assert_eq!(join([2, 3, 6, 1]), Ok(()));
        assert_eq!(join([0, 0, 0, 0]), Ok(()));
        // As kine before 0.16.3 answers a range whose end is no folder's, and as one that was broken off is counted.
        for wrong in [
            [0, 3, 6, 1],
            [2, 0, 6, 1],
            [2, 3, 0, 1],
            [2, 3, 5, 1],
            [u64::MAX >> 1, 3, 6, 1],
        ] {
            assert_eq!(join(wrong), Err(OpenFailure::Incomplete), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_without_a_revision_pins_nothing() {
        let asked = ApartRange {
            first: Vec::new(),
            second: Vec::new(),
            counted: [Vec::new(), Vec::new()],
            revision: 0,
        };
        assert_eq!(asked.others(&answer(1, 0)), Err(OpenFailure::Incomplete));
        assert_eq!(asked.others(b""), Err(OpenFailure::Incomplete));
        let pinned = asked.others(&answer(1, 9)).unwrap();
        assert_eq!(pinned[0], at(&[], 9));
    }
}
