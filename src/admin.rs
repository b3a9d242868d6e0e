//! `--listen-metrics-urls`: metrics and health of the proxy itself, over HTTP/1.1. Never serves anything of etcd's.

mod check;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_rustls::TlsAcceptor;

use crate::telemetry::Registry;
use crate::tls::{Handle, ServerTls};
use crate::transport::{Listener, Stream};

pub use check::{Check, Outcome, alive};

/// Bound on a TLS handshake, and on a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the endpoints tell about.
#[derive(Clone)]
pub struct State {
    /// The process's metrics.
    pub registry: Registry,
    /// The health checks, in the order in which they are told.
    pub checks: Arc<[Check]>,
}

/// Serves `listener` for as long as it is polled, each connection with the certificate that is in use by then.
pub async fn serve(listener: Listener, tls: Option<Handle<ServerTls>>, state: State) {
    loop {
        match listener
            .accept()
            .await
            .and_then(crate::transport::Accepted::into_socket)
        {
            Ok(socket) => {
                let session = tls.as_ref().map(|tls| Arc::clone(&tls.load().config));
                tokio::spawn(connection(socket, session, state.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, url = listener.url(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: crate::transport::Socket, tls: Option<Arc<rustls::ServerConfig>>, state: State) {
    let stream = match tls {
        None => Stream::plain(socket),
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(socket);
            match tokio::time::timeout(HEADER_TIMEOUT, handshake).await {
                Ok(Ok(session)) => Stream::server(session),
                _ => return,
            }
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move {
            let (method, uri) = (request.method(), request.uri());
            let response = answer(method, uri.path(), uri.query().unwrap_or_default(), &state).await;
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics connection ended");
    }
}

async fn answer(method: &Method, path: &str, query: &str, state: &State) -> Response<Bytes> {
    if *method != Method::GET && *method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        return response;
    }
    if path == "/metrics" {
        let mut response = text(StatusCode::OK, state.registry.render());
        let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, prometheus);
        return response;
    }
    match check::answer(&state.checks, path, query).await {
        Some(report) if report.is_healthy => text(StatusCode::OK, report.text),
        Some(report) => text(StatusCode::SERVICE_UNAVAILABLE, report.text),
        None => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    // As Kubernetes does: what a check says is never to be taken for a page.
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
