//! Range, Put, DeleteRange, Txn and `LeaseTimeToLive`: one message each way, sealed going up, opened coming down.

use h2::RecvStream;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, header};

use super::fault::Fault;
use super::frame::{Frame, FrameError, Frames};
use super::open;
use super::responder::Responder;
use super::upstream::{self, Answer};
use super::worker::{MAX_RESPONSE, Worker};
use crate::rewrite::{UnaryRpc, lease_time_to_live_response, unary_request};
use crate::wire::Spliced;

/// Serves one call whose values are sealed and opened.
pub(super) async fn serve(
    worker: &Worker,
    rpc: UnaryRpc,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let frame = only_message(worker, &request.headers, body).await?;
    // One keyring seals the whole request.
    let sealed = unary_request(rpc, frame.message(), &worker.context(&worker.keyring.load()))
        .map_err(|refusal| Fault::refused(&refusal))?;
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
    let path = PathAndQuery::from_static(path_of(sealed.send_as));
    let answer = ask(worker, &path, request.headers, frame, respond).await?;
    let Some((head, message, trailers)) = receive(worker, answer, respond).await? else {
        return Ok(());
    };
    let job = sealed
        .response
        .open(message)
        .map_err(|failure| Fault::refused_answer(&failure))?;
    let message = open::run(worker, job).await?;
    finish(head, message, trailers, respond).await
}

/// Serves `Lease.LeaseTimeToLive`, leaving the proxy's own keys out of the answer.
pub(super) async fn lease_time_to_live(
    worker: &Worker,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let frame = only_message(worker, &request.headers, body).await?;
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    let answer = ask(worker, &path, request.headers, frame, respond).await?;
    let Some((head, message, trailers)) = receive(worker, answer, respond).await? else {
        return Ok(());
    };
    let message = lease_time_to_live_response(message, &worker.config.state_prefix)
        .map_err(|failure| Fault::refused_answer(&failure))?;
    finish(head, message, trailers, respond).await
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
fn path_of(rpc: UnaryRpc) -> &'static str {
    match rpc {
        UnaryRpc::Range => "/etcdserverpb.KV/Range",
        UnaryRpc::Put => "/etcdserverpb.KV/Put",
        UnaryRpc::DeleteRange => "/etcdserverpb.KV/DeleteRange",
        UnaryRpc::Txn => "/etcdserverpb.KV/Txn",
    }
}

/// The one message of a unary request.
pub(super) async fn only_message(worker: &Worker, headers: &HeaderMap, body: RecvStream) -> Result<Frame, Fault> {
    let mut frames = Frames::new(body, worker.max_request(), headers.get("grpc-encoding"));
    frames.only().await.map_err(|error| Fault::request(&error))
}

async fn ask(
    worker: &Worker,
    path: &PathAndQuery,
    headers: HeaderMap,
    frame: Frame,
    respond: &mut Responder,
) -> Result<Answer, Fault> {
    let call = upstream::unary(&worker.calls, path, upstream::uncompressed(headers), frame.into_bytes());
    respond.unless_gone(call).await
}

/// The parts of a whole answer.
type Received = (http::Response<()>, bytes::Bytes, HeaderMap);

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
        upstream::heed_status(&worker.calls, &connection, head.headers());
        respond.headers(head, true)?;
        return Ok(None);
    }
    let mut frames = Frames::new(body, MAX_RESPONSE, head.headers().get("grpc-encoding"));
    let reading = async {
        let message = frames.next().await?;
        if message.is_some() && frames.next().await?.is_some() {
            return Err(FrameError::Surplus);
        }
        Ok((message, frames.trailers().await?.unwrap_or_default()))
    };
    let reading = async { reading.await.map_err(|error| Fault::response(&error)) };
    let (message, trailers) = respond.unless_gone(reading).await?;
    upstream::heed_status(&worker.calls, &connection, &trailers);
    let Some(frame) = message else {
        respond.headers(head, false)?;
        respond.trailers(trailers)?;
        return Ok(None);
    };
    Ok(Some((head, frame.into_message(), trailers)))
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
