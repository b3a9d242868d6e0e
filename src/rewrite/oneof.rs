//! The oneofs of etcd's messages: `RequestOp`, `ResponseOp`, `WatchRequest`. Each is a message of nothing else.

use super::Refusal;
use crate::wire::{Body, Field, WireError};

/// The member of a oneof, which in etcd is always a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// The member as a field of the oneof's message.
    pub(super) field: Field<'a>,
    /// The member's content.
    pub(super) body: Body<'a>,
}

/// The member of a request's oneof, whose members have the field numbers 1 to `last`; `None` if it has no field at all.
///
/// # Errors
/// [`WireError::Oneof`] if it has more than one, of which decoders would take the last. [`Refusal::UnknownKind`] if it has
/// an unknown field: to a later etcd that may be a member too, and so the one that counts.
pub(super) fn asked(message: Body<'_>, last: u32) -> Result<Option<Member<'_>>, Refusal> {
    let mut found = None;
    for field in message.fields() {
        let field = field?;
        if field.number > last {
            return Err(Refusal::UnknownKind);
        }
        take(&mut found, field)?;
    }
    Ok(found)
}

/// The member of an answer's oneof. Other fields are left to the client.
///
/// # Errors
/// [`WireError::Oneof`] if it has more than one.
pub(super) fn answered(message: Body<'_>, last: u32) -> Result<Option<Member<'_>>, WireError> {
    let mut found = None;
    for field in message.fields() {
        let field = field?;
        if field.number <= last {
            take(&mut found, field)?;
        }
    }
    Ok(found)
}

fn take<'a>(found: &mut Option<Member<'a>>, field: Field<'a>) -> Result<(), WireError> {
    let body = field.body()?;
    match found.replace(Member { field, body }) {
        Some(_) => Err(WireError::Oneof),
        None => Ok(()),
    }
}
