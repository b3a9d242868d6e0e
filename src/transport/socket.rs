//! A connected TCP or unix socket with the options that a proxy wants. Knows nothing of TLS or HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Idle time before the kernel probes a TCP peer, and the time between probes; Go's net package, and so etcd's and
/// kube-apiserver's sockets, use similar ones.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long bytes sent to a client may stay unacknowledged before the connection counts as dead: a peer that vanished
/// without a word would otherwise hold its streams until the kernel's default of about fifteen minutes.
pub(super) const UNACKNOWLEDGED_BY_CLIENT: Duration = Duration::from_secs(30);

/// The same for bytes sent to a member. kube-apiserver's client of etcd has ten seconds (grpc-go sets `TCP_USER_TIMEOUT` to
/// its keepalive timeout): calls through the proxy do not hang longer than calls to the member.
pub(super) const UNACKNOWLEDGED_BY_MEMBER: Duration = Duration::from_secs(10);

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with `TCP_NODELAY` and keepalive set.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Takes over a TCP stream and sets its options. It is given up once bytes stay unacknowledged for that long.
    pub(super) fn tcp(stream: TcpStream, unacknowledged: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        socket.set_tcp_user_timeout(Some(unacknowledged))?;
        Ok(Self::Tcp(stream))
    }

    /// The peer's address without its port, which tells it from others for longer than one connection.
    pub fn peer_host(&self) -> String {
        match self {
            Self::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "disconnected".to_owned(), |addr| addr.ip().to_string()),
            Self::Unix(_) => "unix".to_owned(),
        }
    }

    /// The peer's address for a log line; unix peers have none.
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "disconnected".to_owned(), |addr| addr.to_string()),
            Self::Unix(_) => "unix".to_owned(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
