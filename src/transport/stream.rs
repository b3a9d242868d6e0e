//! What HTTP runs on: a socket, plain or under TLS on either side, with bytes that were read ahead put back in front.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use bytes::{Buf, Bytes};
use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use super::Socket;

/// A byte stream to a peer.
#[derive(Debug)]
pub struct Stream {
    layer: Layer,
    /// Bytes that protocol detection read and that the protocol must see again.
    read_ahead: Bytes,
    meter: Option<ByteMeter>,
}

/// Counts what streams carry, above TLS.
#[derive(Clone)]
pub struct ByteMeter {
    /// Bytes read from peers.
    pub received: Counter,
    /// Bytes written to peers.
    pub sent: Counter,
}

impl fmt::Debug for ByteMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteMeter")
    }
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    Server(Box<server::TlsStream<Socket>>),
    Client(Box<client::TlsStream<Socket>>),
}

impl Stream {
    /// A stream without TLS.
    pub fn plain(socket: Socket) -> Self {
        Self::over(Layer::Plain(socket))
    }

    /// Our side accepted the TLS session.
    pub fn server(tls: server::TlsStream<Socket>) -> Self {
        Self::over(Layer::Server(Box::new(tls)))
    }

    /// Our side opened the TLS session.
    pub fn client(tls: client::TlsStream<Socket>) -> Self {
        Self::over(Layer::Client(Box::new(tls)))
    }

    fn over(layer: Layer) -> Self {
        Self {
            layer,
            read_ahead: Bytes::new(),
            meter: None,
        }
    }

    /// Counts what it carries from now on.
    #[must_use]
    pub fn metered(mut self, meter: ByteMeter) -> Self {
        self.meter = Some(meter);
        self
    }

    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(meter), Poll::Ready(Ok(bytes))) = (&self.meter, &written) {
            meter.sent.increment(*bytes as u64);
        }
        written
    }

    /// Puts `bytes`, read from this stream before, back in front of what it yields next.
    #[must_use]
    pub fn with_read_ahead(mut self, bytes: Bytes) -> Self {
        self.read_ahead = bytes;
        self
    }

    /// The protocol that TLS negotiated; `None` without TLS or without ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Server(tls) => tls.get_ref().1.alpn_protocol(),
            Layer::Client(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether the stream is under TLS.
    pub fn is_tls(&self) -> bool {
        !matches!(self.layer, Layer::Plain(_))
    }

    fn layer(self: Pin<&mut Self>) -> Pin<&mut (dyn ReadWrite + '_)> {
        match &mut self.get_mut().layer {
            Layer::Plain(socket) => Pin::new(socket),
            Layer::Server(tls) => Pin::new(&mut **tls),
            Layer::Client(tls) => Pin::new(&mut **tls),
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            let before = buf.filled().len();
            let read = self.as_mut().layer().poll_read(cx, buf);
            if let Some(meter) = &self.meter {
                meter.received.increment((buf.filled().len() - before) as u64);
            }
            return read;
        }
        let taken = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(self.read_ahead.get(..taken).unwrap_or_default());
        self.read_ahead.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.as_mut().layer().poll_write(cx, buf);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().layer().poll_write_vectored(cx, bufs);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.layer().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.layer().poll_shutdown(cx)
    }
}
