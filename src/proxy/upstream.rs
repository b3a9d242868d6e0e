//! Puts a call to etcd: finds a connection, sends, and sends again only what no member has looked at.

use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, header};

use super::fault::{Fault, is_unprocessed};
use crate::etcd::{Call, Connection, OpenCall, Pool};

/// How often a call may be moved to another connection before its failure is told. Each needs a connection that was
/// closed in good order at just that moment, so more than a few in a row mean something else.
const ATTEMPTS: usize = 4;

/// Answers of etcd after which another member should be asked. Source: etcd's public `rpctypes` error table.
const MEMBER_CANNOT_SERVE: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: server stopped",
    "etcdserver: rpc not supported for learner",
];

/// A unary call's answer under way.
pub(super) struct Answer {
    pub(super) response: Response<RecvStream>,
    pub(super) connection: Connection,
    /// Keeps the call counted on its connection.
    pub(super) _open: OpenCall,
}

/// Sends a call with its only message and waits for the answer's headers. `None` if it took so long to find a connection that
/// the message may not be sent any more, as `may_send` says; nothing was sent then.
pub(super) async fn unary(
    pool: &Pool,
    path: &PathAndQuery,
    headers: &HeaderMap,
    frame: Bytes,
    may_send: impl Fn() -> bool,
) -> Result<Option<Answer>, Fault> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (
            connection,
            Call {
                response,
                mut request,
                open,
            },
        ) = match open(pool, path, headers).await? {
            _ if !may_send() => return Ok(None),
            opened => opened,
        };
        // A failure to send shows again, with its reason, on the response.
        let _ = request.send_data(frame.clone(), true);
        match response.await {
            Ok(response) => {
                return Ok(Some(Answer {
                    response,
                    connection,
                    _open: open,
                }));
            }
            Err(error) => {
                pool.discard_after(&connection, &error);
                if !is_unprocessed(&error) {
                    return Err(Fault::upstream(&error));
                }
                last = Some(error);
            }
        }
    }
    Err(last.as_ref().map_or(Fault::Gone, Fault::upstream))
}

/// Opens a call whose messages follow.
pub(super) async fn open(pool: &Pool, path: &PathAndQuery, headers: &HeaderMap) -> Result<(Connection, Call), Fault> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let connection = pool.connection_within(patience(headers)).await?;
        match connection.call(path.clone(), headers.clone()) {
            Ok(call) => return Ok((connection, call)),
            // Nothing was sent on it.
            Err(error) => {
                pool.discard_after(&connection, &error);
                last = Some(error);
            }
        }
    }
    Err(last.as_ref().map_or(Fault::Gone, Fault::upstream))
}

/// How long a call may wait for a member: as long as its caller waits for the answer.
fn patience(headers: &HeaderMap) -> Duration {
    let timeout = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    timeout.and_then(parse_timeout).unwrap_or(Duration::MAX)
}

/// A timeout as gRPC writes it: up to eight digits and a unit. Source: the public gRPC-over-HTTP/2 specification, "Timeout".
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.checked_mul(3600)?),
        "M" => Duration::from_secs(count.checked_mul(60)?),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Opens a call that concerns one member: it is not held until there is another.
pub(super) async fn open_at_once(
    pool: &Pool,
    path: &PathAndQuery,
    headers: &HeaderMap,
) -> Result<(Connection, Call), Fault> {
    let connection = pool.connection_within(Duration::ZERO).await?;
    connection
        .call(path.clone(), headers.clone())
        .map(|call| (connection.clone(), call))
        .map_err(|error| {
            pool.discard_after(&connection, &error);
            Fault::upstream(&error)
        })
}

/// Notes what an answer's status says about the member that gave it.
pub(super) fn heed_status(pool: &Pool, connection: &Connection, trailers: &HeaderMap) {
    let is_unavailable = trailers.get("grpc-status").is_some_and(|status| status == "14");
    if !is_unavailable {
        return;
    }
    if let Some(text) = trailers.get("grpc-message").and_then(|text| text.to_str().ok())
        && MEMBER_CANNOT_SERVE.contains(&text)
    {
        pool.move_on(connection, text);
    }
}

/// Request headers for a call whose messages the proxy reads and changes: answers must come uncompressed, which is agreed
/// on hop by hop.
pub(super) fn for_changed_messages(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("grpc-accept-encoding");
    // What compresses the messages themselves is refused, so nothing that goes up is compressed. Named all the same, as gRPC's
    // C core does, etcd would take it for a wish and answer compressed.
    headers.remove("grpc-encoding");
    // Of the message as the client sent it; sealing makes it longer, and gRPC does not use it.
    headers.remove(header::CONTENT_LENGTH);
    headers
}

/// Takes from an answer's headers what was agreed on with etcd alone: its messages go on uncompressed, and a client's have to come
/// uncompressed, whatever etcd takes.
pub(super) fn of_changed_messages(headers: &mut HeaderMap) {
    headers.remove("grpc-encoding");
    headers.remove("grpc-accept-encoding");
}

/// Ends the request half of a call. What goes wrong shows on the response.
pub(super) fn half_close(request: &mut SendStream<Bytes>) {
    let _ = request.send_data(Bytes::new(), true);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_call_waits_no_longer_than_its_caller() {
        for (text, expected) in [
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("2999m", Some(Duration::from_millis(2999))),
            ("3S", Some(Duration::from_secs(3))),
            ("2M", Some(Duration::from_secs(120))),
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("+1S", None),
            ("123456789S", None),
            ("1s", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_that_a_changed_message_makes_untrue_are_not_sent_on() {
        let mut headers = HeaderMap::new();
        for name in [
            "content-length",
            "grpc-accept-encoding",
            "grpc-encoding",
            "grpc-timeout",
            "token",
        ] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        let sent = for_changed_messages(headers);
        let names: Vec<_> = sent.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["grpc-timeout", "token"]);
    }
}
