//! Where in an answer the values are: the `KeyValue`s among the fields of a response, and the key and the value of each. Opens
//! nothing.

use std::ops::Range;

use super::OpenFailure;
use crate::wire::{
    Body, Extent, Field,
    etcd::{event, key_value, watch_response},
    once,
};

/// Where a part of an answer has its values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Items {
    /// Its fields of this number are `KeyValue`s.
    KeyValues(u32),
    /// The same, without values.
    Keys(u32),
    /// It is a `WatchResponse`.
    Events,
}

/// Where a `KeyValue` has what. Offsets into the outermost message.
pub(super) struct Found {
    /// The `KeyValue` itself.
    pub(super) extent: Extent,
    pub(super) key: Range<usize>,
    /// The value's bytes.
    pub(super) value: Range<usize>,
    /// The whole value field; where there is none, the empty stretch at the end.
    pub(super) field: (usize, usize),
    /// It is of a DELETE: a key and a revision, and its absent value no empty one.
    pub(super) is_deleted: bool,
}

impl Found {
    /// Whether it has a value, if an empty one.
    pub(super) fn may_have_value(&self) -> bool {
        !self.is_deleted
    }
}

/// The values of one field of what has `items`: one, or an event's two.
pub(super) fn values(items: Items, field: &Field<'_>) -> Result<[Option<Found>; 2], OpenFailure> {
    match items {
        Items::KeyValues(number) if field.number == number => Ok([Some(find(field.body()?)?), None]),
        Items::Events if field.number == watch_response::EVENTS => {
            let (kv, prev_kv) = find_in_event(field.body()?)?;
            Ok([kv.filter(Found::may_have_value), prev_kv])
        }
        Items::KeyValues(_) | Items::Keys(_) | Items::Events => Ok([None, None]),
    }
}

/// What the `KeyValue` in `kv` has where.
pub(super) fn find(kv: Body<'_>) -> Result<Found, OpenFailure> {
    let (mut key, mut value) = (None, None);
    for field in kv.fields() {
        let field = field?;
        match field.number {
            key_value::KEY => once(&mut key, key_value::KEY, field.body()?.extent)?,
            key_value::VALUE => {
                let content = field.body()?.extent;
                once(&mut value, key_value::VALUE, (content, (field.start, field.end)))?;
            }
            _ => {}
        }
    }
    let end = kv.extent.end;
    Ok(Found {
        extent: kv.extent,
        key: key.map_or(end..end, |key| key.start..key.end),
        value: value.map_or(end..end, |(content, _)| content.start..content.end),
        field: value.map_or((end, end), |(_, field)| field),
        is_deleted: false,
    })
}

/// The `kv` and `prev_kv` of an event.
pub(super) fn find_in_event(event: Body<'_>) -> Result<(Option<Found>, Option<Found>), OpenFailure> {
    let (mut kind, mut kv, mut prev_kv) = (None, None, None);
    for field in event.fields() {
        let field = field?;
        match field.number {
            event::TYPE => once(&mut kind, event::TYPE, field.enumeration()?)?,
            event::KV => once(&mut kv, event::KV, field.body()?)?,
            event::PREV_KV => once(&mut prev_kv, event::PREV_KV, field.body()?)?,
            _ => {}
        }
    }
    let is_deleted = kind == Some(event::TYPE_DELETE);
    let kv = kv.map(find).transpose()?.map(|kv| Found { is_deleted, ..kv });
    Ok((kv, prev_kv.map(find).transpose()?))
}
