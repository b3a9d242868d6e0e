//! Bytes that were handed to an HTTP/2 connection and that its socket has not taken: the library keeps them, for each stream up
//! to its window, and says of none how much.
//!
//! Counted on one side as DATA is handed on, on the other as DATA frames are written. Never across threads.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// As much as may lie there before who has more to send waits, bytes: enough for the socket to be busy meanwhile.
const LIMIT: usize = 4 * 1024 * 1024;

/// Octets before each frame's payload (RFC 9113, section 4.1).
const FRAME_HEADER: usize = 9;

/// The type of a DATA frame (RFC 9113, section 6.1).
const DATA: u8 = 0;

/// What lies between a connection's streams and its socket. Clones share it.
#[derive(Clone, Default)]
pub struct Backlog(Rc<Shared>);

#[derive(Default)]
struct Shared {
    bytes: Cell<usize>,
    drained: Notify,
}

impl Backlog {
    /// Whether more may be handed on.
    pub fn has_room(&self) -> bool {
        self.0.bytes.get() < LIMIT
    }

    /// Waits until more may be handed on.
    pub async fn room(&self) {
        while !self.has_room() {
            self.0.drained.notified().await;
        }
    }

    /// So many bytes of bodies are handed on.
    pub fn add(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get().saturating_add(bytes));
    }

    fn remove(&self, bytes: usize) {
        let (had_room, left) = (self.has_room(), self.0.bytes.get().saturating_sub(bytes));
        self.0.bytes.set(left);
        if !had_room && self.has_room() {
            self.0.drained.notify_waiters();
        }
    }
}

/// Follows what an HTTP/2 connection writes, frame by frame.
pub(super) struct Frames {
    backlog: Backlog,
    /// The start of a frame's header.
    header: [u8; FRAME_HEADER],
    seen: usize,
    /// What is to come of the frame's payload, and whether it is of a body.
    payload: usize,
    is_data: bool,
}

impl Frames {
    /// Takes what is written off `backlog`.
    pub(super) fn new(backlog: Backlog) -> Self {
        Self {
            backlog,
            header: [0; FRAME_HEADER],
            seen: 0,
            payload: 0,
            is_data: false,
        }
    }

    /// The socket has taken all that the connection had to write. What streams that were reset had handed on is not among it:
    /// the library has dropped that.
    pub(super) fn all_are(&self) {
        self.backlog.remove(usize::MAX);
    }

    /// `bytes` come next.
    pub(super) fn written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let (now, rest) = bytes.split_at(self.payload.min(bytes.len()));
                self.payload -= now.len();
                if self.is_data {
                    self.backlog.remove(now.len());
                }
                bytes = rest;
                continue;
            }
            let missing = FRAME_HEADER.saturating_sub(self.seen);
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            for (place, byte) in self.header.iter_mut().skip(self.seen).zip(now) {
                *place = *byte;
            }
            self.seen += now.len();
            bytes = rest;
            if self.seen == FRAME_HEADER {
                let [a, b, c, kind, ..] = self.header;
                self.payload = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
                self.is_data = kind == DATA;
                self.seen = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 1][..], &vec![7; length]].concat()
    }

    #[test]
    fn data_alone_is_taken_off_however_it_is_cut() {
        let bytes = [
            frame(1, 300),
            frame(DATA, 1000),
            frame(8, 4),
            frame(DATA, 0),
            frame(DATA, 17),
        ]
        .concat();
        for size in [1, 2, 8, 9, 10, 500, bytes.len()] {
            let backlog = Backlog::default();
            backlog.add(2000);
            let mut frames = Frames::new(backlog.clone());
            bytes.chunks(size).for_each(|chunk| frames.written(chunk));
            assert_eq!(backlog.0.bytes.get(), 2000 - 1017, "in chunks of {size}");
        }
    }

    #[tokio::test]
    async fn who_has_more_to_send_waits_until_the_socket_has_taken_some() {
        let backlog = Backlog::default();
        backlog.add(LIMIT);
        let mut frames = Frames::new(backlog.clone());
        {
            let mut waiting = std::pin::pin!(backlog.room());
            assert!(futures_now(waiting.as_mut()).is_none());
            frames.written(&frame(1, 100));
            assert!(futures_now(waiting.as_mut()).is_none());
            frames.written(&frame(DATA, 100));
            assert!(futures_now(waiting.as_mut()).is_some());
        }
        assert!(backlog.has_room());
    }

    fn futures_now<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }
}
