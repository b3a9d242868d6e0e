//! A plain recursive copy of a message, against which the splicing is held: unknown fields and order kept, values mapped.

use crate::wire::{Fields, Value, put_bytes};

/// Which message it is, as far as it has values in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Op,
    Txn,
    Compare,
    Range,
    KeyValue,
    Event,
    PutResponse,
    RangeResponse,
    DeleteRangeResponse,
    ResponseOp,
    TxnResponse,
    RangeStreamResponse,
    WatchResponse,
}

impl Kind {
    /// The message in field `number`, if that is a message of interest.
    pub(super) fn nested(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Txn, 1) => Self::Compare,
            (Self::Txn, 2 | 3) => Self::Op,
            (Self::Op, 2) => Self::Put,
            (Self::Op, 1 | 3) => Self::Range,
            (Self::Op, 4) => Self::Txn,
            (Self::RangeResponse | Self::PutResponse, 2) | (Self::DeleteRangeResponse, 3) | (Self::Event, 2 | 3) => {
                Self::KeyValue
            }
            (Self::TxnResponse, 3) => Self::ResponseOp,
            (Self::ResponseOp | Self::RangeStreamResponse, 1) => Self::RangeResponse,
            (Self::ResponseOp, 2) => Self::PutResponse,
            (Self::ResponseOp, 3) => Self::DeleteRangeResponse,
            (Self::ResponseOp, 4) => Self::TxnResponse,
            (Self::WatchResponse, 11) => Self::Event,
            _ => return None,
        })
    }

    /// The numbers of its key and value.
    fn pair(self) -> Option<(u32, u32)> {
        match self {
            Self::Put => Some((1, 2)),
            Self::KeyValue => Some((1, 5)),
            _ => None,
        }
    }
}

/// From a key and its value to another value.
type Map<'a> = dyn FnMut(&[u8], &[u8]) -> Vec<u8> + 'a;

/// `message` with every value mapped by key, empty values left out, lengths in their shortest form.
pub(super) fn map_values(message: &[u8], kind: Kind, map: &mut Map<'_>) -> Vec<u8> {
    let fields: Vec<_> = Fields::new(message)
        .map(|field| field.expect("it is well formed"))
        .collect();
    let body = |number| {
        fields
            .iter()
            .find(|field| field.number == number)
            .map_or(&[][..], |field| field.body().expect("it is bytes").bytes)
    };
    let mut out = Vec::new();
    for field in &fields {
        let whole = &message[field.start..field.end];
        match (kind.nested(field.number), kind.pair(), field.value) {
            (Some(nested), _, Value::Bytes(body)) => {
                put_bytes(&mut out, field.number, &map_values(body.bytes, nested, map));
            }
            (_, Some((key, value)), Value::Bytes(stored)) if field.number == value => {
                let mapped = map(body(key), stored.bytes);
                if !mapped.is_empty() {
                    put_bytes(&mut out, value, &mapped);
                }
            }
            _ => out.extend_from_slice(whole),
        }
    }
    out
}
