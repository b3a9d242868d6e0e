//! HTTP/2 written frame by frame, for what no library of HTTP/2 would send. Sources: RFC 9113 and RFC 7541.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Types and flags of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Largest payload that any peer takes.
const LARGEST: usize = 16_384;

/// Whether the answers of the peer are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// All of them are, and thrown away.
    All,
    /// None is, once the connection is there.
    Nothing,
}

/// A connection of which every frame is chosen.
#[derive(Debug)]
pub struct Frames {
    up: OwnedWriteHalf,
    down: Option<OwnedReadHalf>,
    reader: Option<JoinHandle<()>>,
    next: u32,
    out: Vec<u8>,
}

impl Frames {
    /// Connects to `url` (`http://host:port`) with this window for each stream, and the largest one for all.
    pub async fn connect(url: &str, window: u32, reads: Reads) -> Self {
        let address = url.strip_prefix("http://").expect("a plain URL");
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let (mut down, up) = stream.into_split();
        let mut frames = Self {
            up,
            down: None,
            reader: None,
            next: 1,
            out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        };
        let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
        frames.frame(SETTINGS, 0, 0, &settings);
        frames.frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes());
        assert!(frames.flush().await, "a connection");
        match reads {
            Reads::All => {
                frames.reader = Some(tokio::spawn(async move {
                    let mut room = vec![0; 1 << 16];
                    while down.read(&mut room).await.is_ok_and(|bytes| bytes > 0) {}
                }));
            }
            Reads::Nothing => frames.down = Some(down),
        }
        frames
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, a, b, c] = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
        self.out.extend_from_slice(&[a, b, c, kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Begins a stream with this header block; `ended` if nothing follows.
    pub fn begin(&mut self, block: &[u8], ended: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        let end = if ended { END_STREAM } else { 0 };
        let mut pieces = block.chunks(LARGEST).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { end | last } else { last };
            self.frame(kind, flags, stream, piece);
            kind = CONTINUATION;
        }
        stream
    }

    /// Ends a stream with trailers of which there are none.
    pub fn end_with_trailers(&mut self, stream: u32) {
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &[]);
    }

    /// Sends a short body and ends the stream.
    pub fn body(&mut self, stream: u32, body: &[u8]) {
        self.frame(DATA, END_STREAM, stream, body);
    }

    /// The same without ending it.
    pub fn part(&mut self, stream: u32, body: &[u8]) {
        self.frame(DATA, 0, stream, body);
    }

    /// Resets a stream: CANCEL.
    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    /// How much waits to be sent, bytes.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// Sends what waits. False once the peer takes nothing more: the connection is closed, or nothing is read from it for two
    /// seconds.
    pub async fn flush(&mut self) -> bool {
        let sent = timeout(Duration::from_secs(2), self.up.write_all(&self.out)).await;
        self.out.clear();
        matches!(sent, Ok(Ok(())))
    }

    /// Whether the peer has closed the connection, by now or soon.
    pub async fn is_closed(&mut self) -> bool {
        if let Some(mut down) = self.down.take() {
            self.reader = Some(tokio::spawn(async move {
                let mut room = vec![0; 1 << 16];
                while down.read(&mut room).await.is_ok_and(|bytes| bytes > 0) {}
            }));
        }
        let reader = self.reader.as_mut().expect("somebody reads");
        timeout(Duration::from_secs(5), reader).await.is_ok()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

/// The header block of a gRPC call of `path`, with nothing that the peer would have to remember.
pub fn call(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.push(0x04);
    string(&mut block, path.as_bytes());
    block.push(0x01);
    string(&mut block, b"etcd.test");
    literal(&mut block, "content-type", b"application/grpc");
    literal(&mut block, "te", b"trailers");
    block
}

/// The header block of a GET of `path`.
pub fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04];
    string(&mut block, path.as_bytes());
    block.push(0x01);
    string(&mut block, b"etcd.test");
    block
}

/// One field more, not to be remembered.
pub fn literal(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0x00);
    string(block, name.as_bytes());
    string(block, value);
}

/// One field more, which the peer remembers as the newest of its table: [`NEWEST`] names it from then on.
pub fn remembered(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0x40);
    string(block, name.as_bytes());
    string(block, value);
}

/// The field remembered last.
pub const NEWEST: u8 = 0x80 | 0x3e;

fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    const SEVEN_BITS: usize = 0x7f;
    match bytes.len().checked_sub(SEVEN_BITS) {
        None => block.push(u8::try_from(bytes.len()).expect("below 127")),
        Some(mut rest) => {
            block.push(0x7f);
            while rest >= 0x80 {
                block.push(0x80 | u8::try_from(rest & 0x7f).expect("seven bits"));
                rest >>= 7;
            }
            block.push(u8::try_from(rest).expect("seven bits"));
        }
    }
    block.extend_from_slice(bytes);
}
