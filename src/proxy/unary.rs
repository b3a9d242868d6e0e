//! Range, Put, DeleteRange, Txn and `LeaseTimeToLive`: one message each way, sealed going up, opened coming down.

use std::pin::pin;
use std::sync::Arc;

use h2::RecvStream;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, header};

use super::budget::{Budget, Share};
use super::fault::Fault;
use super::frame::{Frame, FrameError, Frames};
use super::open;
use super::responder::Responder;
use super::upstream::{self, Answer};
use super::worker::Worker;
use crate::rewrite::{UnaryRequest, UnaryRpc, lease_time_to_live_response, unary_request};
use crate::value::Deks;
use crate::wire::Spliced;

/// Serves one call whose values are sealed and opened.
pub(super) async fn serve(
    worker: &Worker,
    rpc: UnaryRpc,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    respond.clock.request_read();
    let sealed = seal(worker, rpc, &frame, respond).await?;
    if sealed.response.seals_twice() {
        warn_once_of_double_sealing();
    }
    let frame = frame.with(sealed.message);
    // Sealing may have made it longer than etcd takes.
    let length = frame.message().len();
    if length > worker.max_request() {
        return Err(Fault::request(&FrameError::TooLarge {
            length,
            limit: worker.max_request(),
        }));
    }
    // Right before it is sent: a process that slept meanwhile may have been given up by the others.
    if sealed.response.seals() && !worker.config.tenure.holds() {
        return Err(Fault::unknown_to_others());
    }
    let path = path_of(sealed.send_as);
    respond.clock.asked();
    let answer = ask(worker, &path, request.headers, frame, respond).await?;
    drop(share);
    let Some(received) = receive(worker, answer, respond).await? else {
        return Ok(());
    };
    let job = sealed
        .response
        .open(received.message)
        .map_err(|failure| Fault::refused_answer(&failure))?;
    let message = open::run(worker, job, respond).await?;
    respond.clock.answer_ready();
    finish(received.head, message, received.trailers, respond).await
}

/// What etcd is to get for the client's message. Waits for a KMS only where one has to be asked for each write (v1).
async fn seal(worker: &Worker, rpc: UnaryRpc, frame: &Frame, respond: &mut Responder) -> Result<UnaryRequest, Fault> {
    let mut deks = Deks::default();
    // One keyring seals the whole request. It is kept only where there is something to wait for: its count of holders is
    // shared by all cores.
    let in_use = worker.keyring.load();
    let mut attempt = unary_request(rpc, frame.message(), &worker.context(&in_use, &deks));
    let keyring = match &attempt {
        Err(refusal) if refusal.is_pending() => Arc::clone(&in_use),
        _ => return attempt.map_err(|refusal| Fault::refused(&refusal)),
    };
    drop(in_use);
    loop {
        match attempt {
            Err(refusal) if refusal.is_pending() => {}
            done => return done.map_err(|refusal| Fault::refused(&refusal)),
        }
        // On the heap: it is large and rarely needed, and every call would have room for it.
        let fetch = Box::pin(async {
            deks.fetch().await;
            Ok(())
        });
        respond.unless_gone(fetch).await?;
        attempt = unary_request(rpc, frame.message(), &worker.context(&keyring, &deks));
    }
}

/// Serves `Lease.LeaseTimeToLive`, leaving the proxy's own keys out of the answer.
pub(super) async fn lease_time_to_live(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    respond.clock.request_read();
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    respond.clock.asked();
    let answer = ask(worker, &path, request.headers, frame, respond).await?;
    drop(share);
    let Some(received) = receive(worker, answer, respond).await? else {
        return Ok(());
    };
    let message = lease_time_to_live_response(received.message, &worker.config.state_prefix)
        .map_err(|failure| Fault::refused_answer(&failure))?;
    finish(received.head, message, received.trailers, respond).await
}

/// Tells the operator, once, that somebody in front of the proxy encrypts as well. It works, both ways, as long as both
/// stay: what is stored is sealed twice, and neither kube-apiserver nor the proxy could read it alone.
fn warn_once_of_double_sealing() {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            "a client writes values that are sealed already: does kube-apiserver have --encryption-provider-config too? \
             Values are now sealed twice and can't be read without this proxy"
        );
    });
}

/// Where a call is sent: not always where the client sent it.
fn path_of(rpc: UnaryRpc) -> PathAndQuery {
    // Parsed when the program is compiled.
    static PATHS: [PathAndQuery; 4] = [
        PathAndQuery::from_static("/etcdserverpb.KV/Range"),
        PathAndQuery::from_static("/etcdserverpb.KV/Put"),
        PathAndQuery::from_static("/etcdserverpb.KV/DeleteRange"),
        PathAndQuery::from_static("/etcdserverpb.KV/Txn"),
    ];
    let [range, put, delete_range, txn] = &PATHS;
    match rpc {
        UnaryRpc::Range => range,
        UnaryRpc::Put => put,
        UnaryRpc::DeleteRange => delete_range,
        UnaryRpc::Txn => txn,
    }
    .clone()
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

async fn ask(
    worker: &Worker,
    path: &PathAndQuery,
    headers: HeaderMap,
    frame: Frame,
    respond: &mut Responder,
) -> Result<Answer, Fault> {
    // Pinned here: handed on by value it would be in the call's state once for each function that it is handed to.
    let call = pin!(upstream::unary(
        &worker.calls,
        path,
        upstream::for_changed_messages(headers),
        frame.into_bytes(),
    ));
    respond.unless_gone(call).await
}

/// A whole answer.
struct Received {
    head: http::Response<()>,
    message: bytes::Bytes,
    trailers: HeaderMap,
    /// What it takes of the client's budget until it is sent.
    _share: Option<Share>,
}

/// Reads a whole answer. `None` if it was an error without a message, which has been passed on.
async fn receive(worker: &Worker, answer: Answer, respond: &mut Responder) -> Result<Option<Received>, Fault> {
    let Answer {
        response,
        connection,
        _open,
    } = answer;
    let (parts, body) = response.into_parts();
    let head = http::Response::from_parts(parts, ());
    if body.is_end_stream() {
        respond.clock.answered();
        upstream::heed_status(&worker.calls, &connection, head.headers());
        respond.headers(head, true)?;
        return Ok(None);
    }
    let mut frames = Frames::of_answer(body, head.headers(), respond.budget());
    let reading = pin!(whole(&mut frames));
    let (message, share, trailers) = respond.unless_gone(reading).await?;
    respond.clock.answered();
    upstream::heed_status(&worker.calls, &connection, &trailers);
    let Some(frame) = message else {
        respond.headers(head, false)?;
        respond.trailers(trailers)?;
        return Ok(None);
    };
    Ok(Some(Received {
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

async fn finish(
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
