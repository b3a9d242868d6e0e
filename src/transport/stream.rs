//! What HTTP runs on: a socket, plain or under TLS on either side, with bytes that were read ahead put back in front.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use super::Socket;

/// A byte stream to a peer.
#[derive(Debug)]
pub struct Stream {
    layer: Layer,
    /// Bytes that protocol detection read and that the protocol must see again.
    read_ahead: Bytes,
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
        }
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
            return self.layer().poll_read(cx, buf);
        }
        let taken = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(self.read_ahead.get(..taken).unwrap_or_default());
        self.read_ahead.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.layer().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.layer().poll_write_vectored(cx, bufs)
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
