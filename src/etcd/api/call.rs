//! One unary gRPC call over the pool's connection: framed, sent once, its answer read to its end or to a bound.

use std::cell::OnceCell;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;

use super::{CallError, Client};
use crate::etcd::{Call, Connection};

/// A connection that was closed in good order just when a call came is replaced at most so often for one call.
const ATTEMPTS: usize = 4;

/// Longest answer that is taken, bytes: what Go's gRPC client takes.
const MAX_ANSWER: usize = i32::MAX as usize;

/// Length of what stands before a gRPC message: a flag and four bytes of length.
const FRAME_HEADER: usize = 5;

/// Answers after which another member should be asked. Source: etcd's public `rpctypes` error table.
const MEMBER_CANNOT_SERVE: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: server stopped",
    "etcdserver: rpc not supported for learner",
];

/// Which RPC, and what bounds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rpc {
    /// For errors: `KV/Txn`.
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    /// How long an answer may take.
    pub(super) timeout: Duration,
}

/// An answer's message.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Bytes,
    /// It is longer than was asked for, and this is its beginning.
    pub(super) is_cut: bool,
}

/// A message in its gRPC frame.
pub(super) fn framed(encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = vec![0; FRAME_HEADER];
    encode(&mut frame);
    // A message beyond 4 GiB is refused by every server; its length is never reached here.
    let len = u32::try_from(frame.len() - FRAME_HEADER).unwrap_or(u32::MAX);
    if let Some(length) = frame.get_mut(1..FRAME_HEADER) {
        length.copy_from_slice(&len.to_be_bytes());
    }
    frame.into()
}

impl Client {
    /// Calls with `frame`, and reads the whole answer.
    pub(super) async fn unary(&self, rpc: Rpc, frame: Bytes) -> Result<Bytes, CallError> {
        Ok(self.unary_up_to(rpc, frame, MAX_ANSWER).await?.message)
    }

    /// Calls with `frame`, and reads the answer up to `enough` bytes; what is beyond is never in memory here.
    pub(super) async fn unary_up_to(&self, rpc: Rpc, frame: Bytes, enough: usize) -> Result<Answer, CallError> {
        let asked = OnceCell::new();
        let answered = tokio::time::timeout(rpc.timeout, self.attempt(rpc, frame, enough, &asked)).await;
        answered.unwrap_or_else(|_| {
            let timeout = CallError::Timeout {
                rpc: rpc.name,
                after: rpc.timeout,
            };
            // A member that stands still would be found out by a ping, but only later than who waits for this gives up.
            if let Some(connection) = asked.get() {
                self.pool.move_on(connection, &timeout.to_string());
            }
            Err(timeout)
        })
    }

    async fn attempt(
        &self,
        rpc: Rpc,
        frame: Bytes,
        enough: usize,
        asked: &OnceCell<Connection>,
    ) -> Result<Answer, CallError> {
        let (connection, call) = self.open(rpc).await?;
        // It is set once.
        let _ = asked.set(connection.clone());
        let Call {
            response,
            mut request,
            open: _open,
        } = call;
        // A failure to send shows again, with its reason, on the response.
        let _ = request.send_data(frame, true);
        let lost = |error: h2::Error| {
            self.pool.discard_after(&connection, &error);
            CallError::Lost {
                rpc: rpc.name,
                why: error.to_string(),
            }
        };
        let (head, mut body) = response.await.map_err(lost)?.into_parts();
        if head.headers.contains_key("grpc-status") {
            return Err(self.refused(rpc, &connection, &head.headers));
        }
        if head.status != ::http::StatusCode::OK {
            return Err(CallError::Malformed {
                rpc: rpc.name,
                why: format!("HTTP status {}", head.status),
            });
        }
        let (frame, is_cut) = read(&mut body, enough).await.map_err(lost)?;
        if !is_cut {
            let trailers = body.trailers().await.map_err(lost)?.unwrap_or_default();
            if trailers.get("grpc-status").is_none_or(|status| status != "0") {
                return Err(self.refused(rpc, &connection, &trailers));
            }
        }
        let message = unframed(frame, is_cut).map_err(|why| CallError::Malformed {
            rpc: rpc.name,
            why: why.to_owned(),
        })?;
        Ok(Answer { message, is_cut })
    }

    async fn open(&self, rpc: Rpc) -> Result<(Connection, Call), CallError> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            let connection = self.pool.connection_within(self.wait).await?;
            match connection.call(PathAndQuery::from_static(rpc.path), headers()) {
                Ok(call) => return Ok((connection, call)),
                // Nothing was sent on it.
                Err(error) => {
                    self.pool.discard_after(&connection, &error);
                    why = error.to_string();
                }
            }
        }
        Err(CallError::Lost { rpc: rpc.name, why })
    }

    /// The error in `trailers`, heeded where it says that another member should be asked.
    fn refused(&self, rpc: Rpc, connection: &Connection, trailers: &HeaderMap) -> CallError {
        let code = trailers
            .get("grpc-status")
            .and_then(|code| code.to_str().ok()?.parse().ok());
        let Some(code) = code else {
            return CallError::Malformed {
                rpc: rpc.name,
                why: "it has no gRPC status".to_owned(),
            };
        };
        let text = trailers
            .get("grpc-message")
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let text = percent_decoded(text);
        if MEMBER_CANNOT_SERVE.contains(&text.as_str()) {
            self.pool.move_on(connection, &text);
        }
        CallError::Status {
            rpc: rpc.name,
            code,
            text,
        }
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let agent = concat!("etcd-encryption-proxy/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers
}

/// The body, or its first `enough` bytes and that there are more.
async fn read(body: &mut RecvStream, enough: usize) -> Result<(BytesMut, bool), h2::Error> {
    let mut frame = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        // The member can close its half before the window is given back; that is no failure.
        let _ = body.flow_control().release_capacity(data.len());
        frame.extend_from_slice(&data);
        if frame.len() > enough.saturating_add(FRAME_HEADER) && !body.is_end_stream() {
            return Ok((frame, true));
        }
    }
    Ok((frame, false))
}

/// The one message in `frame`.
fn unframed(mut frame: BytesMut, is_cut: bool) -> Result<Bytes, &'static str> {
    let Some((&[flag, a, b, c, d], rest)) = frame.split_first_chunk::<FRAME_HEADER>() else {
        return Err("it ends within its frame");
    };
    if flag != 0 {
        return Err("it is compressed, and nobody asked for that");
    }
    let expected = u32::from_be_bytes([a, b, c, d]) as usize;
    if rest.len() > expected || (rest.len() < expected && !is_cut) {
        return Err("its frame has another length");
    }
    Ok(frame.split_off(FRAME_HEADER).freeze())
}

/// gRPC escapes what is no printable ASCII in a status text.
fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            tail.get(2..).unwrap_or_default()
        } else {
            out.push(*first);
            tail
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_length() {
        assert_eq!(&framed(|out| out.extend_from_slice(b"abc"))[..], b"\0\0\0\0\x03abc");
        assert_eq!(&framed(|_| {})[..], &[0; 5]);
    }

    #[test]
    fn an_answer_must_be_one_whole_plain_message_unless_it_was_cut() {
        let frame = |bytes: &[u8]| BytesMut::from(bytes);
        assert_eq!(unframed(frame(b"\0\0\0\0\x02hi"), false), Ok(Bytes::from_static(b"hi")));
        assert_eq!(unframed(frame(b"\0\0\0\0\x03hi"), true), Ok(Bytes::from_static(b"hi")));
        assert!(unframed(frame(b"\0\0\0\0\x03hi"), false).is_err());
        assert!(unframed(frame(b"\0\0\0\0\x01hi"), true).is_err());
        assert!(unframed(frame(b"\x01\0\0\0\x02hi"), false).is_err());
        assert!(unframed(frame(b"\0\0"), false).is_err());
    }

    #[test]
    fn status_texts_are_unescaped() {
        assert_eq!(percent_decoded(b"a%20b%"), "a b%");
        assert_eq!(percent_decoded(b"%e2%80%A6%zz"), "\u{2026}%zz");
    }
}
