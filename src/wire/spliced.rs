//! A message as a sequence of chunks: stretches of the old one, new length prefixes and new fields, in order.
//!
//! Its length is known before its first byte is handed out, as a gRPC frame demands; it is never put together as a whole
//! unless asked. Where the old message is ours alone, the chunks are made in its own memory: what is opened is shorter than
//! what was sealed, so each piece has room in front of where it lies, and a long list is nowhere twice.

use std::mem;

use bytes::{Bytes, BytesMut};

use super::pieces::{Edit, Length, Piece, Pieces, Stretch};

/// From this length on a stretch is handed out as it lies in memory; shorter ones are copied together. 16 KiB is what
/// HTTP/2 puts into one DATA frame by default, so sharing less would make more frames.
const SHARE_FROM: usize = 16 * 1024;

/// A message that is handed out chunk by chunk.
#[derive(Debug)]
pub struct Spliced {
    message: Message,
    fresh: Bytes,
    pieces: Pieces,
    /// What is to be handed out next.
    piece: Piece,
    /// Bytes still to be handed out.
    left: usize,
}

/// The old message.
#[derive(Debug)]
pub(super) enum Message {
    /// Not to be written to.
    Shared(Bytes),
    /// What is not handed out yet of one that nobody else holds, and how much has been.
    Own { rest: BytesMut, before: usize },
}

impl Spliced {
    /// `message` as it is.
    pub fn untouched(message: Bytes) -> Self {
        let len = message.len();
        Self::edited(message.into(), Bytes::new(), Vec::new(), Vec::new(), len)
    }

    /// `lengths` and `edits` are sorted by place, and make `len` bytes of `message`.
    pub(super) fn edited(message: Message, fresh: Bytes, lengths: Vec<Length>, edits: Vec<Edit>, len: usize) -> Self {
        Self {
            pieces: Pieces::new(lengths, edits, message.len()),
            message,
            fresh,
            piece: Piece::default(),
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
    /// A message of at most `max` bytes without long stretches comes in one chunk. Of a message that is ours nothing is copied
    /// out of its memory, unless it grows there; of another no unedited stretch of 16 KiB or more, nor any part of an unedited
    /// message.
    pub fn next_chunk(&mut self, max: usize) -> Option<Bytes> {
        let want = self.left.min(max.max(1));
        let chunk = match self.in_place(want) {
            None => self.put_together(want),
            chunk => chunk,
        };
        self.left -= chunk.as_ref().map_or(self.left, |chunk| chunk.len().min(self.left));
        chunk
    }

    /// The rest of the message in one piece; for an unedited message the very bytes it was made of.
    pub fn into_bytes(mut self) -> Bytes {
        if let Some(message) = self.as_untouched() {
            return message.clone();
        }
        let first = self.next_chunk(self.left).unwrap_or_default();
        if self.is_empty() {
            return first;
        }
        let mut out = BytesMut::with_capacity(first.len() + self.left);
        out.extend_from_slice(&first);
        while let Some(chunk) = self.next_chunk(self.left) {
            out.extend_from_slice(&chunk);
        }
        out.freeze()
    }

    /// The message if it has no edit and nothing of it has been handed out: all of it as one piece.
    pub fn as_untouched(&self) -> Option<&Bytes> {
        match &self.message {
            Message::Shared(bytes) if self.is_untouched() && self.left == bytes.len() => Some(bytes),
            _ => None,
        }
    }

    fn is_untouched(&self) -> bool {
        self.piece.is_empty() && self.pieces.is_untouched()
    }

    /// A chunk of `want` bytes, or fewer where the next piece has no room, made at the front of what is left of our own message
    /// and cut off from it.
    fn in_place(&mut self, want: usize) -> Option<Bytes> {
        let Message::Own { rest, before } = &mut self.message else {
            return None;
        };
        let mut at = 0;
        while at < want {
            if self.piece.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.piece = piece,
                    None => break,
                }
            }
            let Piece { header, stretch } = &mut self.piece;
            let header_end = at + header.len();
            // Nothing may be written over that is still to come: the stretch itself, then all that no piece has come from.
            let (end, needed_from) = match &*stretch {
                Stretch::Message(range) if range.start < range.end => (header_end, range.start),
                stretch => (header_end + stretch.len(), self.pieces.position()),
            };
            if *before + end > needed_from {
                break;
            }
            let header = header.take(want - at);
            rest.get_mut(at..at + header.len())?.copy_from_slice(header);
            at += header.len();
            let len = stretch.len().min(want - at);
            match stretch {
                // One that is empty may lie anywhere.
                Stretch::Message(_) if len == 0 => {}
                Stretch::Message(range) => {
                    let start = range.start - *before;
                    if start != at && start + len <= rest.len() {
                        rest.copy_within(start..start + len, at);
                    }
                    range.start += len;
                }
                Stretch::Fresh(range) => {
                    let from = self.fresh.get(range.start..range.start + len)?;
                    rest.get_mut(at..at + len)?.copy_from_slice(from);
                    range.start += len;
                }
            }
            at += len;
        }
        *before += at;
        (at > 0).then(|| rest.split_to(at.min(rest.len())).freeze())
    }

    /// A chunk of `want` bytes, copied together, or of a long stretch that is shared.
    fn put_together(&mut self, want: usize) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < want {
            if self.piece.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.piece = piece,
                    None => break,
                }
            }
            let stretch = self.piece.stretch.len();
            if self.piece.header.is_empty() && (stretch >= want || stretch >= SHARE_FROM) {
                if !out.is_empty() {
                    break;
                }
                if let Some(shared) = self.share(want) {
                    return Some(shared);
                }
            }
            if out.is_empty() {
                out.reserve_exact(want);
            }
            self.copy(&mut out, want);
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// The front of the current stretch, up to `want` bytes, without copying; `None` if it can't be shared.
    fn share(&mut self, want: usize) -> Option<Bytes> {
        let (whole, range) = match (&mut self.piece.stretch, &self.message) {
            (Stretch::Message(range), Message::Shared(message)) => (message, range),
            (Stretch::Fresh(range), _) => (&self.fresh, range),
            _ => return None,
        };
        let end = range.end.min(range.start.saturating_add(want)).min(whole.len());
        let start = mem::replace(&mut range.start, end).min(end);
        (start < end).then(|| whole.slice(start..end))
    }

    /// Appends from the current piece until `out` has `want` bytes.
    fn copy(&mut self, out: &mut Vec<u8>, want: usize) {
        let Piece { header, stretch } = &mut self.piece;
        out.extend_from_slice(header.take(want - out.len()));
        let (whole, before, range): (&[u8], _, _) = match (stretch, &self.message) {
            (Stretch::Message(range), Message::Shared(message)) => (message, 0, range),
            (Stretch::Message(range), Message::Own { rest, before }) => (rest, *before, range),
            (Stretch::Fresh(range), _) => (&self.fresh, 0, range),
        };
        let end = range.end.min(range.start.saturating_add(want - out.len()));
        let start = mem::replace(&mut range.start, end);
        let copied = whole.get(start.saturating_sub(before)..end.saturating_sub(before));
        out.extend_from_slice(copied.unwrap_or_default());
    }
}

impl From<Bytes> for Message {
    fn from(message: Bytes) -> Self {
        Self::Shared(message)
    }
}

impl From<BytesMut> for Message {
    fn from(rest: BytesMut) -> Self {
        Self::Own { rest, before: 0 }
    }
}

impl Message {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shared(bytes) => bytes.len(),
            Self::Own { rest, before } => before + rest.len(),
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own { rest, .. } => rest.freeze(),
        }
    }
}
