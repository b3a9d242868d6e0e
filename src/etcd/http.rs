//! Plain HTTP/1.1 requests to a member: the endpoints such as `/version` and `/health` that stand beside gRPC.
//!
//! What clients ask for is relayed over a few connections that are kept, however many ask. No answer is collected beyond what a
//! health check has to say; a longer one passes piece by piece, and who does not read it in time loses the rest of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{Method, Request, Response, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::relayed::{Piece, Relayed};
use crate::transport::{DialError, Dialer};

/// Bound on one request to one member, and on the rest of an answer once it has begun. etcd's own health check gives a
/// linearizable read about this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one kind that one runtime has at etcd at once.
const IN_USE: usize = 4;

/// Requests of one kind that may wait for their turn on one runtime; those beyond are told so at once.
const MAX_WAITING: usize = 256;

/// How long one waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// What is read of an answer before it is handed on, bytes: all of what health checks and versions have to say, so that a client
/// that is slow to read one does not hold a connection to etcd.
const COLLECTED: usize = 4 * 1024;

/// Pieces of a longer answer that may wait for their client.
const PIECES: usize = 2;

/// Bytes that are read from etcd at once, at most.
const READ_AT_ONCE: usize = 64 * 1024;

/// How long a connection is used: after a change of certificates none is older than this.
const MAX_AGE: Duration = Duration::from_secs(60);

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
    /// Others have asked for too much before.
    #[error("too many HTTP requests are waiting for etcd")]
    Busy,
}

/// What one runtime relays. Long answers (`/metrics`) and short ones have connections of their own, so that who reads the first
/// slowly does not hold up a health check.
pub struct Relay {
    /// Negotiate HTTP/1.1 under TLS: without it etcd hands every HTTP/2 request to gRPC.
    members: Arc<[Dialer]>,
    /// The member that answered last.
    first: Cell<usize>,
    short: Lane,
    long: Lane,
}

/// Connections for answers of one kind.
struct Lane {
    turns: Arc<Semaphore>,
    waiting: Cell<usize>,
    idle: Idle,
}

/// Connections that nobody uses, each with its member's place.
type Idle = Rc<RefCell<Vec<(usize, Connection)>>>;

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    since: Instant,
}

/// A connection in use, and the turn to use it.
struct Turn {
    member: usize,
    connection: Connection,
    idle: Idle,
    _permit: OwnedSemaphorePermit,
}

impl Relay {
    /// Relays to `members`.
    pub fn new(members: Arc<[Dialer]>) -> Self {
        Self {
            members,
            first: Cell::new(0),
            short: Lane::new(),
            long: Lane::new(),
        }
    }

    /// Asks the members in turn for `path` until one answers, whatever its status code. What comes later of the answer than
    /// its head is read by a task of this runtime.
    ///
    /// # Errors
    /// [`HttpError`]: of the last member that was asked.
    pub async fn get(&self, method: Method, path: &PathAndQuery) -> Result<Response<Relayed>, HttpError> {
        let lane = if path.path().starts_with("/metrics") {
            &self.long
        } else {
            &self.short
        };
        let mut permit = Some(lane.turn().await?);
        let mut failure = HttpError::NoMember;
        let first = self.first.get();
        for offset in 0..self.members.len() {
            let at = (first + offset) % self.members.len();
            let Some(member) = self.members.get(at) else { continue };
            let asked = timeout(REQUEST_TIMEOUT, lane.ask((at, member), &method, path, &mut permit));
            match asked.await.unwrap_or_else(|_| Err(timed_out(member))) {
                Ok(answer) => {
                    self.first.set(at);
                    return Ok(answer);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(IN_USE)),
            waiting: Cell::new(0),
            idle: Idle::default(),
        }
    }

    /// Waits for a turn.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(HttpError::Busy);
        }
        let _one_more = Waiting::new(&self.waiting);
        let turn = timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        // The semaphore is never closed.
        turn.ok().and_then(Result::ok).ok_or(HttpError::Busy)
    }

    /// Asks one member. `permit` is the right to do so, which goes to whoever reads the rest of the answer, if there is any.
    async fn ask(
        &self,
        (at, member): (usize, &Dialer),
        method: &Method,
        path: &PathAndQuery,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Response<Relayed>, HttpError> {
        let broken = |source: hyper::Error| HttpError::Exchange {
            endpoint: member.endpoint().to_string(),
            source: source.into(),
        };
        let request = || {
            Request::builder()
                .method(method.clone())
                .uri(path.as_str())
                .header(header::HOST, member.endpoint().authority())
                .body(Empty::<Bytes>::new())
                .map_err(|source| HttpError::Exchange {
                    endpoint: member.endpoint().to_string(),
                    source: source.into(),
                })
        };
        // A connection that was kept may have been closed by etcd at just this moment; a request that reads can be made again.
        let (connection, response) = loop {
            if let Some(mut kept) = self.kept(at) {
                if let Ok(response) = kept.sender.send_request(request()?).await {
                    break (kept, response);
                }
            } else {
                let mut fresh = connect(member).await?;
                let response = fresh.sender.send_request(request()?).await.map_err(broken)?;
                break (fresh, response);
            }
        };
        let (head, mut body) = response.into_parts();
        let mut collected = BytesMut::new();
        while collected.len() < COLLECTED {
            let Some(frame) = body.frame().await else {
                give_back(&self.idle, at, connection);
                return Ok(Response::from_parts(head, Relayed::whole(collected.freeze())));
            };
            if let Some(data) = frame.map_err(broken)?.data_ref() {
                collected.extend_from_slice(data);
            }
        }
        let (pieces, taken) = mpsc::channel(PIECES);
        let relayed = Relayed::begun(collected.freeze(), taken);
        if let Some(permit) = permit.take() {
            let turn = Turn {
                member: at,
                connection,
                idle: Rc::clone(&self.idle),
                _permit: permit,
            };
            tokio::task::spawn_local(turn.relay(body, pieces));
        }
        Ok(Response::from_parts(head, relayed))
    }

    /// A connection to the member `at` that can be used again. Drops what is too old.
    fn kept(&self, at: usize) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, connection)| connection.is_usable());
        let place = idle.iter().position(|(member, _)| *member == at)?;
        Some(idle.swap_remove(place).1)
    }
}

/// One that waits, while it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < MAX_AGE
    }
}

impl Turn {
    /// Hands on what is left of an answer, for as long as a request may take; keeps the connection if that was all of it.
    async fn relay(self, mut body: Incoming, pieces: mpsc::Sender<Piece>) {
        let all = async {
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                if let Ok(data) = frame.into_data()
                    && pieces.send(Piece::Data(data)).await.is_err()
                {
                    return false;
                }
            }
            pieces.send(Piece::End).await.is_ok()
        };
        // Where it is cut off the client sees no end.
        if timeout_at(Instant::now() + REQUEST_TIMEOUT, all).await == Ok(true) {
            give_back(&self.idle, self.member, self.connection);
        }
    }
}

fn give_back(idle: &Idle, member: usize, connection: Connection) {
    let mut idle = idle.borrow_mut();
    if idle.len() < IN_USE && connection.is_usable() {
        idle.push((member, connection));
    }
}

async fn connect(member: &Dialer) -> Result<Connection, HttpError> {
    let stream = member.dial().await?;
    let handshake = http1::Builder::new()
        .max_buf_size(READ_AT_ONCE)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|source| HttpError::Exchange {
        endpoint: member.endpoint().to_string(),
        source: source.into(),
    })?;
    // Ends when nobody has the sender or what is left of an answer. How it ends shows in these.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(Connection {
        sender,
        since: Instant::now(),
    })
}

fn timed_out(member: &Dialer) -> HttpError {
    HttpError::Timeout {
        endpoint: member.endpoint().to_string(),
    }
}
