//! An edit script over one message: which fields change, and whose length prefixes change with them.
//!
//! Records, never copies the message. Edits may be recorded in any order, but must not overlap.

use bytes::{Bytes, BytesMut};

use super::{
    Extent, Spliced,
    pieces::{Edit, Length, Payload},
    spliced::Message,
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
        self.set_field_to(frame, (start, end), number, (mark, self.fresh.len()));
    }

    /// Like [`Script::set_field`], with that stretch of the new bytes.
    pub fn set_field_to(&mut self, frame: Frame, field: (usize, usize), number: u32, content: (usize, usize)) {
        let payload = match content {
            (start, end) if start == end => Payload::Nothing,
            (start, end) => Payload::Field { number, start, end },
        };
        self.edit(frame, field.0, field.1, payload);
    }

    /// Like [`Script::set_field`], with content that has been written over a stretch of the old field.
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
    pub fn apply(self, message: Bytes) -> Spliced {
        self.apply_to(message.into())
    }

    /// The same for a message that may be written to, whose memory is that of its chunks then.
    pub fn apply_in_place(self, message: BytesMut) -> Spliced {
        self.apply_to(message.into())
    }

    fn apply_to(mut self, message: Message) -> Spliced {
        if self.edits.is_empty() {
            return Spliced::untouched(message.into_bytes());
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::wire::{Fields, Value, put_bytes};

    /// A field of a message: bytes that stay, bytes that change, or a message. Numbers 1, 2, 3.
    #[derive(Clone, Debug)]
    enum Node {
        Kept(Vec<u8>),
        Changed(Vec<u8>, Change),
        Message(Vec<Node>),
    }

    #[derive(Clone, Debug)]
    enum Change {
        Removed,
        /// Other content.
        Set(Vec<u8>),
        /// Other content, written over the front of the old one, so far as that is as long.
        InPlace(usize),
        /// Two fields in the place of one.
        Raw,
        /// A field is put before it.
        Before(Vec<u8>),
    }

    const TWO_FIELDS: [u8; 4] = [0x08, 0x01, 0x08, 0x01];

    fn content() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![4 => vec(any::<u8>(), 0..5), 1 => vec(any::<u8>(), 120..136), 1 => Just(vec![7; 16_500])]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            Just(Change::Removed),
            content().prop_map(Change::Set),
            (0..200_usize).prop_map(Change::InPlace),
            Just(Change::Raw),
            content().prop_map(Change::Before),
        ]
    }

    fn message() -> impl Strategy<Value = Vec<Node>> {
        let leaf = prop_oneof![
            content().prop_map(Node::Kept),
            (content(), change()).prop_map(|(content, change)| Node::Changed(content, change)),
        ];
        let node = leaf.prop_recursive(4, 24, 5, |inner| vec(inner, 0..5).prop_map(Node::Message));
        vec(node, 0..6)
    }

    fn put_unless_empty(out: &mut Vec<u8>, content: &[u8]) {
        if !content.is_empty() {
            put_bytes(out, 2, content);
        }
    }

    /// The message before the edits, or after them as a straightforward encoder writes it.
    fn encode(nodes: &[Node], edited: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for node in nodes {
            match node {
                Node::Kept(content) => put_bytes(&mut out, 1, content),
                Node::Message(nodes) => put_bytes(&mut out, 3, &encode(nodes, edited)),
                Node::Changed(content, _) if !edited => put_bytes(&mut out, 2, content),
                Node::Changed(_, Change::Removed) => {}
                Node::Changed(_, Change::Set(new)) => put_unless_empty(&mut out, new),
                Node::Changed(content, Change::InPlace(len)) => {
                    put_unless_empty(&mut out, &vec![b'p'; content.len().min(*len)]);
                }
                Node::Changed(_, Change::Raw) => out.extend_from_slice(&TWO_FIELDS),
                Node::Changed(content, Change::Before(new)) => {
                    put_unless_empty(&mut out, new);
                    put_bytes(&mut out, 2, content);
                }
            }
        }
        out
    }

    /// Records the edits; notes the stretches to be overwritten.
    fn record(fields: Fields<'_>, nodes: &[Node], frame: Frame, script: &mut Script, over: &mut Vec<(usize, usize)>) {
        for (field, node) in fields.zip(nodes) {
            let field = field.expect("it is well formed");
            let Value::Bytes(body) = field.value else {
                panic!("it is bytes")
            };
            let mark = script.mark();
            let (start, end) = (field.start, field.end);
            match node {
                Node::Kept(_) => {}
                Node::Message(nodes) => {
                    let frame = script.enter(frame, body.extent);
                    record(body.fields(), nodes, frame, script, over);
                }
                Node::Changed(_, Change::Removed) => script.remove(frame, start, end),
                Node::Changed(_, Change::Set(new)) => {
                    script.fresh().extend_from_slice(new);
                    script.set_field(frame, start, end, 2, mark);
                }
                Node::Changed(content, Change::InPlace(len)) => {
                    let place = (body.extent.start, body.extent.start + content.len().min(*len));
                    over.push(place);
                    script.set_field_in_place(frame, (start, end), 2, place);
                }
                Node::Changed(_, Change::Raw) => {
                    script.fresh().extend_from_slice(&TWO_FIELDS);
                    script.replace(frame, start, end, mark);
                }
                Node::Changed(_, Change::Before(new)) => {
                    script.fresh().extend_from_slice(new);
                    script.set_field(frame, start, start, 2, mark);
                }
            }
        }
    }

    fn applied(nodes: &[Node], own: bool) -> Spliced {
        let mut message = encode(nodes, false);
        let (mut script, mut over) = (Script::new(), Vec::new());
        record(Fields::new(&message), nodes, Frame::TOP, &mut script, &mut over);
        for (start, end) in over {
            message[start..end].fill(b'p');
        }
        if own {
            script.apply_in_place(message[..].into())
        } else {
            script.apply(message.into())
        }
    }

    proptest! {
        #[test]
        fn edits_and_lengths_come_out_as_if_encoded_anew(nodes in message(), max in 1..40_000_usize, own: bool) {
            let expected = encode(&nodes, true);
            prop_assert_eq!(applied(&nodes, own).len(), expected.len());
            prop_assert!(applied(&nodes, own).into_bytes() == expected);
            let (mut chunked, mut spliced) = (Vec::new(), applied(&nodes, own));
            while let Some(chunk) = spliced.next_chunk(max) {
                prop_assert!(!chunk.is_empty() && chunk.len() <= max);
                chunked.extend_from_slice(&chunk);
            }
            prop_assert!(chunked == expected);
        }

        #[test]
        fn a_message_of_which_a_part_is_handed_out_has_a_rest(nodes in message(), max in 1..300_usize, own: bool) {
            let expected = encode(&nodes, true);
            let mut spliced = applied(&nodes, own);
            let first = spliced.next_chunk(max).unwrap_or_default();
            prop_assert_eq!(spliced.len(), expected.len() - first.len());
            prop_assert!([first, spliced.into_bytes()].concat() == expected);
        }
    }

    #[test]
    fn without_an_edit_the_message_is_not_copied() {
        let message = Bytes::from(vec![0x0a; 100_000]);
        let mut script = Script::new();
        let extent = Extent {
            len_at: 1,
            start: 2,
            end: 12,
        };
        script.enter(Frame::TOP, extent);
        let applied = script.apply(message.clone()).into_bytes();
        assert_eq!(applied.as_ptr(), message.as_ptr());
        let mut spliced = Spliced::untouched(message.clone());
        let first = spliced.next_chunk(60_000).expect("there is one");
        assert_eq!((first.as_ptr(), first.len()), (message.as_ptr(), 60_000));
        assert_eq!(spliced.next_chunk(60_000).map(|chunk| chunk.len()), Some(40_000));
        assert_eq!(spliced.next_chunk(60_000), None);
    }

    #[test]
    fn long_stretches_are_shared_and_short_ones_are_put_together() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"short");
        put_bytes(&mut message, 2, &vec![1; 50_000]);
        let mut script = Script::new();
        script.fresh().extend_from_slice(b"other");
        script.set_field(Frame::TOP, 0, 7, 1, 0);
        let message = Bytes::from(message);
        let mut spliced = script.apply(message.clone());
        assert_eq!(spliced.next_chunk(64 * 1024).as_deref(), Some(&b"\x0a\x05other"[..]));
        let chunk = spliced.next_chunk(64 * 1024).expect("there is more");
        assert_eq!(
            (chunk.as_ptr(), chunk.len()),
            (message[7..].as_ptr(), message.len() - 7)
        );
    }

    /// What shrinks is moved together where it lies; what grows beyond the room that is left is copied, and no more than that.
    #[test]
    fn a_message_of_ours_is_handed_out_of_its_own_memory() {
        let mut message = Vec::new();
        for _ in 0..100 {
            put_bytes(&mut message, 2, &[b's'; 1000]);
        }
        let (mut script, mut own) = (Script::new(), BytesMut::from(&message[..]));
        for field in Fields::new(&message) {
            let field = field.expect("it is well formed");
            let start = field.end - 900;
            own[start..start + 800].fill(b'p');
            script.set_field_in_place(Frame::TOP, (field.start, field.end), 2, (start, start + 800));
        }
        let memory = own.as_ptr_range();
        let mut spliced = script.apply_in_place(own);
        let mut out = Vec::new();
        while let Some(chunk) = spliced.next_chunk(10_000) {
            assert!(memory.contains(&chunk.as_ptr()), "it was copied");
            out.extend_from_slice(&chunk);
        }
        let mut expected = Vec::new();
        for _ in 0..100 {
            put_bytes(&mut expected, 2, &[b'p'; 800]);
        }
        assert!(out == expected);
    }

    /// New bytes without a header of their own, where there is no room before what comes next.
    #[test]
    fn what_grows_at_the_front_overwrites_nothing() {
        let mut script = Script::new();
        script.fresh().extend_from_slice(&TWO_FIELDS);
        script.replace(Frame::TOP, 0, 2, 0);
        let message = BytesMut::from(&b"\x0a\x00\x12\x01b"[..]);
        let spliced = script.apply_in_place(message).into_bytes();
        assert_eq!(spliced, [&TWO_FIELDS[..], b"\x12\x01b"].concat());
    }

    #[test]
    fn an_empty_message_has_no_chunk() {
        let mut spliced = Spliced::untouched(Bytes::new());
        assert!(spliced.is_empty());
        assert_eq!(spliced.next_chunk(10), None);
    }
}
