//! Target: the walk over a message's fields, held against prost's.

use std::ops::Range;

use etcd_encryption_proxy::wire::{Field, Fields, Value, WireError, put_bytes, put_varint};

use super::normal::is_message;

/// How deep bodies are tried as messages.
const DEPTH: usize = 8;

/// Any bytes as a message.
pub fn run(data: &[u8]) {
    walk(data, data, 0..data.len(), 0);
}

/// Walks the part of `whole` that is `message`; bodies that could be messages likewise.
fn walk(whole: &[u8], message: &[u8], place: Range<usize>, depth: usize) {
    let mut bodies = Vec::new();
    let mut at = place.start;
    let mut failed = None;
    let mut fields = Fields::from(message, place.start);
    while let Some(field) = fields.next() {
        match field {
            Ok(field) => {
                assert_eq!(field.start, at, "bytes between two fields");
                assert_eq!(fields.position(), field.end);
                at = field.end;
                bodies.extend(check(whole, &field));
            }
            Err(error) => failed = Some(error),
        }
    }
    assert!(fields.next().is_none());
    match failed {
        None => assert_eq!(at, place.end, "bytes behind the last field"),
        // prost has another bound on groups, which etcd's messages do not have at all.
        Some(WireError::GroupDepth) => return,
        Some(_) => {}
    }
    assert_eq!(failed.is_none(), is_message(message), "{failed:?}");
    if depth < DEPTH {
        for body in bodies {
            walk(whole, &whole[body.clone()], body, depth + 1);
        }
    }
}

/// Says where a length-delimited field has its content.
fn check(whole: &[u8], field: &Field<'_>) -> Option<Range<usize>> {
    assert!((1..1 << 29).contains(&field.number));
    assert!(field.start < field.end && field.end <= whole.len());
    match field.value {
        Value::Bytes(body) => {
            let extent = body.extent;
            assert!(field.start < extent.len_at && extent.len_at < extent.start && extent.start <= extent.end);
            assert_eq!(extent.end, field.end);
            assert_eq!(body.bytes, &whole[extent.start..extent.end]);
            assert!(field.body().is_ok() && field.varint().is_err());
            Some(extent.start..extent.end)
        }
        Value::Varint(value) => {
            assert!(field.body().is_err());
            assert_eq!(field.varint(), Ok(value));
            assert_eq!(field.flag(), Ok(value != 0));
            None
        }
        Value::Fixed64 | Value::Fixed32 | Value::Group => {
            assert!(field.body().is_err() && field.varint().is_err());
            None
        }
    }
}

/// Every wire type; nested groups; what is longer than it need be; what is cut off.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut nested = Vec::new();
    put_bytes(&mut nested, 1, b"key");
    put_varint(&mut nested, 2, u64::MAX);
    for number in [2, 15, 16, 1000, (1 << 29) - 1] {
        let inner = std::mem::take(&mut nested);
        put_varint(&mut nested, number, 300);
        put_bytes(&mut nested, number, &inner);
    }
    let every_type = [
        0x08, 0x96, 0x01, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x23, 0x08, 1, 0x2b, 0x2c, 0x24, 0x35, 0,
        0, 0, 0,
    ];
    let cut_off = nested[..nested.len() - 1].to_vec();
    vec![
        nested,
        cut_off,
        every_type.to_vec(),
        vec![0x88, 0x80, 0x00, 0x05],
        [&[0x8a][..], &[0x80; 9], &[0, 1, b'k']].concat(),
        vec![0x23; 40],
        [vec![0x23; 32], vec![0x24; 32]].concat(),
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ]
}
