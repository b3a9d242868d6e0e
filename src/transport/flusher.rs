//! One `write` a tick: the dirty connections of a runtime, written once every task that was ready has run.
//!
//! The flusher is a task. The first connection that becomes dirty wakes it, and so it is queued behind all tasks that were
//! ready then; what they write to the same connection goes out with it. What nobody waits for lingers a little longer, and
//! goes with whatever is written next.
//!
//! Everything lives on one single-threaded runtime. Never looks at what is written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep};

/// How long a write that nobody waits for lingers at most, give or take a tick of the runtime's clock, a millisecond. Far
/// below any timeout of a PING: gRPC has 20 s.
const LINGER: Duration = Duration::from_millis(2);

/// Connections that are written before other tasks get their turn. The runtime takes a task's sockets for not ready once it has
/// used 128 of them.
const TURN: usize = 64;

/// Drained buffers that a runtime keeps for whichever connections write next, so that a connection holds none while it is
/// idle, and none has to grow anew at each tick: for a long list that was as much copying as the list itself. As many as are
/// dirty at once in most ticks.
const SPARES: usize = 8;

/// What there is to write on one runtime.
#[derive(Clone, Default)]
pub struct Flusher(Rc<RefCell<Pending>>);

#[derive(Default)]
struct Pending {
    dirty: VecDeque<Rc<dyn Flush>>,
    /// Those that lingered when they came here. Some have been written since.
    lingering: Vec<Rc<dyn Flush>>,
    /// Whether the clock is set for them.
    is_set: bool,
    waker: Option<Waker>,
    /// Empty buffers.
    spares: Vec<BytesMut>,
}

/// A connection with something to write.
pub(super) trait Flush {
    /// Writes what waits for this tick.
    fn flush(&self, cx: &mut Context<'_>);
    /// Writes what lingers still.
    fn flush_lingering(&self, cx: &mut Context<'_>);
}

impl Flusher {
    /// Writes for as long as it is polled; spawn it once on the runtime that its connections live on.
    pub async fn run(self) {
        let mut clock = pin!(sleep(LINGER));
        std::future::poll_fn(|cx| {
            let mut flushed = 0;
            while let Some(connection) = self.next_dirty() {
                connection.flush(cx);
                flushed += 1;
                if flushed == TURN {
                    // The rest behind all tasks that are ready: the runtime lets none do more at once.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            loop {
                if self.sets_clock() {
                    clock.as_mut().reset(Instant::now() + LINGER);
                }
                if !self.0.borrow().is_set || clock.as_mut().poll(cx).is_pending() {
                    break;
                }
                for connection in self.have_lingered() {
                    connection.flush_lingering(cx);
                }
            }
            self.0.borrow_mut().waker = Some(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }

    fn next_dirty(&self) -> Option<Rc<dyn Flush>> {
        self.0.borrow_mut().dirty.pop_front()
    }

    /// Whether the clock, which has run down, is to be set again.
    fn sets_clock(&self) -> bool {
        let mut pending = self.0.borrow_mut();
        let sets = !pending.is_set && !pending.lingering.is_empty();
        pending.is_set |= sets;
        sets
    }

    /// The clock has run down.
    fn have_lingered(&self) -> Vec<Rc<dyn Flush>> {
        let mut pending = self.0.borrow_mut();
        pending.is_set = false;
        mem::take(&mut pending.lingering)
    }

    /// `connection` is to be written at the end of this tick.
    pub(super) fn add(&self, connection: Rc<dyn Flush>) {
        let mut pending = self.0.borrow_mut();
        pending.dirty.push_back(connection);
        pending.wake();
    }

    /// `connection` may linger.
    pub(super) fn add_lingering(&self, connection: Rc<dyn Flush>) {
        let mut pending = self.0.borrow_mut();
        pending.lingering.push(connection);
        if !pending.is_set {
            pending.wake();
        }
    }

    /// An empty buffer.
    pub(super) fn spare(&self) -> BytesMut {
        self.0.borrow_mut().spares.pop().unwrap_or_default()
    }

    /// Takes a drained buffer back.
    pub(super) fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        let spares = &mut self.0.borrow_mut().spares;
        if spares.len() < SPARES {
            spares.push(buffer);
        }
    }
}

impl Pending {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::Coalesced;
    use super::super::coalesce::tests::on_a_local_runtime;
    use super::*;

    const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0opaque..";

    #[test]
    fn what_nobody_waits_for_goes_with_what_comes_next() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            let (near, mut far) = duplex(1024);
            let mut io = Coalesced::new(near, flusher.clone());
            let counts = || {
                let pending = flusher.0.borrow();
                (pending.dirty.len(), pending.lingering.len())
            };
            for _ in 0..2 {
                io.write_all(PONG).await.unwrap();
                io.flush().await.unwrap();
                assert_eq!(counts(), (0, 1));
            }
            io.write_all(b"a request").await.unwrap();
            io.flush().await.unwrap();
            assert_eq!(counts(), (1, 1));
            tokio::task::spawn_local(flusher.clone().run());
            let mut got = [0; 2 * PONG.len() + 9];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(got, *[PONG, PONG, b"a request"].concat());
        });
    }

    #[test]
    fn what_lingers_is_written_when_nothing_comes() {
        on_a_local_runtime(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            let (near, mut far) = duplex(1024);
            let mut io = Coalesced::new(near, flusher.clone());
            // Twice: the clock is set anew.
            for _ in 0..2 {
                tokio::task::yield_now().await;
                io.write_all(PONG).await.unwrap();
                io.flush().await.unwrap();
                let mut got = [0; PONG.len()];
                far.read_exact(&mut got).await.unwrap();
                assert_eq!(got, PONG);
            }
            // And what a connection leaves behind that is gone.
            io.write_all(PONG).await.unwrap();
            io.flush().await.unwrap();
            drop(io);
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, PONG);
            assert!(flusher.0.borrow().lingering.is_empty());
        });
    }
}
