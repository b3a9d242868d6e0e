//! Cuts gRPC messages out of a body's bytes as they come, however they are cut into chunks. Pure: no IO, no clock.
//!
//! A message that lies whole in one chunk is handed on uncopied; one that does not is put together once. Nothing is kept
//! but the message that is being put together and the chunk that came last.

use std::mem;

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, FrameError, PREFIX};

/// Bytes that came and are not yet part of a message returned.
#[derive(Debug)]
pub(super) struct Deframer {
    /// The start of a message of which more is to come; empty if there is none.
    begun: BytesMut,
    /// What came behind it, as it came.
    ahead: Bytes,
    limit: usize,
    encoding: String,
}

impl Deframer {
    /// Messages of at most `limit` bytes; `encoding` is the stream's `grpc-encoding`, for an error's text.
    pub(super) fn new(limit: usize, encoding: &str) -> Self {
        Self {
            begun: BytesMut::new(),
            ahead: Bytes::new(),
            limit,
            encoding: encoding.to_owned(),
        }
    }

    /// Takes the bytes that follow those taken before. Best called when [`Deframer::next`] has nothing left to give:
    /// earlier, the bytes are copied.
    pub(super) fn push(&mut self, data: Bytes) {
        self.ahead = if self.ahead.is_empty() {
            data
        } else {
            [self.ahead.as_ref(), &data].concat().into()
        };
    }

    /// The next message; `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError::Compressed`], [`FrameError::Flag`] and [`FrameError::TooLarge`], as soon as the five bytes before a
    /// message are there, and from then on every time.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.begun.is_empty() {
            if let Some(total) = self.total(&self.ahead)?
                && total <= self.ahead.len()
            {
                return Ok(Some(Frame::from_bytes(self.ahead.split_to(total))));
            }
            if self.ahead.is_empty() {
                return Ok(None);
            }
        }
        self.fill(PREFIX);
        let Some(total) = self.total(&self.begun)? else {
            return Ok(None);
        };
        self.fill(total);
        if self.begun.len() < total {
            return Ok(None);
        }
        // Taken as a whole, so that no one else holds its memory.
        Ok(Some(Frame::from_bytes(mem::take(&mut self.begun).freeze())))
    }

    /// Length of the message that comes next, its prefix included, as soon as its prefix is there.
    pub(super) fn announced(&self) -> Option<usize> {
        let begun = if self.begun.is_empty() {
            &self.ahead[..]
        } else {
            &self.begun[..]
        };
        self.total(begun).ok().flatten()
    }

    /// Says that nothing more will come, when [`Deframer::next`] has nothing left to give.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if a message has begun.
    pub(super) fn finish(&self) -> Result<(), FrameError> {
        if self.begun.is_empty() && self.ahead.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// Moves bytes to the message begun, until it has `total` or there are none left.
    fn fill(&mut self, total: usize) {
        let missing = total.saturating_sub(self.begun.len());
        if missing == 0 || self.ahead.is_empty() {
            return;
        }
        self.begun.reserve(missing);
        let more = self.ahead.split_to(missing.min(self.ahead.len()));
        self.begun.extend_from_slice(&more);
    }

    /// Length of the message that `bytes` begin with, its prefix included, once the prefix is there.
    fn total(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, a, b, c, d] = *prefix;
        match flag {
            0 => {}
            1 => return Err(FrameError::Compressed(self.encoding.clone())),
            flag => return Err(FrameError::Flag(flag)),
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(FrameError::TooLarge {
                length,
                limit: self.limit,
            });
        }
        Ok(Some(PREFIX + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).expect("it is short").to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    /// All messages of a body that comes in these chunks, and how it ends.
    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
        let mut deframer = Deframer::new(LIMIT, "gzip");
        let mut messages = Vec::new();
        for chunk in chunks {
            deframer.push(Bytes::copy_from_slice(chunk));
            loop {
                match deframer.next() {
                    Ok(Some(frame)) => messages.push(frame.into_message().to_vec()),
                    Ok(None) => break,
                    Err(error) => return (messages, Err(error)),
                }
            }
        }
        let end = deframer.finish();
        (messages, end)
    }

    #[test]
    fn messages_are_the_same_wherever_the_body_is_cut() {
        let body = [framed(b"one"), framed(b""), framed(&[7; 300]), framed(b"four")].concat();
        let expected = vec![b"one".to_vec(), Vec::new(), vec![7; 300], b"four".to_vec()];
        for cut in 0..=body.len() {
            let (front, back) = body.split_at(cut);
            let (messages, end) = read([front, back]);
            assert_eq!(messages, expected, "cut at {cut}");
            assert!(end.is_ok());
        }
        let (messages, end) = read(body.chunks(1));
        assert_eq!(messages, expected);
        assert!(end.is_ok());
    }

    #[test]
    fn a_message_that_lies_in_one_chunk_is_not_copied() {
        let (one, two) = (framed(b"one"), framed(b"two"));
        let (front, back) = one.split_at(6);
        let first = Bytes::copy_from_slice(front);
        // The rest of a message that began before, then two whole ones, one of them empty, and the start of another.
        let second = Bytes::from([back, &two, &framed(b""), front].concat());
        let mut deframer = Deframer::new(LIMIT, "");
        deframer.push(first);
        assert!(deframer.next().expect("no error").is_none());
        deframer.push(second.clone());
        let mut next = || deframer.next().expect("no error").expect("a message").into_bytes();
        assert_eq!(next(), one);
        let whole = next();
        assert_eq!(whole, two);
        assert_eq!(whole.as_ptr(), second[back.len()..].as_ptr());
        assert_eq!(next().as_ptr(), second[back.len() + two.len()..].as_ptr());
        assert!(deframer.next().expect("no error").is_none());
    }

    #[test]
    fn a_message_put_together_belongs_to_whoever_gets_it() {
        let body = [framed(&[1; 500]), framed(b"two")].concat();
        let mut deframer = Deframer::new(LIMIT, "");
        deframer.push(Bytes::copy_from_slice(&body[..100]));
        assert!(deframer.next().expect("no error").is_none());
        deframer.push(Bytes::copy_from_slice(&body[100..]));
        let message = deframer.next().expect("no error").expect("a message").into_message();
        assert!(message.is_unique());
    }

    #[test]
    fn chunks_may_come_before_they_are_asked_for() {
        let body = [framed(b"one"), framed(b"two")].concat();
        let mut deframer = Deframer::new(LIMIT, "");
        for chunk in body.chunks(3) {
            deframer.push(Bytes::copy_from_slice(chunk));
        }
        for expected in [b"one", b"two"] {
            let frame = deframer.next().expect("no error").expect("a message");
            assert_eq!(frame.message(), &expected[..]);
        }
        assert!(deframer.finish().is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_its_prefix_after_all_before_it() {
        type Check = fn(&FrameError) -> bool;
        let cases: [(&[u8], Check); 5] = [
            (
                &[1, 0, 0, 0, 9],
                |error| matches!(error, FrameError::Compressed(encoding) if encoding == "gzip"),
            ),
            (&[2, 0, 0, 0, 0], |error| matches!(error, FrameError::Flag(2))),
            (&[0xff; 5], |error| matches!(error, FrameError::Flag(0xff))),
            (&[0, 0, 0, 3, 0xe9], |error| {
                matches!(
                    error,
                    FrameError::TooLarge {
                        length: 1001,
                        limit: LIMIT
                    }
                )
            }),
            (&[0, 0xff, 0xff, 0xff, 0xff], |error| {
                matches!(
                    error,
                    FrameError::TooLarge {
                        length: 0xffff_ffff,
                        ..
                    }
                )
            }),
        ];
        for (prefix, check) in cases {
            let body = [&framed(b"one"), prefix].concat();
            for size in 1..=body.len() {
                let (messages, end) = read(body.chunks(size));
                assert_eq!(messages, [b"one"]);
                assert!(end.is_err_and(|error| check(&error)), "{prefix:?} in chunks of {size}");
            }
            let mut deframer = Deframer::new(LIMIT, "gzip");
            deframer.push(Bytes::copy_from_slice(prefix));
            assert!(
                deframer.next().is_err() && deframer.next().is_err(),
                "an error was forgotten"
            );
        }
    }

    #[test]
    fn the_largest_message_is_read() {
        let (messages, end) = read([&framed(&[5; LIMIT])[..]]);
        assert_eq!(messages, [[5; LIMIT]]);
        assert!(end.is_ok());
    }

    #[test]
    fn a_body_that_ends_within_a_message_is_truncated() {
        let message = framed(b"message");
        for end in 1..message.len() {
            let (messages, end) = read([&framed(b"one")[..], &message[..end]]);
            assert_eq!(messages, [b"one"]);
            assert!(matches!(end, Err(FrameError::Truncated)));
        }
        let (messages, end) = read([]);
        assert!(messages.is_empty() && end.is_ok());
    }
}
