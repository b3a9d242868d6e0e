//! The values of etcd's store: a `mvccpb.KeyValue`, of which key and value are wanted.

use crate::wire::etcd::key_value::{KEY, VALUE};
use crate::wire::{Fields, WireError};

/// One change of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut record = Self::default();
        for field in Fields::new(bytes) {
            let field = field?;
            let place = match field.number {
                KEY => &mut record.key,
                VALUE => &mut record.value,
                _ => continue,
            };
            // Of a field that comes twice the last one counts, as for etcd.
            *place = field.body()?.bytes;
        }
        Ok(record)
    }
}
