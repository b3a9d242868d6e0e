//! A request's bytes with every value opened and every length in its shortest form: what must be the same before and
//! after sealing, unknown fields, order and all. Read with prost's own primitives, not with the code under test.

use std::ops::Range;

use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};

/// Which request a message is, as far as there is a Put in it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Put,
    Op,
    Txn,
    Other,
}

impl Kind {
    fn nested(self, number: u32) -> Self {
        match (self, number) {
            (Self::Txn, 2 | 3) => Self::Op,
            (Self::Op, 2) => Self::Put,
            (Self::Op, 4) => Self::Txn,
            _ => Self::Other,
        }
    }
}

struct Field {
    number: u32,
    whole: Range<usize>,
    /// Where the content of a length-delimited field begins; it ends where the field does.
    body: Option<usize>,
}

fn fields(message: &[u8]) -> Result<Vec<Field>, DecodeError> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let (number, wire_type) = decode_key(&mut rest)?;
        let mut content = rest;
        let body = match wire_type {
            WireType::LengthDelimited => {
                decode_varint(&mut content)?;
                Some(message.len() - content.len())
            }
            _ => None,
        };
        skip_field(wire_type, number, &mut rest, DecodeContext::default())?;
        fields.push(Field {
            number,
            whole: start..message.len() - rest.len(),
            body,
        });
    }
    Ok(fields)
}

/// Whether prost takes `message` for a sequence of fields.
pub(super) fn is_message(message: &[u8]) -> bool {
    fields(message).is_ok()
}

/// What a key's value becomes.
pub(super) type Open<'o> = dyn Fn(&[u8], &[u8]) -> Vec<u8> + 'o;

/// The normal form, with the value of every Put opened.
pub(super) fn normal(message: &[u8], kind: Kind, open: &Open<'_>) -> Vec<u8> {
    let fields = fields(message).expect("what was accepted is well formed");
    let body = |field: &Field| field.body.map(|start| &message[start..field.whole.end]);
    let key = fields.iter().find(|field| field.number == 1).and_then(body);
    let mut out = Vec::new();
    for field in &fields {
        let nested = kind.nested(field.number);
        match (kind, field.number, body(field)) {
            (Kind::Put, 2, Some(value)) => {
                let value = open(key.unwrap_or_default(), value);
                if !value.is_empty() {
                    put(&mut out, 2, &value);
                }
            }
            (_, number, Some(body)) if !matches!(nested, Kind::Other) => {
                put(&mut out, number, &normal(body, nested, open));
            }
            _ => out.extend_from_slice(&message[field.whole.clone()]),
        }
    }
    out
}

fn put(out: &mut Vec<u8>, number: u32, body: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}
