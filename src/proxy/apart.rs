//! A range around the proxy's own records in a store that takes no transaction of two ranges (kine): asked for in parts.

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;

use super::fault::Fault;
use super::frame::Frame;
use super::responder::Responder;
use super::unary::{Answered, Received, ask, passed_on, receive};
use super::worker::Worker;
use crate::rewrite::{ApartRange, OpenFailure, joined};
use crate::wire::Spliced;

/// Source: kine's `pkg/server/types.go`.
const UNSUPPORTED: &[u8] = b"etcdserver: unsupported operations in txn request";

/// Whether a store has said that it takes no such transaction.
pub(super) fn is_unsupported(trailers: &HeaderMap) -> bool {
    let says = |name: &str, what: &[u8]| trailers.get(name).is_some_and(|value| value.as_bytes() == what);
    says("grpc-status", b"3") && says("grpc-message", UNSUPPORTED)
}

/// Asks for all parts, and makes of them what such a transaction answers; `None` if the store has answered one of them with an error,
/// which has been passed on.
pub(super) async fn ask_apart(
    worker: &Worker,
    parts: &ApartRange,
    path: &PathAndQuery,
    headers: &HeaderMap,
    respond: &mut Responder,
) -> Result<Option<Received>, Fault> {
    let Some(mut received) = one(worker, parts.first(), path, headers, respond).await? else {
        return Ok(None);
    };
    let refused = |failure: OpenFailure| Fault::refused_answer(&failure);
    let mut others = Vec::new();
    for request in parts.others(&received.message).map_err(refused)? {
        let Some(answer) = one(worker, request, path, headers, respond).await? else {
            return Ok(None);
        };
        others.push(answer);
    }
    let [second, all, own] = &others[..] else {
        return Err(refused(OpenFailure::Mismatch));
    };
    received.message = joined(&received.message, [&second.message, &all.message, &own.message]).map_err(refused)?;
    Ok(Some(received))
}

async fn one(
    worker: &Worker,
    request: Bytes,
    path: &PathAndQuery,
    headers: &HeaderMap,
    respond: &mut Responder,
) -> Result<Option<Received>, Fault> {
    let frame = Frame::of_parts(&[], Spliced::untouched(request), &[]);
    let Some(answer) = ask(worker, path, headers, frame, || true, respond).await? else {
        return Err(Fault::Gone);
    };
    match receive(worker, answer, respond).await? {
        Answered::Error(head, trailers) => passed_on(head, trailers, respond).map(|()| None),
        Answered::Message(received) => Ok(Some(received)),
    }
}
