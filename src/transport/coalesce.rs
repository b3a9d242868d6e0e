//! A buffer beneath an HTTP/2 connection whose flush waits until every task that is ready has run.
//!
//! The h2 crate flushes after each DATA frame over 256 bytes and after each batch of frames, so a proxy that carries
//! many small messages spends most of its time in `write`. Here `poll_flush` only notes that the connection is dirty and
//! succeeds; the runtime's [`Flusher`] writes each dirty connection once. A socket that does not take everything leaves
//! this scheme until it has: its connection task is woken and flushes it as an ordinary stream, so one stuck peer costs
//! the flusher nothing.
//!
//! Everything lives on one single-threaded runtime. Never used across threads.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::backlog::{Backlog, Frames};
use super::flusher::{Flush, Flusher};
use super::pong;
use super::turns::Turns;

/// Bytes a connection may hold back before a write goes to the socket at once. Twice the largest TLS record batch that
/// pays: more was not faster, and it bounds what a slow peer keeps in memory.
const HIGH_WATER: usize = 256 * 1024;

/// A byte stream whose small writes are gathered; see the module's description.
pub struct Coalesced<S>(Rc<RefCell<Shared<S>>>);

struct Shared<S> {
    stream: S,
    flusher: Flusher,
    /// What is gathered; without capacity where nothing is.
    out: BytesMut,
    mode: Mode,
    /// The connection task, woken when its socket is stuck or has failed.
    owner: Option<Waker>,
    failed: Option<io::ErrorKind>,
    /// Of a client's connection.
    client: Option<Client>,
}

/// What is watched of a client's connection.
struct Client {
    turns: Turns,
    written: Frames,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Clean,
    /// In the flusher's queue.
    Queued,
    /// There is something to write that nobody waits for, and the flusher knows.
    Lingering,
    /// The socket is full; the connection task drains it itself.
    Stuck,
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Coalesced<S> {
    /// Gathers writes to `stream`; `flusher` must run on the current runtime.
    pub fn new(stream: S, flusher: Flusher) -> Self {
        let shared = Shared {
            stream,
            flusher,
            out: BytesMut::new(),
            mode: Mode::Clean,
            owner: None,
            failed: None,
            client: None,
        };
        Self(Rc::new(RefCell::new(shared)))
    }

    /// The connection is a client's: it is read by `turns`, and what is written is taken off `backlog`.
    #[must_use]
    pub fn of_client(self, backlog: Backlog, turns: Turns) -> Self {
        self.0.borrow_mut().client = Some(Client {
            turns,
            written: Frames::new(backlog),
        });
        self
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Writes all that is gathered, then flushes the stream beneath.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        if self.out.capacity() > 0 {
            self.flusher.give_back(mem::take(&mut self.out));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// [`Self::poll_drain`] from the connection's own task, keeping the mode true.
    fn poll_drain_as_owner(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_drain(cx);
        match &drained {
            Poll::Pending => self.mode = Mode::Stuck,
            // Where it is queued or lingers still the flusher finds nothing left, and it is clean then.
            Poll::Ready(_) if self.mode == Mode::Stuck => self.mode = Mode::Clean,
            Poll::Ready(_) => {}
        }
        drained
    }

    /// What the flusher does with a connection that is still as it was when the flusher got it.
    fn flush_if(&mut self, mode: Mode, cx: &mut Context<'_>) {
        if self.mode != mode {
            return;
        }
        self.mode = match self.poll_drain(cx) {
            Poll::Ready(Ok(())) => {
                if let Some(client) = &self.client {
                    client.written.all_are();
                }
                Mode::Clean
            }
            Poll::Ready(Err(error)) => {
                self.failed = Some(error.kind());
                Mode::Clean
            }
            Poll::Pending => Mode::Stuck,
        };
        if (self.mode == Mode::Stuck || self.failed.is_some())
            && let Some(owner) = self.owner.take()
        {
            owner.wake();
        }
    }

    fn gather(&mut self, buf: &[u8]) {
        if self.out.capacity() == 0 {
            self.out = self.flusher.spare();
        }
        self.out.extend_from_slice(buf);
        if let Some(client) = &mut self.client {
            client.written.written(buf);
        }
    }

    fn keep_owner(&mut self, cx: &Context<'_>) {
        match &mut self.owner {
            Some(owner) => owner.clone_from(cx.waker()),
            None => self.owner = Some(cx.waker().clone()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Flush for RefCell<Shared<S>> {
    fn flush(&self, cx: &mut Context<'_>) {
        self.borrow_mut().flush_if(Mode::Queued, cx);
    }

    fn flush_lingering(&self, cx: &mut Context<'_>) {
        self.borrow_mut().flush_if(Mode::Lingering, cx);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        let stream = Pin::new(&mut shared.stream);
        match &shared.client {
            Some(client) => client.turns.poll_read(stream, cx, buf),
            None => stream.poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Coalesced<S> {
    /// Room for at least one byte, or the reason there is none.
    fn poll_room(shared: &mut Shared<S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        shared.check()?;
        if shared.out.len() >= HIGH_WATER {
            shared.keep_owner(cx);
            ready!(shared.poll_drain_as_owner(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> AsyncWrite for Coalesced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        ready!(Self::poll_room(&mut shared, cx))?;
        shared.gather(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        ready!(Self::poll_room(&mut shared, cx))?;
        for buf in bufs {
            shared.gather(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        shared.check()?;
        match shared.mode {
            Mode::Stuck => shared.poll_drain_as_owner(cx),
            Mode::Queued => Poll::Ready(Ok(())),
            Mode::Clean | Mode::Lingering if shared.out.is_empty() => Poll::Ready(Ok(())),
            Mode::Lingering if pong::may_wait(&shared.out) => Poll::Ready(Ok(())),
            Mode::Clean if pong::may_wait(&shared.out) => {
                shared.mode = Mode::Lingering;
                shared.keep_owner(cx);
                shared.flusher.add_lingering(self.0.clone());
                Poll::Ready(Ok(()))
            }
            Mode::Clean | Mode::Lingering => {
                shared.mode = Mode::Queued;
                shared.keep_owner(cx);
                shared.flusher.add(self.0.clone());
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        shared.check()?;
        ready!(shared.poll_drain_as_owner(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    /// Counts the writes that reach the stream beneath.
    struct Counting<S>(S, Rc<RefCell<usize>>);

    impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            *self.1.borrow_mut() += 1;
            Pin::new(&mut self.0).poll_write(cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    pub(in super::super) fn on_a_local_runtime(test: impl Future<Output = ()> + 'static) {
        Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn writes_of_one_tick_reach_the_socket_as_one() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            tokio::task::yield_now().await;
            let (near, mut far) = duplex(1 << 20);
            let writes = Rc::new(RefCell::new(0));
            let mut io = Coalesced::new(Counting(near, writes.clone()), flusher);
            for word in [&b"alpha "[..], b"beta ", b"gamma"] {
                io.write_all(word).await.unwrap();
                io.flush().await.unwrap();
            }
            let mut got = [0; 16];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"alpha beta gamma");
            assert_eq!(*writes.borrow(), 1);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_holds_the_writer_and_loses_nothing() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            let (near, mut far) = duplex(1024);
            let mut io = Coalesced::new(near, flusher);
            let sent: Vec<u8> = (0..2_000_000u32)
                .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
                .collect();
            let expected = sent.clone();
            let writer = tokio::task::spawn_local(async move {
                for chunk in sent.chunks(16 * 1024) {
                    io.write_all(chunk).await.unwrap();
                    io.flush().await.unwrap();
                    assert!(io.0.borrow().out.len() < HIGH_WATER + 16 * 1024);
                }
                io.shutdown().await.unwrap();
            });
            tokio::task::yield_now().await;
            assert!(!writer.is_finished());
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, expected);
            writer.await.unwrap();
        });
    }

    #[test]
    fn what_was_flushed_before_the_connection_went_is_still_written() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            let (near, mut far) = duplex(1024);
            let mut io = Coalesced::new(near, flusher);
            io.write_all(b"a last word").await.unwrap();
            io.flush().await.unwrap();
            drop(io);
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"a last word");
        });
    }

    #[test]
    fn a_failed_socket_is_reported_to_its_connection() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            tokio::task::yield_now().await;
            let (near, far) = duplex(64);
            drop(far);
            let mut io = Coalesced::new(near, flusher);
            io.write_all(b"into the void").await.unwrap();
            io.flush().await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(io.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
