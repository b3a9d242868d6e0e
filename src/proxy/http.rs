//! The plain HTTP endpoints that etcd serves beside gRPC on the same port: answered by etcd, relayed unchanged.
//!
//! The JSON gateway under `/v3` is the whole KV API again and would carry values past the rules; it is refused.

use std::convert::Infallible;

use bytes::Bytes;
use h2::server::SendResponse;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::HANDSHAKE_TIMEOUT;
use super::meters;
use super::worker::Worker;
use crate::etcd;
use crate::transport::Stream;

/// Paths that are relayed, each with what may follow it below.
const RELAYED: [&str; 5] = ["/version", "/health", "/livez", "/readyz", "/metrics"];

/// Serves one HTTP/1.1 connection until it ends or the proxy drains.
pub(super) async fn serve(worker: &Worker, stream: Stream, peer: &str) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, _) = request.into_parts();
        let answer = answer(worker, peer, &parts.method, parts.uri.path_and_query()).await;
        Ok::<_, Infallible>(answer.map(Full::new))
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
    mut respond: SendResponse<Bytes>,
    peer: &str,
) {
    let answer = answer(worker, peer, &request.method, request.uri.path_and_query()).await;
    let (parts, body) = answer.into_parts();
    // A client that left meanwhile needs no answer.
    if let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), body.is_empty())
        && !body.is_empty()
        && super::responder::send(&mut stream, body).await.is_ok()
    {
        let _ = stream.send_data(Bytes::new(), true);
    }
}

async fn answer(worker: &Worker, peer: &str, method: &Method, path: Option<&PathAndQuery>) -> Response<Bytes> {
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
    match etcd::get(&worker.config.http_members, method.clone(), path).await {
        Ok(response) => end_to_end(response),
        Err(error) => {
            tracing::warn!(path = path.path(), %error, "no etcd member answered an HTTP request");
            unreachable(path.path())
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
fn end_to_end(mut response: Response<Bytes>) -> Response<Bytes> {
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

fn refusal(path: &str) -> Response<Bytes> {
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

/// No member answered. `/health` keeps its shape, because kube-apiserver and kubelet read it.
fn unreachable(path: &str) -> Response<Bytes> {
    match path {
        "/health" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            "{\"health\":\"false\",\"reason\":\"etcd-encryption-proxy: no etcd member reachable\"}".to_owned(),
        ),
        _ => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "etcd-encryption-proxy: no etcd member reachable\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
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

    #[test]
    fn the_json_gateway_is_refused_with_a_reason() {
        for path in ["/v3/kv/range", "/v3beta/kv/put", "/v3alpha/x"] {
            let response = refusal(path);
            assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
            assert!(
                std::str::from_utf8(response.body())
                    .unwrap()
                    .contains("bypass encryption")
            );
        }
    }
}
