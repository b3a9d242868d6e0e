//! One HTTP/2 connection to one member: opened, kept alive, and requests addressed to it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, Method, Request, Uri};
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use thiserror::Error;

use super::meters::Left;
use super::probe;
use crate::transport::{ByteMeter, Coalesced, DialError, Dialer, Flusher, Stream};

/// Flow-control window of the whole connection, bytes: the most HTTP/2 allows, so that streams whose readers are slow
/// can never use up what the others on the connection need.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Largest header block accepted from a member, bytes.
const MAX_HEADER_LIST: u32 = 1024 * 1024;

/// Calls cancelled a moment ago of which the connection still knows, so that a late answer is dropped without a word.
/// A client that gives up on a batch of calls cancels hundreds at once.
const MAX_RESET_STREAMS: usize = 4096;

/// How long a member may take to answer the ping that opens a connection. As long as dialing may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// Ping a connection that has open streams this often, and give it up when no answer comes in time: kube-apiserver's
/// own figures. etcd closes connections that ping more than every 5 s or while idle.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that requests can be sent on; clones share it.
#[derive(Clone, Debug)]
pub struct Connection(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    id: u64,
    scheme: Scheme,
    authority: Authority,
    sender: SendRequest<Bytes>,
    open: Rc<Cell<usize>>,
}

/// A gRPC call under way. Dropping it before its end cancels it at the member.
#[derive(Debug)]
pub struct Call {
    /// The answer's headers, then its messages and trailers.
    pub response: ResponseFuture,
    /// Where the request's messages go.
    pub request: SendStream<Bytes>,
    /// Counts the call among the connection's open ones; keep it as long as either half.
    pub open: OpenCall,
}

/// One of a connection's open calls.
#[derive(Debug)]
pub struct OpenCall(Rc<Cell<usize>>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The member was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS was agreed on, HTTP/2 was not; gRPC needs it.
    #[error("{0} did not choose HTTP/2 (ALPN h2) in the TLS handshake; is it an etcd client URL?")]
    NoHttp2(String),
    /// The endpoint can't be written as an HTTP authority.
    #[error("{0} is not a valid HTTP authority")]
    Authority(String),
    /// The peer does not speak HTTP/2.
    #[error("HTTP/2 with {endpoint} failed; is it an etcd client URL, and is http or https right?")]
    Handshake {
        /// The endpoint as configured.
        endpoint: String,
        /// What HTTP/2 said.
        source: h2::Error,
    },
    /// The peer wants to know who asks.
    #[error("{endpoint} demands a client certificate: give --etcd-certfile and --etcd-keyfile")]
    NoCertificate {
        /// The endpoint as configured.
        endpoint: String,
        /// What TLS said.
        source: h2::Error,
    },
    /// The peer does not take who asks.
    #[error(
        "{endpoint} refuses this client by its certificate: is --etcd-certfile given, signed by a CA that etcd trusts \
         (--trusted-ca-file there), valid now, and for client authentication?"
    )]
    RefusedCertificate {
        /// The endpoint as configured.
        endpoint: String,
        /// What TLS said.
        source: h2::Error,
    },
    /// The peer has agreed on TLS and HTTP/2, and then ended the connection. What it said of a certificate is lost where it was not read
    /// before something was written.
    #[error(
        "{endpoint} has ended the connection behind the TLS handshake, as a server does that refuses a client's certificate: is \
         --etcd-certfile given, and signed by a CA that etcd trusts?"
    )]
    EndedAfterTls {
        /// The endpoint as configured.
        endpoint: String,
        /// What HTTP/2 said.
        source: h2::Error,
    },
    /// The peer took the connection and then said nothing that is HTTP/2.
    #[error("{endpoint} does not answer over HTTP/2 within {} s; is it an etcd client URL, and is http or https right?",
            GREETING_TIMEOUT.as_secs())]
    Silent {
        /// The endpoint as configured.
        endpoint: String,
    },
    /// What was reached is a proxy like this one.
    #[error(transparent)]
    Proxy(#[from] NotEtcd),
}

/// A proxy stands where etcd should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{endpoint} is an etcd-encryption-proxy{} and not etcd: through it values would be sealed twice. Give --etcd-servers etcd's own \
     URLs, as they are in the --etcd-servers of that proxy", of_version(.version)
)]
pub struct NotEtcd {
    /// The endpoint as configured.
    pub endpoint: String,
    /// The proxy's version.
    pub version: String,
}

fn of_version(version: &str) -> String {
    if version.is_empty() {
        String::new()
    } else {
        format!(" (version {version})")
    }
}

/// What a server says of a client's certificate.
enum Alert {
    Required,
    Refused,
}

impl Alert {
    /// As TLS tells it, of which HTTP/2 hands on the text alone.
    fn of(error: &h2::Error) -> Option<Self> {
        let text = error.to_string();
        let (_, alert) = text.split_once("received fatal alert: ")?;
        match alert.split(|char: char| !char.is_ascii_alphanumeric()).next()? {
            "CertificateRequired" => Some(Self::Required),
            "BadCertificate"
            | "UnsupportedCertificate"
            | "CertificateRevoked"
            | "CertificateExpired"
            | "CertificateUnknown"
            | "UnknownCA"
            | "AccessDenied" => Some(Self::Refused),
            _ => None,
        }
    }
}

/// Drives an open connection: nothing moves on it unless this is polled.
pub(super) struct Driver {
    connection: client::Connection<Coalesced<Stream>, Bytes>,
    pings: Option<PingPong>,
    open: Rc<Cell<usize>>,
}

impl Connection {
    /// Dials, speaks HTTP/2, waits for the member to speak it as well, and asks whether it is a proxy like this one. `id` tells this connection from others of its
    /// pool.
    pub(super) async fn open(
        dialer: &Dialer,
        flusher: &Flusher,
        bytes: &ByteMeter,
        stream_window: u32,
        id: u64,
    ) -> Result<(Self, Driver), OpenError> {
        let endpoint = dialer.endpoint();
        let stream = dialer.dial().await?.metered(bytes.clone());
        if stream.is_tls() && stream.alpn() != Some(b"h2") {
            return Err(OpenError::NoHttp2(endpoint.to_string()));
        }
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let authority = Authority::from_maybe_shared(Bytes::from(endpoint.authority()))
            .map_err(|_| OpenError::Authority(endpoint.to_string()))?;
        let is_tls = stream.is_tls();
        let failed = |source: h2::Error| {
            let endpoint = endpoint.to_string();
            // With TLS 1.3 a server looks at the client's certificate when the handshake is over for the client.
            match Alert::of(&source) {
                Some(Alert::Required) => OpenError::NoCertificate { endpoint, source },
                Some(Alert::Refused) => OpenError::RefusedCertificate { endpoint, source },
                None if is_tls => OpenError::EndedAfterTls { endpoint, source },
                None => OpenError::Handshake { endpoint, source },
            }
        };
        let (sender, mut connection) = client::Builder::new()
            .initial_window_size(stream_window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_concurrent_reset_streams(MAX_RESET_STREAMS)
            // An answer that comes later still is counted, for the connection's life, as the member's misbehaviour, and
            // a thousand of those end the connection by default: clients that cancel calls would take down the calls of
            // all others. The member is no attacker.
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake(Coalesced::new(stream, flusher.clone()))
            .await
            .map_err(failed)?;
        let mut pings = connection.ping_pong();
        if let Some(pings) = &mut pings {
            // The handshake is over when our half of it is sent. A peer that accepts connections and never answers, or
            // speaks something else, must not be taken for a member while another one could serve.
            tokio::select! {
                answered = tokio::time::timeout(GREETING_TIMEOUT, pings.ping(Ping::opaque())) => {
                    answered.map_err(|_| OpenError::Silent { endpoint: endpoint.to_string() })?.map_err(failed)?;
                }
                ended = &mut connection => {
                    // A close in good order, before anything was said, is no greeting either.
                    return Err(failed(ended.err().unwrap_or_else(|| h2::Reason::NO_ERROR.into())));
                }
            }
        }
        let open = Rc::new(Cell::new(0));
        let shared = Shared {
            id,
            scheme,
            authority,
            sender,
            open: open.clone(),
        };
        let opened = Self(Rc::new(shared));
        let asked = tokio::time::timeout(GREETING_TIMEOUT, probe::proxy_version(&opened));
        let version = tokio::select! {
            answered = asked => answered.map_err(|_| OpenError::Silent { endpoint: endpoint.to_string() })?.map_err(failed)?,
            ended = &mut connection => return Err(failed(ended.err().unwrap_or_else(|| h2::Reason::NO_ERROR.into()))),
        };
        if let Some(version) = version {
            let endpoint = endpoint.to_string();
            return Err(NotEtcd { endpoint, version }.into());
        }
        let driver = Driver {
            connection,
            pings,
            open,
        };
        Ok((opened, driver))
    }

    /// Tells this connection from others of its pool.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Opens a stream: a gRPC call of `path` with `headers`, whose messages follow on the [`SendStream`].
    ///
    /// Beyond the member's limit on concurrent streams (etcd has none unless told) the stream is queued, not refused. An
    /// error means that nothing was sent.
    pub fn call(&self, path: PathAndQuery, headers: HeaderMap) -> Result<Call, h2::Error> {
        let Shared {
            scheme,
            authority,
            sender,
            open,
            ..
        } = &*self.0;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        let mut parts = ::http::uri::Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(path);
        // All three parts are present, which is all that this checks.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        // A handle that has sent nothing is always ready for one call, however many are queued.
        let (response, request) = sender.clone().send_request(request, false)?;
        open.set(open.get() + 1);
        Ok(Call {
            response,
            request,
            open: OpenCall(open.clone()),
        })
    }
}

impl Driver {
    /// Runs until the connection ends, and says why.
    pub(super) async fn run(self) -> Left {
        let Self {
            connection,
            pings,
            open,
        } = self;
        let alive = keep_alive(pings, open);
        tokio::select! {
            ended = connection => ended.map_or_else(|error| Left::failed(&error), |()| Left::Closed),
            () = alive => Left::Silent(format!("no answer to an HTTP/2 ping within {} s", PING_TIMEOUT.as_secs())),
        }
    }
}

/// Returns once a ping goes unanswered.
async fn keep_alive(pings: Option<PingPong>, open: Rc<Cell<usize>>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if open.get() == 0 {
            continue;
        }
        match tokio::time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself has failed; its own future says so.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
