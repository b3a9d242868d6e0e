//! `--listen-metrics-urls`: metrics and health of the proxy itself, over HTTP/1.1. Never serves anything of etcd's.

use std::convert::Infallible;
use std::fmt::Write as _;
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

use crate::etcd::Reachability;
use crate::telemetry::Registry;
use crate::tls::{Handle, ServerTls};
use crate::transport::{Listener, Stream};

/// Bound on a TLS handshake, and on a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the endpoints tell about.
#[derive(Clone)]
pub struct State {
    /// The process's metrics.
    pub registry: Registry,
    /// Connections to etcd.
    pub reachability: Arc<Reachability>,
    /// Whether the proxy has begun to drain.
    pub is_draining: Arc<dyn Fn() -> bool + Send + Sync>,
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
        let response = answer(request.method(), request.uri().path(), request.uri().query(), &state);
        async move { Ok::<_, Infallible>(response.map(Full::new)) }
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

fn answer(method: &Method, path: &str, query: Option<&str>, state: &State) -> Response<Bytes> {
    if *method != Method::GET && *method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    }
    let is_verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "verbose" || pair.starts_with("verbose="))
    });
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, state.registry.render());
            let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, prometheus);
            response
        }
        "/livez" => report(
            "livez",
            &[Check {
                name: "ping",
                failure: None,
            }],
            is_verbose,
        ),
        "/readyz" => report("readyz", &readiness(state), is_verbose),
        "/healthz" => report("healthz", &readiness(state), is_verbose),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    }
}

/// One named check; it passed unless it says why not.
struct Check {
    name: &'static str,
    failure: Option<String>,
}

fn readiness(state: &State) -> Vec<Check> {
    let (connected, pools) = state.reachability.counts();
    let etcd = (connected == 0).then(|| format!("none of {pools} connections to etcd is up"));
    let draining = (state.is_draining)().then(|| "the proxy is shutting down".to_owned());
    vec![
        Check {
            name: "ping",
            failure: None,
        },
        Check {
            name: "etcd",
            failure: etcd,
        },
        Check {
            name: "shutdown",
            failure: draining,
        },
    ]
}

/// The text that Kubernetes' own health endpoints give.
fn report(endpoint: &str, checks: &[Check], is_verbose: bool) -> Response<Bytes> {
    let healthy = checks.iter().all(|check| check.failure.is_none());
    if healthy && !is_verbose {
        return text(StatusCode::OK, "ok".to_owned());
    }
    let mut body = String::new();
    for check in checks {
        // Writing to a String cannot fail.
        let _ = match &check.failure {
            None => writeln!(body, "[+]{} ok", check.name),
            Some(failure) => writeln!(body, "[-]{} failed: {failure}", check.name),
        };
    }
    let verdict = if healthy { "passed" } else { "failed" };
    let _ = writeln!(body, "{endpoint} check {verdict}");
    text(
        if healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        body,
    )
}

fn text(status: StatusCode, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
