//! One client connection: TLS, which protocol it speaks, and its calls as they come in.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{Method, Request, header};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

use super::budget::Budget;
use super::crowd::Place;
use super::meters::Level;
use super::worker::Worker;
use super::{Stage, call, http as plain_http};
use crate::telemetry::Seldom;
use crate::tls;
use crate::transport::{Accepted, Backlog, Coalesced, Flusher, Socket, Stream, Turns};

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bound on TLS and protocol handshakes, so that a client that says nothing does not hold a connection for ever.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that is cut off may take to be told so.
pub(super) const GOODBYE: Duration = Duration::from_millis(100);

/// Flow-control windows for what clients send, bytes: a message fits into a stream's, and many into a connection's.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Largest header block accepted, bytes. kube-apiserver's are some hundred.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Streams cancelled and not yet forgotten. A kube-apiserver that restarts its watches cancels thousands at once, which
/// the library's defaults (50, and 20 not yet accepted) would take for an attack.
const MAX_RESET_STREAMS: usize = 4096;

/// Why a connection ended early.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    #[error("cannot set up the socket")]
    Socket(#[source] std::io::Error),
    #[error("TLS handshake failed")]
    Tls(#[source] std::io::Error),
    #[error("nothing heard within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Silent,
    #[error("HTTP/2 failed")]
    Http2(#[from] h2::Error),
    #[error("HTTP/1.1 failed")]
    Http1(#[from] hyper::Error),
}

/// Serves one accepted connection to its end.
pub(super) async fn serve(
    worker: Rc<Worker>,
    accepted: Accepted,
    session: Option<Arc<ServerConfig>>,
    mut place: Place,
    flusher: Flusher,
) -> Result<(), ConnectionError> {
    worker.meters.accepted.increment(1);
    let _open = Level::one_more(worker.meters.connections.clone());
    let socket = accepted.into_socket().map_err(ConnectionError::Socket)?;
    let peer: Rc<str> = socket.peer_host().into();
    let greeted = in_time(&worker, greet(&worker, socket, session)).await;
    if let Err(ConnectionError::Tls(error)) = &greeted {
        worker.config.audit.access_refused("tls", &peer, "TLS handshake", error);
        tell_of_refusal(&peer, error);
    }
    let Some((stream, is_http2)) = greeted? else {
        return Ok(());
    };
    place.greeted();
    if is_http2 {
        http2(worker, stream, flusher, peer).await
    } else {
        Ok(plain_http::serve(&worker, stream, &peer).await?)
    }
}

/// Says in the log whom no TLS session was opened with, and why: an operator who has just got a certificate wrong looks there.
fn tell_of_refusal(peer: &str, error: &std::io::Error) {
    static TOLD: Seldom = Seldom::new(Duration::from_secs(1));
    // Who closes the connection without a word was not refused: health checks do.
    let went_away = matches!(
        error.kind(),
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
    );
    if !went_away && let Some(left_out) = TOLD.now() {
        tracing::info!(peer, reason = %error, left_out, "a client was refused: no TLS session came about");
    }
}

/// Does a part of the handshake within [`HANDSHAKE_TIMEOUT`]; `None` if the proxy began to drain meanwhile: nothing has
/// been asked on the connection, so it need not be waited for.
async fn in_time<T>(
    worker: &Worker,
    part: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<Option<T>, ConnectionError> {
    tokio::select! {
        biased;
        done = tokio::time::timeout(HANDSHAKE_TIMEOUT, part) => done.unwrap_or(Err(ConnectionError::Silent)).map(Some),
        () = worker.draining() => Ok(None),
    }
}

/// Completes the TLS handshake and finds out which protocol follows.
async fn greet(
    worker: &Worker,
    socket: Socket,
    session: Option<Arc<ServerConfig>>,
) -> Result<(Stream, bool), ConnectionError> {
    let mut stream = match session {
        None => Stream::plain(socket),
        Some(config) => Stream::server(
            TlsAcceptor::from(config)
                .accept(socket)
                .await
                .inspect_err(|_| worker.meters.handshake_failures.increment(1))
                .map_err(ConnectionError::Tls)?,
        ),
    }
    .metered(worker.meters.bytes.clone());
    if let Some(protocol) = stream.alpn() {
        let is_http2 = protocol == tls::ALPN_H2;
        return Ok((stream, is_http2));
    }
    // Without TLS, or with a TLS client that names no protocol: its first bytes tell.
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        if stream.read_buf(&mut seen).await.map_err(ConnectionError::Socket)? == 0 {
            break;
        }
    }
    let is_http2 = seen.starts_with(PREFACE);
    Ok((stream.with_read_ahead(seen.freeze()), is_http2))
}

async fn http2(worker: Rc<Worker>, stream: Stream, flusher: Flusher, peer: Rc<str>) -> Result<(), ConnectionError> {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_concurrent_streams(worker.config.max_concurrent_streams);
    let (backlog, turns) = (Backlog::default(), Turns::default());
    let stream = Coalesced::new(stream, flusher).of_client(backlog.clone(), turns.clone());
    let handshake = builder.handshake::<_, Bytes>(stream);
    let handshake = async { Ok(handshake.await?) };
    let Some(mut connection) = in_time(&worker, handshake).await? else {
        return Ok(());
    };
    let budget = Budget::new(Arc::clone(&worker.config.ledger), backlog);
    let mut let_go = std::pin::pin!(budget.is_let_go());
    let mut stage = worker.stage.clone();
    loop {
        let current = *stage.borrow_and_update();
        match current {
            Stage::Running => {}
            // Refuses new streams, lets the open ones end, then closes.
            Stage::Withdrawn | Stage::Draining => connection.graceful_shutdown(),
            Stage::Stopped => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                return said(&mut connection, &turns).await;
            }
        }
        let mut changed = std::pin::pin!(stage.changed());
        // One wait for the next stage, however many calls come meanwhile.
        while let Some(accepted) = tokio::select! {
            biased;
            _ = &mut changed => None,
            why = &mut let_go => {
                worker.meters.let_go(why, &peer);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                return said(&mut connection, &turns).await;
            }
            accepted = accept(&mut connection, &turns) => Some(accepted),
        } {
            let Some(accepted) = accepted else { return Ok(()) };
            let (request, respond) = accepted?;
            turns.begun();
            tokio::task::spawn_local(dispatch(
                Rc::clone(&worker),
                request,
                respond,
                budget.clone(),
                Rc::clone(&peer),
            ));
        }
    }
}

type Connection = server::Connection<Coalesced<Stream>, Bytes>;

/// The next stream. The client's turn is over once there is none.
async fn accept(
    connection: &mut Connection,
    turns: &Turns,
) -> Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>> {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        if accepted.is_pending() {
            turns.next();
        }
        accepted
    })
    .await
}

/// Gives a goodbye as long as one takes, and no longer: the process is ending, or the client does not listen.
async fn said(connection: &mut Connection, turns: &Turns) -> Result<(), ConnectionError> {
    let closed = poll_fn(|cx| {
        turns.next();
        connection.poll_closed(cx)
    });
    let _ = tokio::time::timeout(GOODBYE, closed).await;
    Ok(())
}

/// gRPC, or one of the plain HTTP endpoints asked for over HTTP/2.
async fn dispatch(
    worker: Rc<Worker>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    budget: Budget,
    peer: Rc<str>,
) {
    let (parts, body) = request.into_parts();
    // On the heap: it is handed on from one function to the next, and each would have room for it.
    let parts = Box::new(parts);
    if is_grpc(&parts) {
        call::serve(&worker, parts, body, respond, budget, &peer).await;
    } else {
        plain_http::respond(&worker, &parts, body, respond, &budget, &peer).await;
    }
}

/// What gRPC's specification takes for a call: POST, and `application/grpc` with perhaps `+codec` or `;parameter` behind.
fn is_grpc(request: &Parts) -> bool {
    let content_type = request.headers.get(header::CONTENT_TYPE);
    let suffix = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    request.method == Method::POST && suffix.is_some_and(|suffix| matches!(suffix.first(), None | Some(b'+' | b';')))
}
