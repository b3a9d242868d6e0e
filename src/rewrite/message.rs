//! The message that an answer is opened in: written to where it is long and nobody else holds it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::OpenFailure;
use crate::wire::{Script, Spliced, WireError};

/// From this length on, values are opened where they lie, where nobody else holds the message, and nothing of it is copied. A
/// shorter one may be a small part of what was read from a socket at once, which it should not keep in memory until a slow
/// client has read it.
const IN_PLACE_FROM: usize = 16 * 1024;

/// The message being opened.
#[derive(Debug)]
pub(super) enum Message {
    /// Not to be written to: it is short, or someone else holds it too.
    Shared(Bytes),
    /// Long, and ours alone.
    Own(BytesMut),
}

impl Message {
    pub(super) fn new(message: Bytes) -> Self {
        if message.len() < IN_PLACE_FROM {
            return Self::Shared(message);
        }
        message.try_into_mut().map_or_else(Self::Shared, Self::Own)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    /// What `script` makes of it.
    pub(super) fn spliced(self, script: Script) -> Spliced {
        match self {
            Self::Shared(message) => script.apply(message),
            Self::Own(message) => script.apply_in_place(message),
        }
    }

    pub(super) fn get(&self, range: &Range<usize>) -> &[u8] {
        self.as_bytes().get(range.clone()).unwrap_or_default()
    }
}

/// A key, and a value to be written to, of one message.
///
/// # Errors
/// They overlap, or are not in it: no two fields of a message that was walked.
pub(super) fn disjoint<'m>(
    message: &'m mut [u8],
    key: &Range<usize>,
    value: &Range<usize>,
) -> Result<(&'m [u8], &'m mut [u8]), OpenFailure> {
    let [key, value] = message
        .get_disjoint_mut([key.clone(), value.clone()])
        .map_err(|_| WireError::Truncated)?;
    Ok((key, value))
}
