//! How much of a client's bytes is read before others get their turn.
//!
//! The HTTP/2 library reads for as long as there is something to read, and thousands of streams fit into what lies in a socket.
//! Here the read side says after some bytes that there is nothing, and wakes its task, which is queued behind all that are ready.
//! The next turn begins when the task has worked through the streams of this one, and not before. Never across threads.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a turn: some messages, or a piece of a large one.
const LONGEST: usize = 16 * 1024;

/// Bytes of the first turn, and of one behind a turn in which very many streams began, at least: a call without bytes is as much
/// work as one of some hundred.
const FIRST: usize = 2 * 1024;
const SHORTEST: usize = 256;

/// Streams that may begin in one turn, about. With no more of them a client is read in long turns: a short one would cut its messages
/// to pieces, and each is a wake-up.
const STREAMS: usize = 16;

/// One connection's turns. Clones share them.
#[derive(Clone)]
pub struct Turns(Rc<Shared>);

struct Shared {
    /// Bytes of this turn, and what of them may still be read.
    length: Cell<usize>,
    left: Cell<usize>,
    /// Streams that have begun in it.
    begun: Cell<usize>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Rc::new(Shared {
            length: Cell::new(FIRST),
            left: Cell::new(FIRST),
            begun: Cell::new(0),
        }))
    }
}

impl Turns {
    /// A stream has begun.
    pub fn begun(&self) {
        self.0.begun.set(self.0.begun.get().saturating_add(1));
    }

    /// The task has done what it was woken for: what is read from now on is another turn. It is twice as long as this one, or, if too
    /// many streams began in this one, as long as those take that are not too many.
    pub fn next(&self) {
        let Shared { length, left, begun } = &*self.0;
        let read = length.get().saturating_sub(left.get());
        let begun = begun.replace(0);
        if begun > STREAMS {
            let fair = read.saturating_mul(STREAMS) / begun;
            length.set(fair.max(SHORTEST));
        } else if read > 0 {
            length.set(length.get().saturating_mul(2).min(LONGEST));
        }
        left.set(length.get());
    }

    /// Reads from `stream` within the turn.
    pub(super) fn poll_read(
        &self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.0.left.get();
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = if left >= buf.remaining() {
            stream.poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(left));
            let read = stream.poll_read(cx, &mut part);
            let bytes = part.filled().len();
            buf.advance(bytes);
            read
        };
        ready!(read)?;
        let bytes = buf.filled().len().saturating_sub(before);
        self.0.left.set(left.saturating_sub(bytes));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// How much is read until the turn is over.
    fn turn(turns: &Turns, stream: &mut &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        loop {
            let mut room = [0; 3000];
            let mut buf = ReadBuf::new(&mut room);
            match turns.poll_read(Pin::new(stream), &mut cx, &mut buf) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => return bytes,
            }
            bytes += buf.filled().len();
        }
    }

    #[test]
    fn a_turn_is_as_long_as_a_few_streams_take() {
        let (turns, bytes) = (Turns::default(), vec![0; 100 * LONGEST]);
        let mut stream = &bytes[..];
        let mut turn = |streams| {
            let bytes = turn(&turns, &mut stream);
            (0..streams).for_each(|_| turns.begun());
            turns.next();
            bytes
        };
        assert_eq!(turn(0), FIRST);
        assert_eq!(turn(0), 2 * FIRST);
        assert_eq!(turn(1), 4 * FIRST);
        assert_eq!(turn(10 * STREAMS), LONGEST);
        // Few streams, of however few bytes each, make it no shorter.
        assert_eq!(turn(STREAMS), LONGEST / 10);
        assert_eq!(turn(1000 * STREAMS), LONGEST / 10 * 2);
        assert_eq!(turn(0), SHORTEST);
        assert_eq!(turn(0), 2 * SHORTEST);
    }

    #[test]
    fn nothing_more_is_read_before_the_next_turn() {
        let (turns, bytes) = (Turns::default(), vec![0; 100 * LONGEST]);
        let mut stream = &bytes[..];
        assert_eq!(turn(&turns, &mut stream), FIRST);
        turns.begun();
        assert_eq!(turn(&turns, &mut stream), 0);
        turns.next();
        assert_eq!(turn(&turns, &mut stream), 2 * FIRST);
        // A client that is idle keeps its turn.
        let mut nothing = &b""[..];
        turns.next();
        turns.next();
        assert!(
            turns
                .poll_read(
                    Pin::new(&mut nothing),
                    &mut Context::from_waker(Waker::noop()),
                    &mut ReadBuf::new(&mut [0; 10])
                )
                .is_ready()
        );
        turns.next();
        assert_eq!(turn(&turns, &mut stream), 4 * FIRST);
    }
}
