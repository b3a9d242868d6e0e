//! Plain HTTP/1.1 requests to a member: the endpoints such as `/version` and `/health` that stand beside gRPC.

use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{Method, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;

use crate::transport::{DialError, Dialer};

/// Bound on one request to one member. etcd's own health check gives a linearizable read about this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer taken, bytes. etcd's `/metrics` is some hundred KiB.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Why no member answered.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The member was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange broke off.
    #[error("HTTP exchange with {endpoint} failed")]
    Exchange {
        /// The endpoint as configured.
        endpoint: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("no HTTP answer from {endpoint} within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// The endpoint as configured.
        endpoint: String,
    },
    /// There is no member to ask.
    #[error("no etcd endpoint is configured")]
    NoMember,
}

/// Asks the members in turn for `path` until one answers, whatever its status code.
///
/// `members` negotiate HTTP/1.1 under TLS: without it etcd hands every HTTP/2 request to gRPC.
pub async fn get(members: &[Dialer], method: Method, path: &PathAndQuery) -> Result<Response<Bytes>, HttpError> {
    let mut failure = HttpError::NoMember;
    for member in members {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, ask(member, method.clone(), path)).await;
        match answer.unwrap_or_else(|_| {
            Err(HttpError::Timeout {
                endpoint: member.endpoint().to_string(),
            })
        }) {
            Ok(response) => return Ok(response),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn ask(member: &Dialer, method: Method, path: &PathAndQuery) -> Result<Response<Bytes>, HttpError> {
    let stream = member.dial().await?;
    exchange(stream, member, method, path)
        .await
        .map_err(|source| HttpError::Exchange {
            endpoint: member.endpoint().to_string(),
            source,
        })
}

async fn exchange(
    stream: crate::transport::Stream,
    member: &Dialer,
    method: Method,
    path: &PathAndQuery,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path.as_str())
        .header(header::HOST, member.endpoint().authority())
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // Both run in this task, so the connection never outlives the request.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            // Closed in good order: what the member sent before is still to be taken.
            answer.await
        }
    }
}
