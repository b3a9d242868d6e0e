//! Small readers over `wire` for answers of etcd's. Like protobuf's own decoders they take the last of a field that
//! should stand once.

use bytes::Bytes;

use crate::wire::{Body, Fields, WireError};

/// `ResponseHeader header`, the first field of every answer.
pub(super) const HEADER: u32 = 1;
/// `int64 ResponseHeader.revision`
const HEADER_REVISION: u32 = 3;
/// `uint64 ResponseHeader.cluster_id`
const HEADER_CLUSTER_ID: u32 = 1;
/// `uint64 ResponseHeader.member_id`
const HEADER_MEMBER_ID: u32 = 2;

/// The store's revision when the answer was made; 0 where it has none.
pub(super) fn header_revision(message: &[u8]) -> Result<i64, WireError> {
    in_header(message, HEADER_REVISION).map(u64::cast_signed)
}

/// The member that answered.
pub(super) fn header_member(message: &[u8]) -> Result<u64, WireError> {
    in_header(message, HEADER_MEMBER_ID)
}

/// The cluster that it is a member of.
pub(super) fn header_cluster(message: &[u8]) -> Result<u64, WireError> {
    in_header(message, HEADER_CLUSTER_ID)
}

fn in_header(message: &[u8], number: u32) -> Result<u64, WireError> {
    let mut found = 0;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == HEADER {
            found = number_in(field.body()?, number)?;
        }
    }
    Ok(found)
}

fn number_in(body: Body<'_>, number: u32) -> Result<u64, WireError> {
    let mut found = 0;
    for field in body.fields() {
        let field = field?;
        if field.number == number {
            found = field.varint()?;
        }
    }
    Ok(found)
}

/// The varint field `number` of `message`; 0 where it is absent.
pub(super) fn number(message: &[u8], number: u32) -> Result<u64, WireError> {
    let mut found = 0;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            found = field.varint()?;
        }
    }
    Ok(found)
}

/// The content of `body` as a slice of `whole`, the message that it lies in.
pub(super) fn slice(whole: &Bytes, body: &Body<'_>) -> Bytes {
    let extent = body.extent;
    // An extent lies within the message that it was found in.
    whole.slice(extent.start.min(whole.len())..extent.end.min(whole.len()))
}
