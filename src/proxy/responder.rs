//! The answer to one call: headers, messages, trailers, in that order, whatever goes wrong in between.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Response, header};

use super::budget::{Budget, Waiting};
use super::clock::Clock;
use super::fault::{Code, Fault};
use super::frame::{self, PREFIX};
use crate::wire::Spliced;

/// Bytes of a long message that are handed to HTTP/2 at once; the next follow when the client has taken them.
const CHUNK: usize = 256 * 1024;

/// Bytes of a message that go out together with its prefix: what HTTP/2 puts into one DATA frame by default, less that.
const FIRST_CHUNK: usize = 16 * 1024 - PREFIX;

/// The client's side of one call.
pub(super) struct Responder {
    state: State,
    budget: Budget,
    /// What may come in for the call while its client does not read, bytes.
    unread: usize,
    /// Part of a message is out: no status can follow, only a reset.
    mid_message: bool,
    /// What the call's `grpc-status` was, once it is known.
    code: Option<u16>,
    /// How far the call was when.
    pub(super) clock: Clock,
}

enum State {
    Waiting(SendResponse<Bytes>),
    Streaming(SendStream<Bytes>),
    Ended,
}

/// Sends what is left of a message.
type Rest<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'a>>;

impl Responder {
    pub(super) fn new(respond: SendResponse<Bytes>, budget: Budget) -> Self {
        Self {
            budget,
            unread: 0,
            state: State::Waiting(respond),
            mid_message: false,
            code: None,
            clock: Clock::default(),
        }
    }

    /// What this client may still make the proxy hold.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The call lasts: up to `bytes` come in for it while its client does not read.
    pub(super) fn lasts(&mut self, bytes: u32) {
        self.unread = bytes as usize;
    }

    /// Resolves when the client has cancelled the call or vanished.
    pub(super) async fn gone(&mut self) {
        let cancelled = match &mut self.state {
            State::Waiting(respond) => poll_fn(|cx| respond.poll_reset(cx)).await,
            State::Streaming(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
            State::Ended => return std::future::pending().await,
        };
        // Reset or connection lost: for the call they are the same.
        drop(cancelled);
    }

    /// Does `work` for as long as the client is there to want it.
    pub(super) async fn unless_gone<T>(&mut self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.gone() => Err(Fault::Gone),
        }
    }

    /// Sends the response's headers, `end` if nothing follows them.
    pub(super) fn headers(&mut self, response: Response<()>, end: bool) -> Result<(), Fault> {
        let State::Waiting(mut respond) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        let code = end.then(|| status_of(response.headers())).flatten();
        let stream = respond.send_response(response, end).map_err(|_| Fault::Gone)?;
        if !end {
            self.state = State::Streaming(stream);
        }
        self.code = code;
        Ok(())
    }

    /// Sends one message, waiting for a client that reads slowly.
    pub(super) async fn message(&mut self, message: Spliced) -> Result<(), Fault> {
        match self.begin(message)? {
            None => Ok(()),
            Some(rest) => rest.await,
        }
    }

    /// Sends a message if the client takes all of it now; what sends the rest comes back. That is on the heap: it is rare
    /// or long, and every call would have room for it.
    fn begin(&mut self, mut message: Spliced) -> Result<Option<Rest<'_>>, Fault> {
        let State::Streaming(stream) = &mut self.state else {
            return Ok(None);
        };
        let prefix = frame::prefix(message.len());
        // Copied behind the prefix: no more of it than fills a DATA frame.
        let first = message.next_chunk(FIRST_CHUNK).unwrap_or_default();
        let mut head = BytesMut::with_capacity(PREFIX + first.len());
        head.extend_from_slice(&prefix);
        head.extend_from_slice(&first);
        let head = head.freeze();
        stream.reserve_capacity(head.len());
        let backlog = self.budget.backlog();
        if message.is_empty() && stream.capacity() >= head.len() && backlog.has_room() {
            backlog.add(head.len());
            stream.send_data(head, false).map_err(|_| Fault::Gone)?;
            return Ok(None);
        }
        self.mid_message = true;
        Ok(Some(Box::pin(async move {
            self.bytes(head).await?;
            while let Some(chunk) = message.next_chunk(CHUNK) {
                self.bytes(chunk).await?;
            }
            self.mid_message = false;
            Ok(())
        })))
    }

    /// Sends bytes of a body as they are, waiting for a client that reads slowly.
    pub(super) async fn bytes(&mut self, data: Bytes) -> Result<(), Fault> {
        let State::Streaming(stream) = &mut self.state else {
            return Ok(());
        };
        let sent = to_client(stream, data, &self.budget, self.unread).await;
        sent.map_err(|_| Fault::Gone)
    }

    /// Sends the trailers, which end the answer.
    pub(super) fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Fault> {
        let State::Streaming(mut stream) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        self.code = status_of(&trailers);
        stream.send_trailers(trailers).map_err(|_| Fault::Gone)
    }

    /// The number of the status that the call ended with; `None` if its client went away before.
    pub(super) fn code(&self) -> Option<u16> {
        self.code
    }

    /// Ends the answer with a status of ours. In the middle of a message only a reset can say that it is not whole.
    pub(super) fn fail(&mut self, fault: &Fault) {
        self.code = fault.code();
        match std::mem::replace(&mut self.state, State::Ended) {
            // As HTTP/2 says that a request was not looked at (RFC 9113, section 8.7).
            State::Waiting(mut respond) if matches!(fault, Fault::NotSent) => {
                respond.send_reset(Reason::REFUSED_STREAM);
            }
            State::Waiting(mut respond) => {
                let mut response = Response::new(());
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                fault.write_to(response.headers_mut());
                // A client that has gone meanwhile needs no answer; so below.
                let _ = respond.send_response(response, true);
            }
            // REFUSED_STREAM would have clients send the call again, CANCEL would have writes replayed. INTERNAL_ERROR
            // reads as INTERNAL, but can only happen here once headers are out, so never on a write.
            State::Streaming(mut stream) if self.mid_message => stream.send_reset(Reason::INTERNAL_ERROR),
            State::Streaming(mut stream) => {
                let mut trailers = HeaderMap::new();
                fault.write_to(&mut trailers);
                let _ = stream.send_trailers(trailers);
            }
            State::Ended => {}
        }
    }
}

/// A handler that panicked ends here. Left to itself the HTTP/2 library would reset the stream with CANCEL, on which etcd's
/// client replays a write up to a hundred times.
impl Drop for Responder {
    fn drop(&mut self) {
        if !matches!(self.state, State::Ended) {
            self.fail(&Fault::status(
                Code::Unknown,
                "etcd-encryption-proxy: the call was abandoned",
            ));
        }
    }
}

fn status_of(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Sends `data` as the client reads it: as its windows let it, and as its socket takes it. Meanwhile `unread` bytes may come in
/// behind it.
pub(super) async fn to_client(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    budget: &Budget,
    unread: usize,
) -> Result<(), h2::Error> {
    let backlog = budget.backlog();
    let mut waiting = None;
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut available = stream.capacity();
        if available == 0 || !backlog.has_room() {
            let waiting: &Waiting = waiting.get_or_insert_with(|| budget.waits(unread));
            if available == 0 {
                available = match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(capacity) => capacity?,
                    None => return Err(Reason::CANCEL.into()),
                };
            }
            tokio::select! {
                () = backlog.room() => {}
                reset = poll_fn(|cx| stream.poll_reset(cx)) => return Err(reset.map_or_else(|error| error, Into::into)),
            }
            waiting.moves();
        }
        let piece = data.split_to(available.min(data.len()));
        backlog.add(piece.len());
        stream.send_data(piece, false)?;
    }
    Ok(())
}

/// Sends `data` to etcd, as its flow-control window lets it.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut available = stream.capacity();
        if available == 0 {
            available = match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(Reason::CANCEL.into()),
            };
        }
        let piece = data.split_to(available.min(data.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;

    use super::super::ledger::Ledger;
    use super::*;
    use crate::transport::Backlog;

    #[tokio::test]
    async fn a_call_that_is_abandoned_ends_with_a_status_and_no_reset() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = async {
            let mut connection = h2::server::handshake(near).await.unwrap();
            while let Some(call) = connection.accept().await {
                let (_, respond) = call.unwrap();
                drop(Responder::new(
                    respond,
                    Budget::new(Arc::new(Ledger::new(1 << 20)), Backlog::default()),
                ));
            }
        };
        let client = async {
            let (sender, connection) = h2::client::handshake(far).await.unwrap();
            let mut sender = sender.ready().await.unwrap();
            let request = Request::post("http://etcd.test/").body(()).unwrap();
            let (response, _request) = sender.send_request(request, false).unwrap();
            let response = tokio::select! {
                response = response => response,
                ended = connection => panic!("{ended:?}"),
            };
            assert_eq!(response.unwrap().headers()["grpc-status"], "2");
        };
        tokio::select! {
            () = server => panic!("the connection ended"),
            () = client => {}
        }
    }
}
