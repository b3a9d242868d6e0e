//! The fields of a message, one after the other, borrowed from its bytes. Never recurses, never allocates (but for groups).

use super::{WireError, varint};

/// How deep unknown groups may nest. etcd's messages have none, so any bound does.
const MAX_GROUP_DEPTH: usize = 32;

/// Walks the fields of one message. Ends after the first error.
///
/// Strict where decoders differ. gogo's generated code (etcd up to 3.6) cuts a tag's field number to 32 bits, drops
/// varint bits beyond the 64th and does not compare the numbers of a group's two tags; google's (from 3.7 on) refuses
/// all three, and takes a known field of the wrong wire type for an unknown one. What passes here, both read alike.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    /// Where `rest` begins in the outermost message.
    at: usize,
}

/// One field. Offsets count from the start of the outermost message.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Field number, 1 to 2^29-1.
    pub number: u32,
    /// Where its tag begins.
    pub start: usize,
    /// Where its last byte ends.
    pub end: usize,
    /// What it holds.
    pub value: Value<'a>,
}

/// What a field holds, by wire type.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1; its content is never needed.
    Fixed64,
    /// Wire type 2: bytes, a string or a message.
    Bytes(Body<'a>),
    /// Wire types 3 and 4, with all that lies between; its content is never needed.
    Group,
    /// Wire type 5; its content is never needed.
    Fixed32,
}

/// The content of a length-delimited field.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The content itself.
    pub bytes: &'a [u8],
    /// Where it lies.
    pub extent: Extent,
}

/// Where a length-delimited content lies in the outermost message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where its length prefix begins; the prefix ends at `start`.
    pub len_at: usize,
    /// Where the content begins.
    pub start: usize,
    /// Where the content ends.
    pub end: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `message`, the outermost one.
    pub fn new(message: &'a [u8]) -> Self {
        Self::from(message, 0)
    }

    /// The fields that lie in `rest`, which begins `at` bytes into the outermost message.
    pub fn from(rest: &'a [u8], at: usize) -> Self {
        Self { rest, at }
    }

    /// Where the next field begins.
    pub fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let (value, len) = varint::read(self.rest)?;
        self.skip(len)?;
        Ok(value)
    }

    /// Field number and wire type.
    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), WireError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| WireError::FieldNumber)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(WireError::FieldNumber);
        }
        Ok((number, (tag & 7) as u8))
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (skipped, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        self.at += len;
        Ok(skipped)
    }

    #[inline]
    fn value(&mut self, number: u32, wire_type: u8) -> Result<Value<'a>, WireError> {
        Ok(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.skip(8)?;
                Value::Fixed64
            }
            2 => {
                let len_at = self.at;
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                let start = self.at;
                let bytes = self.skip(len)?;
                let end = self.at;
                Value::Bytes(Body {
                    bytes,
                    extent: Extent { len_at, start, end },
                })
            }
            3 => {
                self.group(number)?;
                Value::Group
            }
            4 => return Err(WireError::Group),
            5 => {
                self.skip(4)?;
                Value::Fixed32
            }
            other => return Err(WireError::WireType(other)),
        })
    }

    /// Skips to the end of the group `number`, whose start tag has been read.
    #[cold]
    fn group(&mut self, number: u32) -> Result<(), WireError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            match self.tag()? {
                (number, 3) if open.len() < MAX_GROUP_DEPTH => open.push(number),
                (_, 3) => return Err(WireError::GroupDepth),
                (number, 4) if number == innermost => {
                    open.pop();
                }
                (_, 4) => return Err(WireError::Group),
                (number, wire_type) => {
                    self.value(number, wire_type)?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let start = self.at;
        let (number, wire_type) = self.tag()?;
        let value = self.value(number, wire_type)?;
        Ok(Field {
            number,
            start,
            end: self.at,
            value,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The content of a length-delimited field.
    pub fn body(&self) -> Result<Body<'a>, WireError> {
        match self.value {
            Value::Bytes(body) => Ok(body),
            _ => Err(WireError::WrongType(self.number)),
        }
    }

    /// The value of a varint field.
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::WrongType(self.number)),
        }
    }

    /// The value of a bool field: true for every varint but 0, as the decoders have it.
    pub fn flag(&self) -> Result<bool, WireError> {
        Ok(self.varint()? != 0)
    }

    /// The value of an int64 field.
    pub fn int64(&self) -> Result<i64, WireError> {
        Ok(self.varint()?.cast_signed())
    }

    /// The value of an enum field: the varint's low 32 bits, as the decoders have it.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "etcd's decoders cut an enum to 32 bits, and so it must be here"
    )]
    pub fn enumeration(&self) -> Result<i32, WireError> {
        Ok((self.varint()? as u32).cast_signed())
    }
}

impl<'a> Body<'a> {
    /// The content as a message.
    pub fn fields(&self) -> Fields<'a> {
        Fields::from(self.bytes, self.extent.start)
    }
}

/// Stores the value of a field that may occur once.
///
/// # Errors
/// [`WireError::Repeated`] if it was stored before.
pub fn once<T>(slot: &mut Option<T>, number: u32, value: T) -> Result<(), WireError> {
    if slot.replace(value).is_some() {
        return Err(WireError::Repeated(number));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(message: &[u8]) -> Result<Vec<(u32, usize, usize)>, WireError> {
        Fields::new(message)
            .map(|field| field.map(|field| (field.number, field.start, field.end)))
            .collect()
    }

    #[test]
    fn every_wire_type_is_walked_with_its_offsets() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint
            0x11, 0, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64
            0x1a, 0x02, b'h', b'i', // 3: bytes
            0x23, 0x08, 0x01, 0x2b, 0x2c, 0x24, // 4: group { 1: varint, 5: group {} }
            0x35, 0, 0, 0, 0, // 6: fixed32
        ];
        assert_eq!(
            walk(&message),
            Ok(vec![(1, 0, 3), (2, 3, 12), (3, 12, 16), (4, 16, 22), (6, 22, 27)])
        );
    }

    #[test]
    fn a_field_number_that_wraps_around_32_bits_is_no_field() {
        // (2^32 + 1) << 3 | 2: gogo's int32(tag >> 3) is 1, the key.
        let mut message = Vec::new();
        varint::put_raw(&mut message, ((1 << 32) + 1) << 3 | 2);
        message.extend_from_slice(&[1, b'k']);
        assert_eq!(walk(&message), Err(WireError::FieldNumber));
        // The largest legal one passes, the next does not.
        let mut message = Vec::new();
        varint::put_raw(&mut message, ((1 << 29) - 1) << 3);
        message.push(0);
        assert_eq!(walk(&message), Ok(vec![((1 << 29) - 1, 0, 6)]));
        let mut message = Vec::new();
        varint::put_raw(&mut message, (1 << 29) << 3);
        message.push(0);
        assert_eq!(walk(&message), Err(WireError::FieldNumber));
        assert_eq!(walk(&[0x02, 0x00]), Err(WireError::FieldNumber));
    }

    #[test]
    fn a_tag_of_the_shortest_form_is_not_demanded_but_one_of_eleven_bytes_is_refused() {
        assert_eq!(walk(&[0x88, 0x80, 0x00, 0x05]), Ok(vec![(1, 0, 4)]));
        let mut message = vec![0x8a];
        message.extend_from_slice(&[0x80; 9]);
        message.extend_from_slice(&[0x00, 0x01, b'k']);
        assert_eq!(walk(&message), Err(WireError::Varint));
    }

    #[test]
    fn groups_must_close_with_their_own_number() {
        assert_eq!(walk(&[0x23, 0x2c]), Err(WireError::Group));
        assert_eq!(walk(&[0x24]), Err(WireError::Group));
        assert_eq!(walk(&[0x23, 0x2b, 0x24, 0x2c]), Err(WireError::Group));
        assert_eq!(walk(&[0x23]), Err(WireError::Truncated));
    }

    #[test]
    fn a_million_open_groups_are_an_error_and_no_stack() {
        assert_eq!(walk(&vec![0x23; 1_000_000]), Err(WireError::GroupDepth));
    }

    #[test]
    fn lengths_past_the_end_are_refused() {
        assert_eq!(walk(&[0x0a, 0x02, b'k']), Err(WireError::Truncated));
        assert_eq!(
            walk(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            Err(WireError::Truncated)
        );
        assert_eq!(walk(&[0x09, 0, 0, 0]), Err(WireError::Truncated));
        assert_eq!(walk(&[0x0d, 0, 0, 0]), Err(WireError::Truncated));
        assert_eq!(walk(&[0x0e]), Err(WireError::WireType(6)));
    }

    #[test]
    fn an_error_ends_the_walk() {
        let mut fields = Fields::new(&[0x0e, 0x08, 0x01]);
        assert!(fields.next().is_some_and(|field| field.is_err()));
        assert!(fields.next().is_none());
    }

    #[test]
    fn enums_are_cut_to_32_bits_and_every_nonzero_bool_is_true() {
        let mut message = Vec::new();
        varint::put_varint(&mut message, 1, (1 << 32) + 3);
        varint::put_varint(&mut message, 2, 1 << 40);
        let fields: Vec<_> = Fields::new(&message)
            .map(|field| field.expect("it is well formed"))
            .collect();
        assert_eq!(fields[0].enumeration(), Ok(3));
        assert_eq!(fields[1].flag(), Ok(true));
        assert!(matches!(fields[0].body(), Err(WireError::WrongType(1))));
    }
}
