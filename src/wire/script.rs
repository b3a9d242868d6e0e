//! An edit script over one message: which fields change, and whose length prefixes change with them.
//!
//! Records, never copies the message. Edits may be recorded in any order, but must not overlap.

use bytes::Bytes;

use super::{
    Extent, Spliced,
    spliced::{Edit, Length, Payload},
    varint,
};

/// A message within the message, by its length prefix; [`Frame::TOP`] is the outermost one, which has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame(usize);

impl Frame {
    /// The outermost message.
    pub const TOP: Self = Self(0);
}

/// Changes to one message, and the new bytes that they bring.
#[derive(Debug, Default)]
pub struct Script {
    /// Every frame entered; a frame's parent always comes before it.
    frames: Vec<Enclosing>,
    edits: Vec<Edit>,
    /// New bytes, one payload behind the other.
    fresh: Vec<u8>,
}

#[derive(Debug)]
struct Enclosing {
    extent: Extent,
    parent: Frame,
    /// By how many bytes the content grows.
    growth: isize,
}

impl Script {
    /// A script without an edit; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that edits will follow in the message at `extent`, a field of `parent`.
    pub fn enter(&mut self, parent: Frame, extent: Extent) -> Frame {
        self.frames.push(Enclosing {
            extent,
            parent,
            growth: 0,
        });
        Frame(self.frames.len())
    }

    /// Where new bytes are appended, to be used by the next edit.
    pub fn fresh(&mut self) -> &mut Vec<u8> {
        &mut self.fresh
    }

    /// How many new bytes there are: what is appended from here on is `fresh_since` this mark.
    pub fn mark(&self) -> usize {
        self.fresh.len()
    }

    /// The new bytes appended since `mark`.
    pub fn fresh_since(&self, mark: usize) -> &[u8] {
        self.fresh.get(mark..).unwrap_or_default()
    }

    /// Forgets the new bytes appended since `mark`.
    pub fn discard(&mut self, mark: usize) {
        self.fresh.truncate(mark);
    }

    /// Takes the bytes from `start` to `end` out of `frame`.
    pub fn remove(&mut self, frame: Frame, start: usize, end: usize) {
        self.edit(frame, start, end, Payload::Nothing);
    }

    /// Puts the new bytes since `mark` in the place of `start` to `end` of `frame`, as they are.
    pub fn replace(&mut self, frame: Frame, start: usize, end: usize, mark: usize) {
        let payload = Payload::Raw {
            start: mark,
            end: self.fresh.len(),
        };
        self.edit(frame, start, end, payload);
    }

    /// Puts a length-delimited field with the new bytes since `mark` in the place of `start` to `end` of `frame` (which is
    /// empty where the field is absent). An empty one is left out: so proto3 writes an empty value.
    pub fn set_field(&mut self, frame: Frame, start: usize, end: usize, number: u32, mark: usize) {
        let payload = match self.fresh.len() {
            len if len == mark => Payload::Nothing,
            len => Payload::Field {
                number,
                start: mark,
                end: len,
            },
        };
        self.edit(frame, start, end, payload);
    }

    /// Like [`Script::set_field`], with content that has been written into the message itself, from `content` on.
    pub fn set_field_in_place(&mut self, frame: Frame, field: (usize, usize), number: u32, content: (usize, usize)) {
        let payload = match content {
            (start, end) if start == end => Payload::Nothing,
            (start, end) => Payload::FieldInPlace { number, start, end },
        };
        self.edit(frame, field.0, field.1, payload);
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Applies the script to the message that it was recorded over. Without an edit that is `message` itself.
    pub fn apply(mut self, message: Bytes) -> Spliced {
        if self.edits.is_empty() {
            return Spliced::untouched(message);
        }
        let mut growth: isize = self.settle();
        let mut lengths: Vec<Length> = Vec::new();
        // Innermost first: a parent comes before its children, so from the back each growth is complete.
        while let Some(frame) = self.frames.pop() {
            if frame.growth == 0 {
                continue;
            }
            let Extent { len_at, start, end } = frame.extent;
            let new = (end - start).saturating_add_signed(frame.growth) as u64;
            let prefix = varint::len(new).cast_signed() - (start - len_at).cast_signed();
            match self.enclosing(frame.parent) {
                Some(parent) => parent.growth += frame.growth + prefix,
                None => growth += frame.growth + prefix,
            }
            lengths.push(Length {
                at: len_at,
                cut: start - len_at,
                new,
            });
        }
        lengths.sort_unstable_by_key(|length| length.at);
        // Stable: of two edits at one place, the one recorded first comes first.
        self.edits.sort_by_key(|edit| edit.at);
        let len = message.len().saturating_add_signed(growth);
        Spliced::edited(message, self.fresh.into(), lengths, self.edits, len)
    }

    /// Hands each edit's growth to its frame; returns that of the outermost message.
    fn settle(&mut self) -> isize {
        let mut top = 0;
        for index in 0..self.edits.len() {
            let Some(edit) = self.edits.get(index) else { break };
            let (frame, growth) = (edit.frame, edit.growth());
            match self.enclosing(frame) {
                Some(frame) => frame.growth += growth,
                None => top += growth,
            }
        }
        top
    }

    /// The record of a frame; `None` for the outermost message.
    fn enclosing(&mut self, frame: Frame) -> Option<&mut Enclosing> {
        self.frames.get_mut(frame.0.checked_sub(1)?)
    }

    fn edit(&mut self, frame: Frame, start: usize, end: usize, payload: Payload) {
        self.edits.push(Edit {
            at: start,
            cut: end - start,
            frame,
            payload,
        });
    }
}
