//! gRPC's message framing over an HTTP/2 body: five bytes (a flag and a big-endian length), then the message.
//!
//! Source: the public gRPC-over-HTTP/2 specification, "Length-Prefixed-Message". Never decompresses.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use thiserror::Error;

use crate::wire::Spliced;

/// Bytes before each message.
pub(super) const PREFIX: usize = 5;

/// One message with its prefix, as it came.
#[derive(Clone, Debug)]
pub(super) struct Frame(Bytes);

impl Frame {
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
    ahead: Ahead,
    limit: usize,
    encoding: String,
}

/// Bytes that came and are not yet part of a message returned.
enum Ahead {
    /// As one DATA frame brought them: a message that lies in it whole is handed on uncopied.
    Whole(Bytes),
    /// Gathered from several.
    Gathered(BytesMut),
}

impl Frames {
    /// Messages of `body`, each at most `limit` bytes; `encoding` is the stream's `grpc-encoding`, for an error's text.
    pub(super) fn new(body: RecvStream, limit: usize, encoding: Option<&http::HeaderValue>) -> Self {
        let encoding = encoding.and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        Self {
            body,
            ahead: Ahead::Whole(Bytes::new()),
            limit,
            encoding,
        }
    }

    /// The next message; `None` at the body's end.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let wanted = self.wanted()?;
            if let Some(total) = wanted
                && self.ahead.len() >= total
            {
                return Ok(Some(Frame(self.ahead.take(total))));
            }
            let Some(data) = self.body.data().await else {
                return if self.ahead.len() == 0 {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            };
            let data = data?;
            // Fails only when the stream has ended, and then there is no window to give back.
            let _ = self.body.flow_control().release_capacity(data.len());
            self.ahead.push(data, wanted.unwrap_or(PREFIX));
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

    /// Length of the next message with its prefix, once the prefix is there.
    fn wanted(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.ahead.bytes().first_chunk::<PREFIX>() else {
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

impl Ahead {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Appends `data`; `total` bytes are known to be wanted.
    fn push(&mut self, data: Bytes, total: usize) {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => *self = Self::Whole(data),
            Self::Whole(bytes) => {
                let mut gathered = BytesMut::with_capacity(total.max(bytes.len() + data.len()));
                gathered.extend_from_slice(bytes);
                gathered.put(data);
                *self = Self::Gathered(gathered);
            }
            Self::Gathered(bytes) => {
                bytes.reserve(total.saturating_sub(bytes.len()).max(data.len()));
                bytes.put(data);
            }
        }
    }

    /// Cuts off the first `total` bytes, which must be there.
    fn take(&mut self, total: usize) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.split_to(total.min(bytes.remaining())),
            Self::Gathered(bytes) => {
                let taken = bytes.split_to(total.min(bytes.remaining())).freeze();
                if bytes.is_empty() {
                    *self = Self::Whole(Bytes::new());
                }
                taken
            }
        }
    }
}
