//! A message as a sequence of chunks: stretches of the old one, new length prefixes and new fields, in order.
//!
//! Its length is known before its first byte is handed out, as a gRPC frame demands; it is never put together as a whole
//! unless asked.

use std::{mem, ops::Range, vec};

use bytes::Bytes;

use super::{Frame, varint};

/// From this length on a stretch is handed out as it lies in memory; shorter ones are copied together. 16 KiB is what
/// HTTP/2 puts into one DATA frame by default, so sharing less would make more frames.
const SHARE_FROM: usize = 16 * 1024;

/// A tag of at most five bytes and a length of at most ten.
const MAX_HEADER: usize = 15;

/// A message that is handed out chunk by chunk.
#[derive(Debug)]
pub struct Spliced {
    message: Bytes,
    fresh: Bytes,
    lengths: vec::IntoIter<Length>,
    edits: vec::IntoIter<Edit>,
    /// How much of `message` has been dealt with.
    at: usize,
    /// What is to be handed out next: a header, then a stretch.
    header: Header,
    stretch: Stretch,
    /// Bytes still to be handed out.
    left: usize,
}

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

/// What comes in its place. Offsets are into the new bytes, but for `FieldInPlace`: into the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    Nothing,
    Raw { start: usize, end: usize },
    Field { number: u32, start: usize, end: usize },
    FieldInPlace { number: u32, start: usize, end: usize },
}

#[derive(Debug)]
enum Stretch {
    Message(Range<usize>),
    Fresh(Range<usize>),
}

#[derive(Debug, Default)]
struct Header {
    bytes: [u8; MAX_HEADER],
    start: usize,
    end: usize,
}

impl Spliced {
    /// `message` as it is.
    pub fn untouched(message: Bytes) -> Self {
        let len = message.len();
        Self::edited(message, Bytes::new(), Vec::new(), Vec::new(), len)
    }

    /// `lengths` and `edits` are sorted by place.
    pub(super) fn edited(message: Bytes, fresh: Bytes, lengths: Vec<Length>, edits: Vec<Edit>, len: usize) -> Self {
        Self {
            message,
            fresh,
            lengths: lengths.into_iter(),
            edits: edits.into_iter(),
            at: 0,
            header: Header::default(),
            stretch: Stretch::Message(0..0),
            left: len,
        }
    }

    /// Bytes not yet handed out: the length of the message before the first chunk.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all has been handed out.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next chunk, of 1 to `max` bytes (0 counts as 1); `None` after the last.
    ///
    /// A message of at most `max` bytes without long stretches comes in one chunk. An unedited stretch of 16 KiB or more
    /// is not copied, nor is any part of an unedited message.
    pub fn next_chunk(&mut self, max: usize) -> Option<Bytes> {
        let want = self.left.min(max.max(1));
        let mut out = Vec::new();
        while out.len() < want {
            if self.header.is_empty() && self.stretch.len() == 0 {
                self.advance();
            }
            if self.header.is_empty() && (self.stretch.len() >= want || self.stretch.len() >= SHARE_FROM) {
                if !out.is_empty() {
                    break;
                }
                return Some(self.share(want));
            }
            if out.is_empty() {
                out.reserve_exact(want);
            }
            let before = out.len();
            self.copy(&mut out, want);
            if out.len() == before && self.is_spent() {
                break;
            }
        }
        if out.is_empty() {
            self.left = 0;
            return None;
        }
        self.left -= out.len().min(self.left);
        Some(out.into())
    }

    /// The rest of the message in one piece; for an unedited message the very bytes it was made of.
    pub fn into_bytes(mut self) -> Bytes {
        if self.is_untouched() {
            return self.message;
        }
        let mut out = Vec::with_capacity(self.left);
        let want = self.left;
        while out.len() < want && !self.is_spent() {
            if self.header.is_empty() && self.stretch.len() == 0 {
                self.advance();
            }
            self.copy(&mut out, want);
        }
        out.into()
    }

    /// The message if it has no edit and nothing of it has been handed out: all of it as one piece.
    pub fn as_untouched(&self) -> Option<&Bytes> {
        self.is_untouched().then_some(&self.message)
    }

    fn is_untouched(&self) -> bool {
        self.left == self.message.len() && self.edits.as_slice().is_empty() && self.at == 0
    }

    fn is_spent(&self) -> bool {
        self.header.is_empty()
            && self.stretch.len() == 0
            && self.at >= self.message.len()
            && self.edits.as_slice().is_empty()
            && self.lengths.as_slice().is_empty()
    }

    /// Sets `header` and `stretch`, both spent, to what comes next.
    fn advance(&mut self) {
        let length = self.lengths.as_slice().first().map(|length| length.at);
        let edit = self.edits.as_slice().first().map(|edit| edit.at);
        let next = match (length, edit) {
            (Some(length), Some(edit)) => length.min(edit),
            (one, other) => one.or(other).unwrap_or(self.message.len()),
        };
        if next > self.at {
            self.stretch = Stretch::Message(mem::replace(&mut self.at, next)..next);
        } else if edit == Some(next) {
            let Some(edit) = self.edits.next() else { return };
            self.at += edit.cut;
            self.stretch = match edit.payload {
                Payload::Nothing => Stretch::Fresh(0..0),
                Payload::Raw { start, end } => Stretch::Fresh(start..end),
                Payload::Field { number, start, end } => {
                    self.header = Header::field(number, end - start);
                    Stretch::Fresh(start..end)
                }
                Payload::FieldInPlace { number, start, end } => {
                    self.header = Header::field(number, end - start);
                    Stretch::Message(start..end)
                }
            };
        } else if let Some(length) = self.lengths.next() {
            self.at += length.cut;
            self.header.put(length.new);
        }
    }

    /// The front of the current stretch, up to `want` bytes, without copying.
    fn share(&mut self, want: usize) -> Bytes {
        let (whole, range) = match &mut self.stretch {
            Stretch::Message(range) => (&self.message, range),
            Stretch::Fresh(range) => (&self.fresh, range),
        };
        let end = range.end.min(range.start.saturating_add(want)).min(whole.len());
        let start = mem::replace(&mut range.start, end).min(end);
        self.left -= (end - start).min(self.left);
        whole.slice(start..end)
    }

    /// Appends from `header`, then from `stretch`, until `out` has `want` bytes.
    fn copy(&mut self, out: &mut Vec<u8>, want: usize) {
        out.extend_from_slice(self.header.take(want - out.len()));
        let (whole, range) = match &mut self.stretch {
            Stretch::Message(range) => (&self.message, range),
            Stretch::Fresh(range) => (&self.fresh, range),
        };
        let end = range.end.min(range.start.saturating_add(want - out.len()));
        let start = mem::replace(&mut range.start, end);
        out.extend_from_slice(whole.get(start..end).unwrap_or_default());
    }
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

impl Stretch {
    fn len(&self) -> usize {
        let (Self::Message(range) | Self::Fresh(range)) = self;
        range.len()
    }
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

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Up to `max` bytes from the front.
    fn take(&mut self, max: usize) -> &[u8] {
        let end = self.end.min(self.start.saturating_add(max));
        let start = mem::replace(&mut self.start, end);
        let taken = self.bytes.get(start..end).unwrap_or_default();
        if end == self.end {
            self.start = 0;
            self.end = 0;
        }
        taken
    }
}
