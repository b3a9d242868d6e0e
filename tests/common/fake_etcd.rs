//! A server that passes for etcd as far as a test has it do: each call waits until the test answers it.
//!
//! What a real etcd cannot be made to do at will, this can: hold a call, send trailers of any kind, answer in pieces,
//! reset, go away.

use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response, request};
use hyper::body::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::process::PATIENCE;

/// A listening server. Stops with the runtime of its test.
#[derive(Debug)]
pub struct FakeEtcd {
    url: String,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A call that arrived.
#[derive(Debug)]
pub struct Call {
    /// Path and metadata.
    pub parts: request::Parts,
    /// The messages, as they come.
    pub body: RecvStream,
    respond: SendResponse<Bytes>,
}

impl FakeEtcd {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket's address"));
        let (arrived, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let arrived = arrived.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await?;
                    while let Some(call) = connection.accept().await {
                        let (request, respond) = call?;
                        let (parts, body) = request.into_parts();
                        // Asked on each new connection; etcd does not know the call.
                        if parts.uri.path().starts_with("/etcdencryptionproxy.") {
                            unimplemented(respond);
                            continue;
                        }
                        let _ = arrived.send(Call { parts, body, respond });
                    }
                    Ok::<_, h2::Error>(())
                });
            }
        });
        Self { url, calls }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next call.
    pub async fn next(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv())
            .await
            .expect("a call")
            .expect("a listening server")
    }
}

fn unimplemented(mut respond: SendResponse<Bytes>) {
    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/grpc".parse().expect("a header"));
    headers.insert("grpc-status", "12".parse().expect("a header"));
    let _ = respond.send_response(answer, true);
}

impl Call {
    /// Reads what the client sends until its half-close.
    pub async fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(data) = self.body.data().await {
            let data = data.expect("a living client");
            let _ = self.body.flow_control().release_capacity(data.len());
            all.extend_from_slice(&data);
        }
        all
    }

    /// Starts the answer with these headers beside gRPC's own.
    pub fn respond(mut self, headers: &[(&'static str, &str)]) -> Answer {
        let mut response = Response::builder().header("content-type", "application/grpc");
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(()).expect("valid headers");
        Answer {
            stream: self.respond.send_response(response, false).expect("a waiting client"),
            _body: self.body,
        }
    }

    /// Answers with headers alone, as gRPC servers do for an error before any message.
    pub fn respond_only(mut self, headers: &[(&'static str, &str)]) {
        let mut response = Response::builder().header("content-type", "application/grpc");
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(()).expect("valid headers");
        self.respond.send_response(response, true).expect("a waiting client");
    }

    /// Answers with one message and success.
    pub fn succeed(self, message: &[u8]) {
        let mut answer = self.respond(&[]);
        answer.data(super::raw::frame(message));
        answer.end(&[("grpc-status", "0")]);
    }

    /// Resets the stream instead of an answer.
    pub fn reset(mut self, reason: h2::Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the client resets the call.
    pub async fn reset_by_client(mut self) -> h2::Reason {
        let reset = std::future::poll_fn(|context| self.respond.poll_reset(context));
        timeout(PATIENCE, reset)
            .await
            .expect("a reset")
            .expect("a reset of this stream")
    }
}

/// An answer under way.
#[derive(Debug)]
pub struct Answer {
    stream: SendStream<Bytes>,
    // Dropped, it would tell the client to send no more.
    _body: RecvStream,
}

impl Answer {
    /// Sends a DATA frame.
    pub fn data(&mut self, data: impl Into<Bytes>) {
        self.stream.send_data(data.into(), false).expect("an open stream");
    }

    /// Ends the answer with trailers.
    pub fn end(mut self, trailers: &[(&'static str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.append(*name, value.parse().expect("a valid trailer"));
        }
        self.stream.send_trailers(map).expect("an open stream");
    }

    /// Resets the stream in the middle of the answer.
    pub fn reset(mut self, reason: h2::Reason) {
        self.stream.send_reset(reason);
    }
}
