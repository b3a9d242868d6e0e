//! The oneofs of etcd's messages: `RequestOp`, `ResponseOp`, `WatchRequest`.

use crate::wire::{Body, Field, WireError};

/// What a oneof holds.
#[derive(Debug)]
pub(super) enum Oneof<'a> {
    /// No field at all.
    Empty,
    /// One member, which is a message.
    Member {
        /// The member as a field.
        field: Field<'a>,
        /// The member's content.
        body: Body<'a>,
    },
    /// No member, but a field that is not known: a member of a later version, perhaps.
    Unknown,
}

/// The member of the oneof `message`, whose members have the field numbers 1 to `last`.
///
/// # Errors
/// [`WireError::Oneof`] if it has more than one, of which decoders would take the last.
pub(super) fn member(message: Body<'_>, last: u32) -> Result<Oneof<'_>, WireError> {
    let mut found = Oneof::Empty;
    for field in message.fields() {
        let field = field?;
        found = match (found, field.number <= last) {
            (Oneof::Empty | Oneof::Unknown, true) => {
                let body = field.body()?;
                Oneof::Member { field, body }
            }
            (Oneof::Member { .. }, true) => return Err(WireError::Oneof),
            (Oneof::Empty, false) => Oneof::Unknown,
            (found, false) => found,
        };
    }
    Ok(found)
}
