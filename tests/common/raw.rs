//! A gRPC client made of bare HTTP/2 frames, for requests that no gRPC library would send.

use std::io;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use hyper::body::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::process::PATIENCE;

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct RawClient {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With a gRPC status: its code, its text, and the bytes of the body before it.
    Status {
        /// `grpc-status`.
        code: u32,
        /// `grpc-message`, as on the wire.
        message: String,
        /// All DATA.
        body: Vec<u8>,
    },
    /// With an HTTP response that is not gRPC's.
    Http(u16),
    /// With a reset or with the connection.
    Reset(String),
}

impl Ended {
    /// The gRPC status code, where it ended with one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The gRPC status text, where it ended with one.
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            _ => "",
        }
    }
}

impl RawClient {
    /// Connects to `url` (`http://host:port`).
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.expect("an HTTP/2 connection")
    }

    /// The same, where it may fail.
    pub async fn try_connect(url: &str) -> io::Result<Self> {
        Self::connect_with_window(url, 1 << 30).await
    }

    /// The same, taking no more than `window` bytes of an answer before they are read.
    pub async fn connect_with_window(url: &str, window: u32) -> io::Result<Self> {
        let stream = TcpStream::connect(url.strip_prefix("http://").expect("a plain URL")).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        // How a connection ends shows in its calls.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, connection })
    }

    /// Opens a call with the headers that gRPC asks for and `more`.
    pub async fn open(&self, path: &str, more: &[(&'static str, &str)]) -> RawCall {
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://etcd.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        self.send(request.body(()).expect("a valid request"), false).await
    }

    /// Sends any request at all.
    pub async fn send(&self, request: Request<()>, end: bool) -> RawCall {
        let mut sender = self
            .sender
            .clone()
            .ready()
            .await
            .expect("a connection that takes another stream");
        let (response, body) = sender.send_request(request, end).expect("a stream");
        RawCall { body, response }
    }

    /// A whole call: `body` in one piece, then the end.
    pub async fn call(&self, path: &str, body: impl Into<Bytes>) -> Ended {
        let mut call = self.open(path, &[]).await;
        call.data(body, true);
        call.end().await
    }

    /// Closes the TCP connection as a client that crashes does.
    pub fn vanish(self) {
        self.connection.abort();
    }
}

/// A call under way.
#[derive(Debug)]
pub struct RawCall {
    body: SendStream<Bytes>,
    response: ResponseFuture,
}

impl RawCall {
    /// Queues a DATA frame. A call that the server has ended already takes none, which is no failure.
    pub fn data(&mut self, data: impl Into<Bytes>, end: bool) {
        let _ = self.body.send_data(data.into(), end);
    }

    /// Resets the stream.
    pub fn reset(mut self) {
        self.body.send_reset(h2::Reason::CANCEL);
    }

    /// Waits for the answer's headers, and gives these with the rest of the answer.
    pub async fn answer(self) -> Result<(HeaderMap, RecvStream), h2::Error> {
        let (parts, body) = self.response.await?.into_parts();
        Ok((parts.headers, body))
    }

    /// Waits for the end, keeping this side open.
    pub async fn end(self) -> Ended {
        match timeout(PATIENCE, read_all(self.response)).await.expect("an end") {
            Ok(ended) => ended,
            Err(error) => Ended::Reset(error.to_string()),
        }
    }
}

async fn read_all(response: ResponseFuture) -> Result<Ended, h2::Error> {
    let (parts, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| parts.headers.get(name));
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Ok(match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(code) => Ended::Status {
            code,
            message: text("grpc-message").unwrap_or_default(),
            body: bytes,
        },
        None => Ended::Http(parts.status.as_u16()),
    })
}

/// A gRPC frame around a message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(
        &u32::try_from(message.len())
            .expect("a message below 4 GiB")
            .to_be_bytes(),
    );
    frame.extend_from_slice(message);
    frame
}
