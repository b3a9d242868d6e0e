//! Calls of one message each way: read, sent, the whole answer received and sent on. And `LeaseTimeToLive` and `MemberList`, which
//! are no more than that. And one that is answered here.

use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, header};

use super::budget::{Budget, Share, UnderWay};
use super::fault::Fault;
use super::frame::{Frame, FrameError, Frames};
use super::responder::Responder;
use super::upstream::{self, Answer};
use super::worker::Worker;
use crate::etcd::IDENTIFY_VERSION;
use crate::rewrite::{OpenFailure, lease_time_to_live_response, member_list_response};
use crate::wire::{Spliced, put_bytes};

/// Serves `Lease.LeaseTimeToLive`, leaving the proxy's own keys out of the answer.
pub(super) async fn lease_time_to_live(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let change = |message| lease_time_to_live_response(message, &worker.config.state_prefix);
    changed(worker, change, request, body, respond).await
}

/// Serves `Cluster.MemberList` with the proxies' addresses in place of the members'.
pub(super) async fn member_list(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let change = |message| member_list_response(message, &worker.config.advertised);
    changed(worker, change, request, body, respond).await
}

/// Says that this is a proxy, and which.
pub(super) async fn identify(respond: &mut Responder) -> Result<(), Fault> {
    let mut message = Vec::new();
    put_bytes(&mut message, IDENTIFY_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
    let mut head = http::Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(header::CONTENT_TYPE, grpc);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    finish(head, Spliced::untouched(message.into()), trailers, respond).await
}

/// Sends a request on as it is, and its answer as `change` makes it.
async fn changed(
    worker: &Worker,
    change: impl FnOnce(Bytes) -> Result<Spliced, OpenFailure>,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    respond.clock.request_read();
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    let _under_way = under_way(respond).await?;
    respond.clock.asked();
    let headers = upstream::for_changed_messages(request.headers);
    let Some(answer) = ask(worker, &path, &headers, frame, || true, respond).await? else {
        return Err(Fault::Gone);
    };
    drop(share);
    let received = match receive(worker, answer, respond).await? {
        Answered::Error(head, trailers) => return passed_on(head, trailers, respond),
        Answered::Message(received) => received,
    };
    let message = change(received.message).map_err(|failure| Fault::refused_answer(&failure))?;
    finish(received.head, message, received.trailers, respond).await
}

/// The one message of a unary request, and what it takes of the client's budget.
///
/// Like etcd's own server this does not wait for the client to end its half: once the message is there, nothing that comes
/// later can change it. What came along with it is no part of any request, and so the request is not what it seems.
pub(super) async fn only_message(
    worker: &Worker,
    headers: &HeaderMap,
    body: RecvStream,
    budget: &Budget,
) -> Result<(Frame, Option<Share>), Fault> {
    let mut frames = Frames::of_request(body, headers, worker.max_request(), budget);
    match frames.next().await {
        Ok(Some(frame)) if frames.is_at_a_boundary() => Ok((frame, frames.share())),
        Ok(Some(_)) => Err(Fault::request(&FrameError::Surplus)),
        Ok(None) => Err(Fault::request(&FrameError::Missing)),
        Err(error) => Err(Fault::request(&error)),
    }
}

/// Waits until the client may have one more answer under way. Held until the answer has been sent.
pub(super) async fn under_way(respond: &mut Responder) -> Result<UnderWay, Fault> {
    if let Some(under_way) = respond.budget().try_under_way() {
        return Ok(under_way);
    }
    let budget = respond.budget().clone();
    // On the heap: it is rare, and every call would have room for it.
    let waiting = Box::pin(async move { Ok(budget.under_way().await) });
    respond.unless_gone(waiting).await
}

pub(super) async fn ask(
    worker: &Worker,
    path: &PathAndQuery,
    headers: &HeaderMap,
    frame: Frame,
    may_send: impl Fn() -> bool,
    respond: &mut Responder,
) -> Result<Option<Answer>, Fault> {
    // Pinned here: handed on by value it would be in the call's state once for each function that it is handed to.
    let call = pin!(upstream::unary(
        &worker.calls,
        path,
        headers,
        frame.into_bytes(),
        may_send,
    ));
    respond.unless_gone(call).await
}

/// A whole answer.
pub(super) struct Received {
    pub(super) head: http::Response<()>,
    pub(super) message: Bytes,
    pub(super) trailers: HeaderMap,
    /// What it takes of the client's budget until it is sent.
    _share: Option<Share>,
}

/// What came back.
pub(super) enum Answered {
    /// An error without a message, with the trailers where its headers do not end it.
    Error(http::Response<()>, Option<HeaderMap>),
    Message(Received),
}

/// Reads a whole answer.
pub(super) async fn receive(worker: &Worker, answer: Answer, respond: &mut Responder) -> Result<Answered, Fault> {
    let Answer {
        response,
        connection,
        _open,
    } = answer;
    let (parts, body) = response.into_parts();
    let mut head = http::Response::from_parts(parts, ());
    if body.is_end_stream() {
        respond.clock.answered();
        upstream::heed_status(&worker.calls, &connection, head.headers());
        return Ok(Answered::Error(head, None));
    }
    let mut frames = Frames::of_answer(body, head.headers(), respond.budget());
    upstream::of_changed_messages(head.headers_mut());
    let reading = pin!(whole(&mut frames));
    let (message, share, trailers) = respond.unless_gone(reading).await?;
    respond.clock.answered();
    upstream::heed_status(&worker.calls, &connection, &trailers);
    let Some(frame) = message else {
        return Ok(Answered::Error(head, Some(trailers)));
    };
    Ok(Answered::Message(Received {
        head,
        message: frame.into_message(),
        trailers,
        _share: share,
    }))
}

/// The one message of an answer, if it has one, what that takes of the budget, and the trailers.
async fn whole(frames: &mut Frames) -> Result<(Option<Frame>, Option<Share>, HeaderMap), Fault> {
    let read = async {
        let message = frames.next().await?;
        let share = frames.share();
        if message.is_some() && frames.next().await?.is_some() {
            return Err(FrameError::Surplus);
        }
        Ok((message, share, frames.trailers().await?.unwrap_or_default()))
    };
    read.await.map_err(|error| Fault::response(&error))
}

pub(super) async fn finish(
    mut head: http::Response<()>,
    message: Spliced,
    trailers: HeaderMap,
    respond: &mut Responder,
) -> Result<(), Fault> {
    // Opening changes it, and gRPC does not use it.
    head.headers_mut().remove(header::CONTENT_LENGTH);
    respond.headers(head, false)?;
    respond.message(message).await?;
    respond.trailers(trailers)
}

/// Passes an error of etcd's on.
pub(super) fn passed_on(
    head: http::Response<()>,
    trailers: Option<HeaderMap>,
    respond: &mut Responder,
) -> Result<(), Fault> {
    respond.headers(head, trailers.is_none())?;
    trailers.map_or(Ok(()), |trailers| respond.trailers(trailers))
}
