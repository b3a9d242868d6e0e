//! Target: an edit script over a message, held against putting the message together piece by piece.

use bytes::Bytes;
use etcd_encryption_proxy::wire::{Body, Extent, Field, Fields, Frame, Script, Spliced, Value, put_bytes, put_varint};

use super::source::{Source, input};

/// How deep edits go.
const DEPTH: usize = 6;

/// A message, then what becomes of each of its fields, then how the outcome is handed out.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let scale = [1, 1, 1, 300][source.below(4)];
    let message = stretched(source.block(), scale);
    let whole = Body {
        bytes: &message,
        extent: Extent {
            len_at: 0,
            start: 0,
            end: message.len(),
        },
    };
    let mut editing = Editing {
        message: &message,
        script: Script::new(),
        source,
    };
    let Some(expected) = editing.message(whole, Frame::TOP, 0) else {
        return;
    };
    let Editing { script, mut source, .. } = editing;
    let is_empty = script.is_empty();
    let message = Bytes::copy_from_slice(&message);
    let own = source.flag();
    let spliced = if own {
        script.apply_in_place(message[..].into())
    } else {
        script.apply(message.clone())
    };
    assert_eq!(spliced.len(), expected.len());
    if is_empty && !own {
        let untouched = spliced.as_untouched().expect("there is no edit");
        assert_eq!(untouched.as_ptr(), message.as_ptr(), "it was copied");
    }
    assert!(hand_out(spliced, &mut source) == expected);
}

/// `message` with a long field behind it, for what is done with long stretches alone.
fn stretched(message: &[u8], scale: usize) -> Vec<u8> {
    let mut out = message.to_vec();
    if scale > 1 {
        put_bytes(&mut out, 7, &[b'l'; 64].repeat(scale));
    }
    out
}

/// In chunks of several sizes, perhaps with the rest in one piece.
fn hand_out(mut spliced: Spliced, source: &mut Source<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let promised = spliced.len();
    for _ in 0..8 {
        let most = match source.below(4) {
            0 => usize::from(source.byte()),
            1 => 16 * 1024,
            _ => usize::from(source.byte()) * 128,
        };
        let Some(chunk) = spliced.next_chunk(most) else { break };
        assert!((1..=most.max(1)).contains(&chunk.len()));
        out.extend_from_slice(&chunk);
        assert_eq!(spliced.len(), promised - out.len());
    }
    assert_eq!(spliced.is_empty(), out.len() == promised);
    if source.flag() {
        out.extend_from_slice(&spliced.into_bytes());
    } else {
        while let Some(chunk) = spliced.next_chunk(1000) {
            out.extend_from_slice(&chunk);
        }
    }
    out
}

struct Editing<'m, 's> {
    /// The outermost message.
    message: &'m [u8],
    script: Script,
    source: Source<'s>,
}

impl<'m> Editing<'m, '_> {
    /// Records edits of `body`, which is `frame`; returns what it becomes. `None` if it is no message.
    fn message(&mut self, body: Body<'m>, frame: Frame, depth: usize) -> Option<Vec<u8>> {
        let fields: Vec<_> = body.fields().collect::<Result<_, _>>().ok()?;
        let mut out = Vec::new();
        for field in &fields {
            self.field(field, frame, depth, &mut out);
        }
        if self.source.below(4) == 3 {
            let end = body.extent.end;
            let mark = self.fresh();
            self.script.set_field(frame, end, end, 3, mark);
            self.put_unless_empty(&mut out, 3, mark);
        }
        Some(out)
    }

    fn field(&mut self, field: &Field<'m>, frame: Frame, depth: usize, out: &mut Vec<u8>) {
        let (start, end) = (field.start, field.end);
        match (self.source.below(8), field.value) {
            (1, _) => self.script.remove(frame, start, end),
            (2, _) => {
                let mark = self.fresh();
                self.script.replace(frame, start, end, mark);
                out.extend_from_slice(self.script.fresh_since(mark));
            }
            (3, _) => {
                let mark = self.fresh();
                self.script.set_field(frame, start, end, 2000, mark);
                self.put_unless_empty(out, 2000, mark);
            }
            (4, Value::Bytes(body)) => {
                let cut = usize::from(self.source.byte()).min(body.bytes.len());
                let content = (body.extent.start, body.extent.end - cut);
                self.script.set_field_in_place(frame, (start, end), 4, content);
                let content = &self.message[content.0..content.1];
                if !content.is_empty() {
                    put_bytes(out, 4, content);
                }
            }
            (5, _) => {
                // Thought better of.
                let mark = self.fresh();
                self.script.discard(mark);
                assert_eq!(self.script.mark(), mark);
                out.extend_from_slice(&self.message[start..end]);
            }
            (6 | 7, Value::Bytes(body)) if depth < DEPTH && is_message(body) => {
                let inner = self.script.enter(frame, body.extent);
                let content = self.message(body, inner, depth + 1).unwrap_or_default();
                if content.len() == body.bytes.len() {
                    // Its length prefix stays as it is, be it longer than it need be.
                    out.extend_from_slice(&self.message[start..body.extent.start]);
                    out.extend_from_slice(&content);
                } else {
                    out.extend_from_slice(&self.message[start..body.extent.len_at]);
                    put_len(out, content.len());
                    out.extend_from_slice(&content);
                }
            }
            _ => out.extend_from_slice(&self.message[start..end]),
        }
    }

    /// Appends new bytes; returns where they begin.
    fn fresh(&mut self) -> usize {
        let mark = self.script.mark();
        let bytes = match self.source.below(4) {
            0 => Vec::new(),
            1 => vec![b'f'; usize::from(self.source.byte()) * 200],
            _ => self.source.bytes(20).to_vec(),
        };
        self.script.fresh().extend_from_slice(&bytes);
        mark
    }

    fn put_unless_empty(&self, out: &mut Vec<u8>, number: u32, mark: usize) {
        let content = self.script.fresh_since(mark);
        if !content.is_empty() {
            put_bytes(out, number, content);
        }
    }
}

fn is_message(body: Body<'_>) -> bool {
    body.fields().all(|field| field.is_ok())
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    prost::encoding::encode_varint(len as u64, out);
}

/// Nested messages, and choices that touch everything.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut message = Vec::new();
    for number in 1..6 {
        let inner = message.clone();
        put_varint(&mut message, number, 300);
        put_bytes(&mut message, number, &inner);
        put_bytes(&mut message, number, b"leaf");
    }
    // A length prefix longer than it need be.
    message.extend_from_slice(&[0x0a, 0x84, 0x80, 0x00, 0x0a, 0x02, b'h', b'i']);
    assert!(Fields::new(&message).all(|field| field.is_ok()));
    (0..24u8)
        .map(|salt| {
            let mut seed = input(&[salt], &[&message]);
            seed.extend((0..150u8).map(|at| at.wrapping_mul(salt * 2 + 1).wrapping_add(salt)));
            seed
        })
        .collect()
}
