//! How much of a client's bytes is read before others get their turn.
//!
//! The HTTP/2 library reads for as long as there is something to read, and thousands of streams fit into what lies in a socket.
//! Here the read side says now and then that there is nothing, and wakes its task: it is queued behind all that are ready.
//! Never across threads.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a turn: some messages, or a piece of a large one.
const TURN: usize = 16 * 1024;

/// Bytes of a turn of a client whose last one began very many streams. A call of no bytes takes as long as one of some hundred.
const SHORT_TURN: usize = 2 * 1024;

/// Streams that are very many for one turn.
const MANY: usize = 100;

/// One connection's turns. Clones share them.
#[derive(Clone)]
pub struct Turns(Rc<Shared>);

struct Shared {
    /// What may still be read in this turn, bytes.
    left: Cell<usize>,
    /// Streams that have begun in it.
    begun: Cell<usize>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Rc::new(Shared {
            left: Cell::new(TURN),
            begun: Cell::new(0),
        }))
    }
}

impl Turns {
    /// A stream has begun.
    pub fn begun(&self) {
        self.0.begun.set(self.0.begun.get().saturating_add(1));
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
            self.next();
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
        if read.is_pending() {
            // Nothing there: whatever comes next is another turn.
            self.next();
        }
        ready!(read)?;
        let bytes = buf.filled().len().saturating_sub(before);
        self.0.left.set(left.saturating_sub(bytes));
        Poll::Ready(Ok(()))
    }

    fn next(&self) {
        let begun = self.0.begun.replace(0);
        self.0.left.set(if begun > MANY { SHORT_TURN } else { TURN });
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
    fn a_turn_is_shorter_after_one_in_which_very_many_streams_began() {
        let (turns, bytes) = (Turns::default(), vec![0; 100 * TURN]);
        let mut stream = &bytes[..];
        let mut turn = |streams| {
            (0..streams).for_each(|_| turns.begun());
            turn(&turns, &mut stream)
        };
        assert_eq!(turn(MANY), TURN);
        assert_eq!(turn(MANY + 1), TURN);
        assert_eq!(turn(MANY + 1), SHORT_TURN);
        assert_eq!(turn(0), SHORT_TURN);
        assert_eq!(turn(0), TURN);
    }
}
