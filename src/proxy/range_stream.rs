//! `KV.RangeStream`: one request, an answer in chunks, each opened as it comes and sent before the next is taken.

use std::rc::Rc;

use h2::RecvStream;
use http::request::Parts;

use super::fault::Fault;
use super::frame::Frames;
use super::open;
use super::responder::Responder;
use super::unary::{only_message, under_way};
use super::upstream;
use super::worker::Worker;
use crate::etcd::{Call, Client, StoreKind};
use crate::rewrite::{Refusal, range_stream_request};
use crate::value::Deks;

/// kine (0.17) streams one key more than the limit wherever a message ends at it, and says that there are no more behind it.
/// Clients that hear UNIMPLEMENTED ask for a Range.
async fn refuse_of_kine(worker: &Worker, respond: &mut Responder) -> Result<(), Fault> {
    let asked = async {
        let kind = Client::new(Rc::clone(&worker.calls)).kind().await;
        kind.map_err(|error| Fault::UpstreamLost(error.to_string()))
    };
    match respond.unless_gone(asked).await? {
        StoreKind::Etcd => Ok(()),
        StoreKind::Kine => Err(Fault::refused(&Refusal::LimitedStream)),
    }
}

/// Serves one streamed list.
pub(super) async fn serve(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    // Only checked: it goes on as it came.
    let checked = range_stream_request(
        frame.message(),
        &worker.context(&worker.keyring.load(), &Deks::default()),
    )
    .map_err(|refusal| Fault::refused(&refusal))?;
    if checked.is_limited {
        Box::pin(refuse_of_kine(worker, respond)).await?;
    }
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    let under_way = under_way(respond).await?;
    let pool = &worker.streams;
    let headers = upstream::for_changed_messages(request.headers);
    let (
        connection,
        Call {
            response,
            request: mut up,
            open: _open,
        },
    ) = respond.unless_gone(upstream::open(pool, &path, &headers)).await?;
    // A failure to send shows again, with its reason, on the response.
    let _ = up.send_data(frame.into_bytes(), true);
    let answer = async { response.await.map_err(|error| Fault::upstream(&error)) };
    let (parts, body) = respond.unless_gone(answer).await?.into_parts();
    drop(share);
    let mut head = http::Response::from_parts(parts, ());
    if body.is_end_stream() {
        upstream::heed_status(pool, &connection, head.headers());
        return respond.headers(head, true);
    }
    let mut frames = Frames::of_answer(body, head.headers(), respond.budget());
    upstream::of_changed_messages(head.headers_mut());
    respond.headers(head, false)?;
    loop {
        let next = async { frames.next().await.map_err(|error| Fault::response(&error)) };
        let Some(frame) = respond.unless_gone(next).await? else {
            break;
        };
        let job = checked
            .responses
            .open(frame.into_message())
            .map_err(|failure| Fault::refused_answer(&failure))?;
        let message = open::run(worker, job, respond).await?;
        respond.message(message).await?;
    }
    let trailers = frames
        .trailers()
        .await
        .map_err(|error| Fault::response(&error))?
        .unwrap_or_default();
    upstream::heed_status(pool, &connection, &trailers);
    drop(under_way);
    respond.trailers(trailers)
}
