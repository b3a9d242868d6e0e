//! Target: gRPC's framing, however a body is cut into chunks.

use bytes::Bytes;
use etcd_encryption_proxy::proxy::fuzz::{Read, read};

use super::source::Source;

const LIMIT: usize = 200;

/// Sizes of chunks, then a body.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let sizes: Vec<usize> = source.bytes(16).iter().map(|&size| size.into()).collect();
    let is_eager = source.flag();
    let body = source.rest();
    let whole = Bytes::copy_from_slice(body);
    let mut chunks = Vec::new();
    let mut at = 0usize;
    for size in sizes.into_iter().chain([usize::MAX]) {
        let end = at.saturating_add(size).min(whole.len());
        chunks.push(whole.slice(at..end));
        at = end;
    }
    let Read {
        messages,
        copied,
        error,
    } = read(&chunks, LIMIT, is_eager);
    let (expected, expected_error) = plainly(body);
    assert_eq!(messages, expected);
    assert_eq!(error.as_deref(), expected_error);
    assert!(
        !is_eager || copied < chunks.len(),
        "a message that lies in one chunk was copied"
    );
}

/// Reads a body that has come as a whole.
fn plainly(mut body: &[u8]) -> (Vec<Bytes>, Option<&'static str>) {
    let mut messages = Vec::new();
    loop {
        let Some((prefix, rest)) = body.split_first_chunk::<5>() else {
            let error = (!body.is_empty()).then_some("truncated");
            return (messages, error);
        };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        let error = match flag {
            0 if length > LIMIT => Some("too large"),
            0 => None,
            1 => Some("compressed"),
            _ => Some("flag"),
        };
        if error.is_some() {
            return (messages, error);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return (messages, Some("truncated"));
        };
        messages.push(Bytes::copy_from_slice(message));
        body = rest;
    }
}

/// Some messages in chunks of some sizes; and what ends them.
pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |length: u8| [&[0, 0, 0, 0, length][..], &vec![b'm'; length.into()]].concat();
    let body = [frame(3), frame(0), frame(200), frame(1), frame(90)].concat();
    let ends: [&[u8]; 6] = [
        b"",
        &[0],
        &[0, 0, 0, 0, 9, 1],
        &[1, 0, 0, 0, 1, 1],
        &[2, 0, 0, 0, 0],
        &[0, 0, 0, 1, 0],
    ];
    let sizes: [&[u8]; 5] = [
        &[0],
        &[2, 4, 4],
        &[3, 8, 5, 205],
        &[4, 1, 1, 1, 1],
        &[6, 13, 0, 6, 199, 3, 90],
    ];
    let mut seeds = Vec::new();
    for end in ends {
        for sizes in sizes {
            seeds.push([sizes, &[1], &body, end].concat());
            seeds.push([sizes, &[0], &body, end].concat());
        }
    }
    seeds
}
