//! `Watch.Watch`: one client stream is one stream to etcd. Nothing is merged, cached or quietly reopened, and responses
//! keep their order, because each is opened and sent before the next is taken.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use rand::RngExt;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::frame::Frames;
use super::meters::Level;
use super::responder::{self, Responder};
use super::worker::{STREAM_WINDOW, Worker};
use super::{open, upstream};
use crate::etcd::{Call, Connection};
use crate::rewrite::WatchSession;
use crate::value::Deks;

/// Pause before a client is told that its watch stream is lost, drawn between these: etcd's clients up to 3.5.5 open the
/// next one at once, tens of thousands of times a second while etcd stays away.
const HOLD: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(250);

/// Serves one client stream, with all the watches on it.
pub(super) async fn serve(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    respond.lasts(STREAM_WINDOW);
    let outcome = stream(worker, request, body, respond).await;
    if let Err(Fault::UpstreamLost(_)) = &outcome {
        let hold = tokio::time::sleep(rand::rng().random_range(HOLD));
        let until_reachable = async {
            hold.await;
            // The client would come back at once: let it find a member when it does.
            let _ = worker.streams.connection().await;
        };
        tokio::select! {
            () = until_reachable => {}
            () = worker.draining() => {}
            () = respond.gone() => return Err(Fault::Gone),
        }
    }
    outcome
}

async fn stream(worker: &Worker, request: Box<Parts>, body: RecvStream, respond: &mut Responder) -> Result<(), Fault> {
    let Some(path) = request.uri.into_parts().path_and_query else {
        return Err(Fault::Gone);
    };
    let requests = Frames::of_request(body, &request.headers, worker.max_request(), respond.budget());
    let headers = upstream::for_changed_messages(request.headers);
    let opened = respond.unless_gone(upstream::open(&worker.streams, &path, &headers));
    let (
        connection,
        Call {
            response,
            request: mut up,
            open: _open,
        },
    ) = tokio::select! {
        opened = opened => opened?,
        () = worker.draining() => return Err(Fault::stopping()),
    };
    let session = RefCell::new(WatchSession::default());
    let (tell, told) = oneshot::channel();
    let going_up = async {
        let fault = tokio::select! {
            fault = going_up(worker, &session, requests, &mut up) => fault,
            () = worker.draining() => Fault::stopping(),
        };
        // Fails only when the other direction has ended, and the call with it.
        let _ = tell.send(fault);
        std::future::pending().await
    };
    tokio::select! {
        ended = coming_down(worker, &session, response, &connection, told, respond) => ended,
        ended = going_up => ended,
    }
}

/// Checks and forwards what the client asks for. Resolves only if that fails.
async fn going_up(
    worker: &Worker,
    session: &RefCell<WatchSession>,
    requests: Frames,
    up: &mut SendStream<Bytes>,
) -> Fault {
    match forward(worker, session, requests, up).await {
        Err(fault) => fault,
        // etcd ends the call when it sees fit.
        Ok(()) => std::future::pending().await,
    }
}

async fn forward(
    worker: &Worker,
    session: &RefCell<WatchSession>,
    mut requests: Frames,
    up: &mut SendStream<Bytes>,
) -> Result<(), Fault> {
    while let Some(frame) = requests.next().await.map_err(|error| Fault::request(&error))? {
        // Checked; it goes on as it came, but for a watch without a key.
        let sent = session
            .borrow_mut()
            .request(
                frame.message(),
                &worker.context(&worker.keyring.load(), &Deks::default()),
            )
            .map_err(|refusal| Fault::refused(&refusal))?;
        if responder::send(up, frame.with(sent).into_bytes()).await.is_err() {
            // etcd wants no more of it; its answer says why.
            return Ok(());
        }
    }
    upstream::half_close(up);
    Ok(())
}

/// Does `work` unless the stream is to end before it is done.
///
/// Only what comes between two messages is done so. Within one nothing could be said but a reset, which reads as INTERNAL,
/// and on that etcd's client opens the stream again at once and for ever.
async fn unless_told<T>(
    told: &mut oneshot::Receiver<Fault>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        fault = told => Err(fault.unwrap_or(Fault::Gone)),
        done = work => done,
    }
}

async fn coming_down(
    worker: &Worker,
    session: &RefCell<WatchSession>,
    response: ResponseFuture,
    connection: &Connection,
    mut told: oneshot::Receiver<Fault>,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let answer = async { response.await.map_err(|error| Fault::upstream(&error)) };
    let (parts, body) = unless_told(&mut told, respond.unless_gone(answer)).await?.into_parts();
    let mut head = http::Response::from_parts(parts, ());
    if body.is_end_stream() {
        upstream::heed_status(&worker.streams, connection, head.headers());
        return respond.headers(head, true);
    }
    let mut open_watches = Level::none(worker.meters.open_watches.clone());
    let mut frames = Frames::of_events(body, head.headers(), respond.budget());
    upstream::of_changed_messages(head.headers_mut());
    respond.headers(head, false)?;
    loop {
        let next = async { frames.next().await.map_err(|error| Fault::response(&error)) };
        let Some(frame) = unless_told(&mut told, respond.unless_gone(next)).await? else {
            break;
        };
        let job = session
            .borrow_mut()
            .response(
                frame.into_message(),
                &worker.context(&worker.keyring.load(), &Deks::default()),
            )
            .map_err(|failure| Fault::refused_answer(&failure))?;
        open_watches.set(session.borrow().open_watches());
        // None: all its events were the proxy's own, and without them it would read as a progress notification.
        let Some(job) = job else { continue };
        // Nothing of it is out yet: a stream that is to end need not wait for a KMS.
        let message = unless_told(&mut told, open::run(worker, job, respond)).await?;
        respond.message(message).await?;
    }
    let trailers = frames
        .trailers()
        .await
        .map_err(|error| Fault::response(&error))?
        .unwrap_or_default();
    upstream::heed_status(&worker.streams, connection, &trailers);
    respond.trailers(trailers)
}
