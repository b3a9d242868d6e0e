//! The plain HTTP endpoints that etcd serves beside gRPC on the same port: answered by etcd, relayed unchanged.
//!
//! The JSON gateway under `/v3` is the whole KV API again and would carry values past the rules; it is refused.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::budget::Budget;
use super::call::length;
use super::connection::HANDSHAKE_TIMEOUT;
use super::meters;
use super::worker::Worker;
use crate::etcd::{HttpError, Relayed};
use crate::telemetry::Seldom;
use crate::transport::Stream;

/// Paths that are relayed, each with what may follow it below.
const RELAYED: [&str; 5] = ["/version", "/health", "/livez", "/readyz", "/metrics"];

/// How long a client may take to read an answer, and to end its request. What has come of either is held here for as long.
const SLOW: Duration = Duration::from_secs(20);

/// Bytes of a request that are passed over. None of these requests needs any.
const MOST_OF_A_BODY: usize = 64 * 1024;

/// Serves one HTTP/1.1 connection until it ends or the proxy drains.
pub(super) async fn serve(worker: &Worker, stream: Stream, peer: &str) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, _) = request.into_parts();
        let answer = answer(worker, peer, &parts.method, parts.uri.path_and_query()).await;
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => ended,
        () = worker.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Answers a request that came over HTTP/2 without being gRPC.
pub(super) async fn respond(
    worker: &Worker,
    request: &http::request::Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    budget: &Budget,
    peer: &str,
) {
    let share = budget.call(length(&request.headers));
    let answered = async {
        if share.is_none() {
            return Some(unavailable(
                request.uri.path(),
                "too many requests under way on one connection",
            ));
        }
        // One that is broken further on is HTTP/2's to refuse, and not to be answered before that is seen.
        let ended = tokio::time::timeout(SLOW, ends(&mut body)).await;
        if ended != Ok(true) {
            return None;
        }
        Some(answer(worker, peer, &request.method, request.uri.path_and_query()).await)
    };
    let answer = tokio::select! {
        answer = answered => answer,
        // A client that left meanwhile needs no answer, and takes nobody's turn.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return budget.has_reset(),
    };
    let Some(answer) = answer else {
        return respond.send_reset(Reason::CANCEL);
    };
    let (parts, body) = answer.into_parts();
    if let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), body.is_end_stream())
        && !body.is_end_stream()
    {
        let sent = tokio::time::timeout(SLOW, send(&mut stream, body)).await;
        if sent != Ok(true) {
            stream.send_reset(Reason::CANCEL);
        }
    }
}

/// Passes over the rest of a request; whether it ended as it should.
async fn ends(body: &mut RecvStream) -> bool {
    let mut left = MOST_OF_A_BODY;
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return false };
        let Some(rest) = left.checked_sub(data.len()) else {
            return false;
        };
        left = rest;
        if body.flow_control().release_capacity(data.len()).is_err() {
            return false;
        }
    }
    body.trailers().await.is_ok()
}

/// Sends a body as it comes; says whether that was all of it.
async fn send(stream: &mut SendStream<Bytes>, mut body: Relayed) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        if let Ok(data) = frame.into_data()
            && super::responder::send(stream, data).await.is_err()
        {
            return false;
        }
    }
    stream.send_data(Bytes::new(), true).is_ok()
}

/// Whether it is time for another line about requests that etcd did not answer.
static TOLD: Seldom = Seldom::new(Duration::from_secs(10));

async fn answer(worker: &Worker, peer: &str, method: &Method, path: Option<&PathAndQuery>) -> Response<Relayed> {
    let Some(path) = path.filter(|path| is_relayed(path.path())) else {
        let path = path.map_or("", PathAndQuery::path);
        if is_gateway(path) {
            let text = "the JSON gateway is not served";
            worker.config.audit.access_refused("json_gateway", peer, path, &text);
        }
        return refusal(path);
    };
    if *method != Method::GET && *method != Method::HEAD {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "Method Not Allowed\n".to_owned(),
        );
    }
    match worker.relay.get(method.clone(), path).await {
        Ok(response) => end_to_end(response),
        Err(error) => {
            if let Some(left_out) = TOLD.now() {
                tracing::warn!(path = path.path(), %error, left_out, "an HTTP request was not answered by etcd");
            }
            let reason = match error {
                HttpError::Busy => {
                    meters::refused("too_many_http");
                    "too many requests for etcd's HTTP endpoints"
                }
                _ => "no etcd member reachable",
            };
            unavailable(path.path(), reason)
        }
    }
}

fn is_relayed(path: &str) -> bool {
    RELAYED.iter().any(|relayed| {
        path.strip_prefix(relayed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The answer without the headers that were about the connection to etcd (RFC 9110, section 7.6.1).
fn end_to_end(mut response: Response<Relayed>) -> Response<Relayed> {
    let headers: &mut HeaderMap = response.headers_mut();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    response
}

fn is_gateway(path: &str) -> bool {
    path.starts_with("/v3")
}

fn refusal(path: &str) -> Response<Relayed> {
    if !is_gateway(path) {
        return text(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 page not found\n".to_owned(),
        );
    }
    meters::refused("json_gateway");
    // The shape of grpc-gateway's errors; 12 is UNIMPLEMENTED.
    let reason = "etcd-encryption-proxy does not serve the JSON gateway, which would bypass encryption: use gRPC";
    text(
        StatusCode::NOT_IMPLEMENTED,
        "application/json",
        format!("{{\"error\":\"{reason}\",\"code\":12,\"message\":\"{reason}\"}}\n"),
    )
}

/// etcd did not answer. `/health` keeps its shape, because kube-apiserver and kubelet read it.
fn unavailable(path: &str, reason: &str) -> Response<Relayed> {
    match path {
        "/health" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            format!("{{\"health\":\"false\",\"reason\":\"etcd-encryption-proxy: {reason}\"}}"),
        ),
        _ => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            format!("etcd-encryption-proxy: {reason}\n"),
        ),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Relayed> {
    let mut response = Response::new(Relayed::whole(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_endpoints_and_what_lies_below_them_are_relayed() {
        for path in ["/version", "/health", "/livez", "/readyz/serializable_read", "/metrics"] {
            assert!(is_relayed(path), "{path}");
        }
        for path in ["/v3/kv/range", "/healthy", "/debug/pprof", "/", "", "/versions"] {
            assert!(!is_relayed(path), "{path}");
        }
    }

    #[tokio::test]
    async fn the_json_gateway_is_refused_with_a_reason() {
        for path in ["/v3/kv/range", "/v3beta/kv/put", "/v3alpha/x"] {
            let response = refusal(path);
            assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(std::str::from_utf8(&body).unwrap().contains("bypass encryption"));
        }
    }
}
