//! gRPC's message framing over an HTTP/2 body: five bytes (a flag and a big-endian length), then the message.
//!
//! Source: the public gRPC-over-HTTP/2 specification, "Length-Prefixed-Message". Never decompresses.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use thiserror::Error;

use super::deframer::Deframer;
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
    pub(super) fn with(self, mut message: Spliced) -> Self {
        let is_mine = |bytes: &Bytes| {
            let mine = self.message();
            mine.as_ptr() == bytes.as_ptr() && mine.len() == bytes.len()
        };
        if message.as_untouched().is_some_and(is_mine) {
            return self;
        }
        let mut frame = BytesMut::with_capacity(PREFIX + message.len());
        frame.extend_from_slice(&prefix(message.len()));
        while let Some(chunk) = message.next_chunk(usize::MAX) {
            frame.extend_from_slice(&chunk);
        }
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
    #[error("more than one message in a unary request")]
    Surplus,
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
}

impl Frames {
    /// Messages of `body`, each at most `limit` bytes; `encoding` is the stream's `grpc-encoding`, for an error's text.
    pub(super) fn new(body: RecvStream, limit: usize, encoding: Option<&http::HeaderValue>) -> Self {
        let encoding = encoding.and_then(|value| value.to_str().ok()).unwrap_or("");
        Self {
            body,
            deframer: Deframer::new(limit, encoding),
        }
    }

    /// The next message; `None` at the body's end.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
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

    /// The only message of a unary call.
    pub(super) async fn only(&mut self) -> Result<Frame, FrameError> {
        let frame = self.next().await?.ok_or(FrameError::Missing)?;
        match self.next().await? {
            None => Ok(frame),
            Some(_) => Err(FrameError::Surplus),
        }
    }

    /// The trailers that end the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<http::HeaderMap>, FrameError> {
        Ok(self.body.trailers().await?)
    }
}
