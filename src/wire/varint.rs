//! Base-128 varints, read strictly and written in their shortest form.

use super::WireError;

/// The most bytes that a 64-bit varint has.
const MAX_LEN: usize = 10;

/// Reads a varint from the front of `bytes`: its value and how many bytes it took.
///
/// Longer encodings than needed are legal and read alike by every decoder, so they pass; more than ten bytes, or bits
/// beyond the 64th, do not.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    match bytes {
        [first @ 0..0x80, ..] => Ok((u64::from(*first), 1)),
        // Most lengths of a list.
        [first, second @ 0..0x80, ..] => Ok((u64::from(first & 0x7f) | u64::from(*second) << 7, 2)),
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    let mut value = 0;
    let mut shift = 0;
    for (index, &byte) in bytes.iter().take(MAX_LEN).enumerate() {
        if index == MAX_LEN - 1 && byte > 1 {
            return Err(WireError::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
        shift += 7;
    }
    Err(WireError::Truncated)
}

/// How many bytes `value` takes as a varint: 1 to 10.
pub(super) fn len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends `value` as a varint, without a tag.
pub fn put_raw(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// The tag of a varint field.
pub(super) fn varint_tag(number: u32) -> u64 {
    u64::from(number) << 3
}

/// The tag of a length-delimited field.
pub(super) fn bytes_tag(number: u32) -> u64 {
    u64::from(number) << 3 | 2
}

/// Appends a varint field, or nothing where `value` is 0: proto3 leaves defaults out.
pub fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_raw(out, varint_tag(number));
        put_raw(out, value);
    }
}

/// Appends a length-delimited field, an empty one too: as a message it is present where it is empty.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_bytes_header(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what comes before the content of a length-delimited field, whose `len` bytes are to follow.
pub fn put_bytes_header(out: &mut Vec<u8>, number: u32, len: usize) {
    put_raw(out, bytes_tag(number));
    put_raw(out, len as u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tenth_byte_holds_one_bit() {
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(read(&bytes), Ok((u64::MAX, 10)));
        bytes[9] = 2;
        assert_eq!(read(&bytes), Err(WireError::Varint));
        bytes[9] = 0x81;
        assert_eq!(read(&bytes), Err(WireError::Varint));
    }

    #[test]
    fn an_overlong_encoding_is_read_as_every_decoder_reads_it() {
        assert_eq!(read(&[0x81, 0x80, 0x00, 0xaa]), Ok((1, 3)));
    }

    #[test]
    fn a_varint_that_never_ends_is_truncated_or_too_long() {
        assert_eq!(read(&[]), Err(WireError::Truncated));
        assert_eq!(read(&[0x80; 9]), Err(WireError::Truncated));
        assert_eq!(read(&[0x80; 11]), Err(WireError::Varint));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in prop_oneof![any::<u64>(), 0..300u64]) {
            let mut out = Vec::new();
            put_raw(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            prop_assert_eq!(read(&out), Ok((value, out.len())));
        }
    }
}
