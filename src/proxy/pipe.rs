//! Calls that carry no value: bodies pass as they come, in both directions at once, message boundaries and all.

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::request::Parts;

use super::fault::Fault;
use super::frame::{Frame, Frames};
use super::responder::{self, Responder};
use super::upstream;
use super::worker::{STREAM_WINDOW, Worker};
use crate::etcd::Call;
use crate::rewrite::Refusal;

/// When a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By itself, soon or late; a proxy that drains waits for it.
    ByItself,
    /// The same, and before it begins where no member can be reached: it concerns one of them.
    AtOnce,
    /// Perhaps never, so a proxy that drains ends it.
    WhenDraining,
}

/// Pipes a whole call.
pub(super) async fn serve(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
    ends: Ends,
) -> Result<(), Fault> {
    pipe(worker, request, Upload::Body(body), respond, ends).await
}

/// Pipes a call whose only message has been read.
pub(super) async fn message(
    worker: &Worker,
    request: Box<Parts>,
    frame: Frame,
    respond: &mut Responder,
    ends: Ends,
) -> Result<(), Fault> {
    pipe(worker, request, Upload::Message(frame.into_bytes()), respond, ends).await
}

/// Pipes a call of many messages, each of which is checked before it goes up.
pub(super) async fn messages(
    worker: &Worker,
    request: Box<Parts>,
    (frames, check): (Frames, Check),
    respond: &mut Responder,
) -> Result<(), Fault> {
    let upload = Upload::Messages(frames, check);
    pipe(worker, request, upload, respond, Ends::WhenDraining).await
}

/// Says whether a message may go up.
pub(super) type Check = fn(&[u8]) -> Result<(), Refusal>;

/// What goes up.
enum Upload {
    Body(RecvStream),
    Message(Bytes),
    Messages(Frames, Check),
}

async fn pipe(
    worker: &Worker,
    request: Box<Parts>,
    upload: Upload,
    respond: &mut Responder,
    ends: Ends,
) -> Result<(), Fault> {
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    respond.lasts(STREAM_WINDOW);
    let pool = &worker.streams;
    let (
        connection,
        Call {
            response,
            request: mut up,
            open: _open,
        },
    ) = match ends {
        Ends::AtOnce => upstream::open_at_once(pool, &path, &request.headers).await?,
        Ends::ByItself | Ends::WhenDraining => {
            let opened = respond.unless_gone(upstream::open(pool, &path, &request.headers));
            tokio::select! {
                opened = opened => opened?,
                () = draining(worker, ends) => return Err(Fault::stopping()),
            }
        }
    };
    let going_up = async {
        match upload {
            Upload::Body(body) => copy_up(body, &mut up).await?,
            // A failure to send shows again, with its reason, on the response.
            Upload::Message(frame) => drop(up.send_data(frame, false)),
            Upload::Messages(frames, check) => copy_checked(frames, check, &mut up).await?,
        }
        upstream::half_close(&mut up);
        // The call ends when its answer does.
        std::future::pending::<Result<(), Fault>>().await
    };
    let coming_down = async {
        let answer = async { response.await.map_err(|error| Fault::upstream(&error)) };
        let (parts, mut body) = respond.unless_gone(answer).await?.into_parts();
        let head = http::Response::from_parts(parts, ());
        if body.is_end_stream() {
            upstream::heed_status(pool, &connection, head.headers());
            return respond.headers(head, true);
        }
        respond.headers(head, false)?;
        loop {
            let next = async { body.data().await.transpose().map_err(|error| Fault::upstream(&error)) };
            let Some(data) = respond.unless_gone(next).await? else {
                break;
            };
            let taken = data.len();
            respond.bytes(data).await?;
            // Given back only now: a client that reads slowly holds etcd, not this process's memory.
            let _ = body.flow_control().release_capacity(taken);
        }
        let trailers = body
            .trailers()
            .await
            .map_err(|error| Fault::upstream(&error))?
            .unwrap_or_default();
        upstream::heed_status(pool, &connection, &trailers);
        respond.trailers(trailers)
    };
    tokio::select! {
        ended = coming_down => ended,
        ended = going_up => ended,
        () = draining(worker, ends) => Err(Fault::stopping()),
    }
}

/// Resolves when the proxy ends the call.
async fn draining(worker: &Worker, ends: Ends) {
    match ends {
        Ends::ByItself | Ends::AtOnce => std::future::pending().await,
        Ends::WhenDraining => worker.draining().await,
    }
}

async fn copy_checked(mut frames: Frames, check: Check, up: &mut SendStream<Bytes>) -> Result<(), Fault> {
    while let Some(frame) = frames.next().await.map_err(|error| Fault::request(&error))? {
        check(&frame.message()).map_err(|refusal| Fault::refused(&refusal))?;
        if responder::send(up, frame.into_bytes()).await.is_err() {
            // etcd wants no more of it; its answer says why.
            return Ok(());
        }
    }
    Ok(())
}

async fn copy_up(mut body: RecvStream, up: &mut SendStream<Bytes>) -> Result<(), Fault> {
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Fault::Gone)?;
        let taken = data.len();
        if responder::send(up, data).await.is_err() {
            // etcd wants no more of it; its answer says why.
            return Ok(());
        }
        let _ = body.flow_control().release_capacity(taken);
    }
    Ok(())
}
