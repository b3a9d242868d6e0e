//! An edited message in pieces: what comes out of it one behind the other, each a header that is new and a stretch of bytes
//! that lie somewhere. Says where they lie; touches none of them.

use std::{mem, ops::Range, vec};

use super::{Frame, varint};

/// A tag of at most five bytes and a length of at most ten.
const MAX_HEADER: usize = 15;

/// A length prefix that changes.
#[derive(Debug)]
pub(super) struct Length {
    pub(super) at: usize,
    pub(super) cut: usize,
    pub(super) new: u64,
}

/// A stretch that is replaced.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) at: usize,
    pub(super) cut: usize,
    pub(super) frame: Frame,
    pub(super) payload: Payload,
}

/// What comes in its place. Offsets are into the new bytes, but for `FieldInPlace`: into the stretch that is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    Nothing,
    Raw { start: usize, end: usize },
    Field { number: u32, start: usize, end: usize },
    FieldInPlace { number: u32, start: usize, end: usize },
}

impl Edit {
    /// By how many bytes the enclosing message grows.
    pub(super) fn growth(&self) -> isize {
        let len = match self.payload {
            Payload::Nothing => 0,
            Payload::Raw { start, end } => end - start,
            Payload::Field { number, start, end } | Payload::FieldInPlace { number, start, end } => {
                let len = end - start;
                varint::len(varint::bytes_tag(number)) + varint::len(len as u64) + len
            }
        };
        len.cast_signed() - self.cut.cast_signed()
    }
}

/// What comes next: new bytes, then some that are there already.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) header: Header,
    pub(super) stretch: Stretch,
}

impl Piece {
    pub(super) fn is_empty(&self) -> bool {
        self.header.is_empty() && self.stretch.is_empty()
    }
}

/// Bytes of the message, or of the new ones.
#[derive(Debug)]
pub(super) enum Stretch {
    Message(Range<usize>),
    Fresh(Range<usize>),
}

impl Default for Stretch {
    fn default() -> Self {
        Self::Message(0..0)
    }
}

impl Stretch {
    pub(super) fn len(&self) -> usize {
        let (Self::Message(range) | Self::Fresh(range)) = self;
        range.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The pieces of one message.
#[derive(Debug)]
pub(super) struct Pieces {
    lengths: vec::IntoIter<Length>,
    edits: vec::IntoIter<Edit>,
    /// How much of the message has been dealt with, and how much there is.
    at: usize,
    end: usize,
}

impl Pieces {
    /// Of a message of `end` bytes. `lengths` and `edits` are sorted by place.
    pub(super) fn new(lengths: Vec<Length>, edits: Vec<Edit>, end: usize) -> Self {
        Self {
            lengths: lengths.into_iter(),
            edits: edits.into_iter(),
            at: 0,
            end,
        }
    }

    /// Up to where the message is not needed any more, but for what the piece that came last has of it.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether all of the message is one piece, and that is still to come.
    pub(super) fn is_untouched(&self) -> bool {
        self.at == 0 && self.edits.as_slice().is_empty()
    }

    /// What comes next, which may be empty; `None` after the last.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Piece> {
        let edit = self.edits.as_slice().first().map(|edit| edit.at);
        if edit.is_some_and(|edit| edit <= self.at) {
            return self.edits.next().map(|edit| self.replaced(&edit));
        }
        let mut header = Header::default();
        if let Some(length) = self.lengths.as_slice().first()
            && length.at <= self.at
        {
            header.put(length.new);
            self.at += length.cut;
            self.lengths.next();
        } else if self.at >= self.end {
            return None;
        }
        let length = self.lengths.as_slice().first().map(|length| length.at);
        let stop = edit.unwrap_or(self.end).min(length.unwrap_or(self.end)).max(self.at);
        Some(Piece {
            header,
            stretch: Stretch::Message(mem::replace(&mut self.at, stop)..stop),
        })
    }

    fn replaced(&mut self, edit: &Edit) -> Piece {
        self.at += edit.cut;
        match edit.payload {
            Payload::Nothing => Piece::default(),
            Payload::Raw { start, end } => Piece {
                header: Header::default(),
                stretch: Stretch::Fresh(start..end),
            },
            Payload::Field { number, start, end } => Piece {
                header: Header::field(number, end - start),
                stretch: Stretch::Fresh(start..end),
            },
            Payload::FieldInPlace { number, start, end } => Piece {
                header: Header::field(number, end - start),
                stretch: Stretch::Message(start..end),
            },
        }
    }
}

/// A tag and a length, or a length alone.
#[derive(Debug, Default)]
pub(super) struct Header {
    bytes: [u8; MAX_HEADER],
    start: usize,
    end: usize,
}

impl Header {
    /// Tag and length of a length-delimited field.
    fn field(number: u32, len: usize) -> Self {
        let mut header = Self::default();
        header.put(varint::bytes_tag(number));
        header.put(len as u64);
        header
    }

    fn put(&mut self, mut value: u64) {
        loop {
            let more = value >= 0x80;
            let byte = (value & 0x7f) as u8 | if more { 0x80 } else { 0 };
            let Some(slot) = self.bytes.get_mut(self.end) else {
                return;
            };
            *slot = byte;
            self.end += 1;
            value >>= 7;
            if !more {
                return;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Up to `max` bytes from the front.
    pub(super) fn take(&mut self, max: usize) -> &[u8] {
        let end = self.end.min(self.start.saturating_add(max));
        let start = mem::replace(&mut self.start, end);
        self.bytes.get(start..end).unwrap_or_default()
    }
}
