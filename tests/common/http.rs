//! Plain HTTP/1.1 requests, for the endpoints beside gRPC.

use std::io;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `content-type` header.
    pub content_type: Option<String>,
    /// The body, lossily as text.
    pub body: String,
}

/// `GET path` from `endpoint` (`http://host:port`) on a connection of its own.
pub async fn get(endpoint: &str, path: &str) -> io::Result<Answer> {
    request("GET", endpoint, path, "").await
}

/// `POST path` with a JSON body.
pub async fn post(endpoint: &str, path: &str, body: &str) -> io::Result<Answer> {
    request("POST", endpoint, path, body).await
}

/// `method path` with a JSON body, or with an empty one.
pub async fn request(method: &str, endpoint: &str, path: &str, body: &str) -> io::Result<Answer> {
    let address = endpoint.strip_prefix("http://").expect("a plain HTTP endpoint");
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    let content_type = answer
        .headers()
        .get("content-type")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Answer {
        status,
        content_type,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
