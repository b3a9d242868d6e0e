//! gRPC's message framing over an HTTP/2 body: five bytes (a flag and a big-endian length), then the message.
//!
//! Source: the public gRPC-over-HTTP/2 specification, "Length-Prefixed-Message". Never decompresses.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use thiserror::Error;

use super::budget::{Budget, Share};
use super::deframer::Deframer;
use super::worker::MAX_RESPONSE;
use crate::wire::Spliced;

/// Bytes before each message.
pub(super) const PREFIX: usize = 5;

/// One message with its prefix, as it came.
#[derive(Clone, Debug)]
pub(super) struct Frame(Bytes);

impl Frame {
    /// A frame of these bytes, prefix included.
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// This frame with `message` in it; itself, uncopied, where that is the message that it has.
    pub(super) fn with(self, message: Spliced) -> Self {
        let is_mine = |bytes: &Bytes| {
            let mine = self.message();
            mine.as_ptr() == bytes.as_ptr() && mine.len() == bytes.len()
        };
        if message.as_untouched().is_some_and(is_mine) {
            return self;
        }
        Self::of_parts(&[], message, &[])
    }

    /// A frame of a message that `head`, `message` and `tail` are together.
    pub(super) fn of_parts(head: &[u8], mut message: Spliced, tail: &[u8]) -> Self {
        let len = head.len() + message.len() + tail.len();
        let mut frame = BytesMut::with_capacity(PREFIX + len);
        frame.extend_from_slice(&prefix(len));
        frame.extend_from_slice(head);
        while let Some(chunk) = message.next_chunk(usize::MAX) {
            frame.extend_from_slice(&chunk);
        }
        frame.extend_from_slice(tail);
        Self(frame.freeze())
    }

    /// The message without its prefix.
    pub(super) fn message(&self) -> Bytes {
        self.0.slice(PREFIX.min(self.0.len())..)
    }

    /// The message without its prefix; where nothing else holds its memory, whoever gets it may write to it.
    pub(super) fn into_message(self) -> Bytes {
        let Self(mut bytes) = self;
        bytes.advance(PREFIX.min(bytes.len()));
        bytes
    }

    /// Prefix and message.
    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The prefix of an uncompressed message of `len` bytes. Nothing that the proxy handles exceeds 4 GiB: what etcd sends is
/// bounded by this same field, and opening shrinks it.
pub(super) fn prefix(len: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// Why no message could be read.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    /// The stream ended inside a message.
    #[error("the stream ended within a gRPC message")]
    Truncated,
    /// The message is compressed.
    #[error("grpc: Decompressor is not installed for grpc-encoding \"{0}\"")]
    Compressed(String),
    /// The flag byte has a value that gRPC does not define.
    #[error("a gRPC message with the undefined flag {0}")]
    Flag(u8),
    /// The message is longer than is accepted.
    #[error("a gRPC message of {length} bytes where {limit} are accepted")]
    TooLarge {
        /// Length that the prefix announces.
        length: usize,
        /// Longest that is accepted.
        limit: usize,
    },
    /// More than one message where the RPC has one.
    #[error("more than one message in a unary call")]
    Surplus,
    /// The client has too much under way.
    #[error("too many bytes of requests under way on one connection")]
    Crowded,
    /// No message where the RPC has one.
    #[error("no message in a unary request")]
    Missing,
    /// The HTTP/2 stream failed or was reset.
    #[error("the stream was cut off")]
    Stream(#[from] h2::Error),
}

/// Reads messages from one body.
pub(super) struct Frames {
    body: RecvStream,
    deframer: Deframer,
    direction: Direction,
    budget: Budget,
    /// What the message that came last, or is coming, takes of the budget.
    share: Option<Share>,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
    /// Down, by a stream that lasts.
    Events,
}

impl Frames {
    /// What a client sends, each message at most `limit` bytes. Beyond `budget` a message is refused.
    pub(super) fn of_request(body: RecvStream, headers: &HeaderMap, limit: usize, budget: &Budget) -> Self {
        Self::new(body, headers, limit, Direction::Up, budget)
    }

    /// What etcd answers. Beyond `budget` a message waits at etcd until the client has read others.
    pub(super) fn of_answer(body: RecvStream, headers: &HeaderMap, budget: &Budget) -> Self {
        Self::new(body, headers, MAX_RESPONSE, Direction::Down, budget)
    }

    /// The same for a stream that lasts.
    pub(super) fn of_events(body: RecvStream, headers: &HeaderMap, budget: &Budget) -> Self {
        Self::new(body, headers, MAX_RESPONSE, Direction::Events, budget)
    }

    fn new(body: RecvStream, headers: &HeaderMap, limit: usize, direction: Direction, budget: &Budget) -> Self {
        // For an error's text alone: whether a message is compressed, its own flag says.
        let encoding = headers.get("grpc-encoding").and_then(|value| value.to_str().ok());
        Self {
            body,
            deframer: Deframer::new(limit, encoding.unwrap_or("")),
            direction,
            budget: budget.clone(),
            share: None,
        }
    }

    /// The next message; `None` at the body's end. The one before is taken to be done with.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        self.share = None;
        loop {
            if self.share.is_none()
                && let Some(length) = self.deframer.announced()
            {
                self.share = Some(match self.direction {
                    Direction::Up => self.budget.request(length).ok_or(FrameError::Crowded)?,
                    Direction::Down => self.budget.answer(length).await,
                    Direction::Events => self.budget.event(length).await,
                });
            }
            if let Some(frame) = self.deframer.next()? {
                return Ok(Some(frame));
            }
            let Some(data) = self.body.data().await else {
                self.deframer.finish()?;
                return Ok(None);
            };
            let data = data?;
            // Fails only when the stream has ended, and then there is no window to give back.
            let _ = self.body.flow_control().release_capacity(data.len());
            self.deframer.push(data);
        }
    }

    /// Whether something came along behind the last message.
    pub(super) fn is_at_a_boundary(&self) -> bool {
        self.deframer.finish().is_ok()
    }

    /// What the message that came last takes of the budget, for who keeps it beyond the next one.
    pub(super) fn share(&mut self) -> Option<Share> {
        self.share.take()
    }

    /// The trailers that end the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, FrameError> {
        Ok(self.body.trailers().await?)
    }
}
