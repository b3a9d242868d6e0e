//! Tells gathered bytes that nobody waits for: answers to HTTP/2's PING. All that the room knows of HTTP.
//!
//! gRPC's Go library, etcd's and kube-apiserver's, sends a PING with nearly each message that it receives, to learn what the
//! connection carries. Answered at once, each would cost a `write` here and a wake-up there, and the message that its
//! sender does wait for would come after it.

/// Head of a frame that answers a PING: eight bytes of payload, type 6, flag ACK, on stream 0 (RFC 9113, section 6.7).
const HEAD: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];

/// The frame with its payload.
const FRAME: usize = HEAD.len() + 8;

/// Answers that may wait together: a peer that asks faster than it is answered gets them without delay.
const MOST: usize = 4;

/// Whether `gathered` is nothing but a few such answers. Bytes in the middle of a frame may look so as well, and would wait
/// no longer than an answer does.
pub(super) fn may_wait(gathered: &[u8]) -> bool {
    gathered.len() <= MOST * FRAME
        && gathered.len().is_multiple_of(FRAME)
        && gathered.chunks_exact(FRAME).all(|frame| frame.starts_with(&HEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_pings_may_wait_and_nothing_else() {
        let answer = [&HEAD[..], b"opaque.."].concat();
        assert!(may_wait(&answer) && may_wait(&answer.repeat(MOST)));
        assert!(!may_wait(&answer.repeat(MOST + 1)), "so many are not for measuring");
        assert!(!may_wait(&answer[..FRAME - 1]));
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"opaque.."].concat();
        let window_update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert!(!may_wait(&ping));
        assert!(!may_wait(&window_update));
        assert!(!may_wait(&[&answer[..], &window_update].concat()));
        assert!(!may_wait(&[&answer[..], &ping].concat()));
    }
}
