//! Range, Put, DeleteRange and Txn: sealed going up, opened coming down.
//!
//! What stores a value under a rule is sent under the fence: etcd takes it only in the epoch that it was sealed in. If that is
//! over, nothing was written, and the message, which is still at hand, is sealed anew with what is in use by then.

use std::sync::Arc;
use std::time::Duration;

use h2::RecvStream;
use http::HeaderMap;
use http::request::Parts;
use http::uri::PathAndQuery;
use tokio::time::timeout;

use super::apart::{ask_apart, is_unsupported};
use super::fault::Fault;
use super::frame::{Frame, FrameError};
use super::open;
use super::responder::Responder;
use super::unary::{Answered, Received, ask, finish, only_message, passed_on, receive, under_way};
use super::unfenced::SealedAt;
use super::upstream;
use super::worker::Worker;
use crate::keyring::{Keyring, Permit, Writing};
use crate::rewrite::{
    ApartRange, FencedResponse, Lifted, OpenFailure, OpenJob, Refusal, ResponsePlan, UnaryRequest, UnaryRpc, Unfenced,
    epoch_request, is_epoch, unary_request,
};
use crate::types::Epoch;
use crate::value::Deks;
use crate::wire::Spliced;

/// How often a request is sealed anew for another epoch before its client is told: each takes a proof that somebody begins at
/// just that moment.
const MAX_EPOCHS: u32 = 16;

/// How long a write waits until it is known whether it may be written, as long as for a member to be connected to.
const WAIT_FOR_PERMIT: Duration = Duration::from_secs(30);

/// Serves one call whose values are sealed and opened.
pub(super) async fn serve(
    worker: &Worker,
    rpc: UnaryRpc,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    respond.clock.request_read();
    let mut call = Unary {
        rpc,
        has_token: TOKENS.iter().any(|name| request.headers.contains_key(*name)),
        request,
        frame,
        is_unfenced: false,
    };
    let headers = &mut call.request.headers;
    *headers = upstream::for_changed_messages(std::mem::take(headers));
    let _under_way = under_way(respond).await?;
    let mut epochs = 0;
    let (received, job) = loop {
        // What was sealed before is as if it had never been: nothing of it was written.
        match call.attempt(worker, respond).await? {
            Attempt::Answered(received, job) => break (received, job),
            Attempt::Ended => return Ok(()),
            Attempt::Again if epochs == MAX_EPOCHS => return Err(Fault::restless()),
            Attempt::Again => epochs += 1,
        }
    };
    drop(share);
    let message = open::run(worker, job, respond).await?;
    respond.clock.answer_ready();
    finish(received.head, message, received.trailers, respond).await
}

/// Metadata that a client says with who it is. Source: etcd's public `rpctypes.TokenFieldNameGRPC` and `…Swagger`.
const TOKENS: [&str; 2] = ["token", "authorization"];

/// A call on its way: what stays the same however often it is sealed and sent.
struct Unary {
    rpc: UnaryRpc,
    /// Whether the client says who it is, rather than leave that to the proxy's certificate.
    has_token: bool,
    /// Its headers are those that etcd is to get.
    request: Box<Parts>,
    frame: Frame,
    /// What it may do it may not do under the fence.
    is_unfenced: bool,
}

/// What came of sealing and sending it once.
#[expect(clippy::large_enum_variant, reason = "nearly every attempt is answered")]
enum Attempt {
    /// An answer, and what is to be opened of it.
    Answered(Received, OpenJob),
    /// An error of etcd's, which has been passed on.
    Ended,
    /// Nothing was written; it is to be sealed anew.
    Again,
}

/// What is to be done with a request that is sealed.
enum Outgoing {
    Send(UnaryRpc, Frame, Reading),
    Unfenced(Box<UnaryRequest>),
}

/// A request as etcd is to get it.
enum Sealed {
    /// It stores nothing under a rule.
    Plain(UnaryRequest),
    /// By a keyring with this permit.
    Under(UnaryRequest, Permit),
    /// By this keyring, of which it is not known whether it may be written with.
    Unknown(Box<UnaryRequest>, Arc<Keyring>),
}

/// How an answer is to be read.
enum Reading {
    Plain(ResponsePlan),
    Fenced(FencedResponse),
}

impl Unary {
    /// Seals the request with what is in use by now, and sends it so that etcd takes it only as long as that may be written.
    async fn attempt(&mut self, worker: &Worker, respond: &mut Responder) -> Result<Attempt, Fault> {
        let (sealed, permit) = match seal(worker, self.rpc, &self.frame, respond).await? {
            Sealed::Plain(sealed) => (sealed, None),
            Sealed::Under(sealed, permit) => (sealed, Some(permit)),
            // What is found out holds for what this keyring has sealed, whenever that was; but not for what a KMS plugin's seed has
            // sealed, since a fresh one may have been ordered before the permit was given.
            Sealed::Unknown(sealed, keyring) => match Box::pin(permitted(worker, &keyring, respond)).await? {
                permit @ Some(_) if keyring.plugins().is_empty() => (*sealed, permit),
                _ => return Ok(Attempt::Again),
            },
        };
        match self.outgoing(worker, sealed, permit)? {
            Outgoing::Send(rpc, frame, reading) => self.send(worker, rpc, frame, reading, respond).await,
            // Rare, and so on the heap: every call would have room for them.
            Outgoing::Unfenced(sealed) => {
                self.is_unfenced = true;
                Box::pin(self.send_unfenced(worker, *sealed, respond)).await
            }
        }
    }

    /// What is sent of a request that was sealed by a keyring with this permit; `None` where nothing under a rule is written.
    fn outgoing(&self, worker: &Worker, sealed: UnaryRequest, permit: Option<Permit>) -> Result<Outgoing, Fault> {
        if sealed.response.seals_twice() {
            warn_once_of_double_sealing();
        }
        let (epoch, nests) = match permit {
            None => {
                let frame = self.frame.clone().with(sealed.message);
                return Ok(Outgoing::Send(sealed.send_as, frame, Reading::Plain(sealed.response)));
            }
            Some(Permit::Unknown) => return Err(Fault::no_permit()),
            Some(Permit::Refused(why)) => return Err(Fault::may_not_write(&why)),
            Some(Permit::Unfenced) => return Ok(Outgoing::Unfenced(Box::new(sealed))),
            Some(Permit::Fenced { .. }) if self.is_unfenced => return Ok(Outgoing::Unfenced(Box::new(sealed))),
            Some(Permit::Fenced { epoch, nests }) => (epoch, nests),
        };
        let fence = worker.fence(&epoch);
        Ok(match sealed.fenced(&fence, nests && !self.has_token) {
            Ok(fenced) => {
                let frame = Frame::of_parts(&fenced.head, fenced.message, fence.field());
                Outgoing::Send(UnaryRpc::Txn, frame, Reading::Fenced(fenced.response))
            }
            Err(Unfenced(sealed)) => Outgoing::Unfenced(sealed),
        })
    }

    /// Sends what etcd could not be made to refuse if it were late: soon, or not at all.
    async fn send_unfenced(
        &self,
        worker: &Worker,
        sealed: UnaryRequest,
        respond: &mut Responder,
    ) -> Result<Attempt, Fault> {
        let sealed_at = SealedAt::now();
        let announced = async { Ok(worker.config.unfenced.announced().await) };
        if !respond.unless_gone(announced).await? {
            return Ok(Attempt::Again);
        }
        if !worker.config.tenure.holds() {
            return Err(Fault::unknown_to_others());
        }
        let (path, frame) = (path_of(sealed.send_as), self.frame.clone().with(sealed.message));
        check_length(worker, &frame)?;
        respond.clock.asked();
        // Right before it is sent: a process that slept meanwhile may have been given up by the others.
        let may_send = || sealed_at.is_fresh() && worker.config.tenure.holds();
        match ask(worker, &path, &self.request.headers, frame, may_send, respond).await? {
            None => Ok(Attempt::Again),
            Some(answer) => match receive(worker, answer, respond).await? {
                Answered::Error(head, trailers) => passed_on(head, trailers, respond).map(|()| Attempt::Ended),
                Answered::Message(mut received) => {
                    let message = std::mem::take(&mut received.message);
                    let job = sealed
                        .response
                        .open(message)
                        .map_err(|failure| Fault::refused_answer(&failure))?;
                    Ok(Attempt::Answered(received, job))
                }
            },
        }
    }

    async fn send(
        &mut self,
        worker: &Worker,
        rpc: UnaryRpc,
        frame: Frame,
        reading: Reading,
        respond: &mut Responder,
    ) -> Result<Attempt, Fault> {
        check_length(worker, &frame)?;
        respond.clock.asked();
        let path = path_of(rpc);
        let Some(answer) = ask(worker, &path, &self.request.headers, frame, || true, respond).await? else {
            return Ok(Attempt::Again);
        };
        let unsettled = match receive(worker, answer, respond).await? {
            // The client's user may not read the epoch. Nothing was written; whether it may write what it asks for is for etcd to
            // say again.
            Answered::Error(head, trailers)
                if self.has_token
                    && matches!(reading, Reading::Fenced(_))
                    && is_denied(trailers.as_ref().unwrap_or(head.headers())) =>
            {
                self.is_unfenced = true;
                return Ok(Attempt::Again);
            }
            Answered::Error(head, trailers)
                if self.rpc == UnaryRpc::Range
                    && rpc == UnaryRpc::Txn
                    && is_unsupported(trailers.as_ref().unwrap_or(head.headers())) =>
            {
                // Rare, and so on the heap: every call would have room for it.
                return Box::pin(self.range_apart(worker, reading, respond)).await;
            }
            Answered::Error(head, trailers) => return passed_on(head, trailers, respond).map(|()| Attempt::Ended),
            Answered::Message(received) => match read(worker, received, reading)? {
                Ok(attempt) => return Ok(attempt),
                Err(unsettled) => unsettled,
            },
        };
        // Rare, and so on the heap: every call would have room for it.
        Box::pin(self.settle(worker, unsettled, respond)).await
    }

    /// Asks for a range around the proxy's own records in parts, of a store that takes no transaction of two ranges.
    async fn range_apart(&self, worker: &Worker, reading: Reading, respond: &mut Responder) -> Result<Attempt, Fault> {
        let parts = {
            let (in_use, deks) = (worker.keyring.load(), Deks::default());
            ApartRange::of(&self.frame.message(), &worker.context(&in_use, &deks))
        };
        let parts = parts.map_err(|refusal| Fault::refused(&refusal))?;
        // What was sent were two parts.
        let parts = parts.ok_or_else(|| Fault::refused_answer(&OpenFailure::Mismatch))?;
        let path = path_of(UnaryRpc::Range);
        match ask_apart(worker, &parts, &path, &self.request.headers, respond).await? {
            None => Ok(Attempt::Ended),
            Some(received) => Ok(read(worker, received, reading)?.unwrap_or(Attempt::Again)),
        }
    }

    /// What came of an answer that says that a compare did not hold.
    async fn settle(
        &self,
        worker: &Worker,
        unsettled: Box<Unsettled>,
        respond: &mut Responder,
    ) -> Result<Attempt, Fault> {
        let Unsettled { received, job, epoch } = *unsettled;
        Ok(match self.is_still(worker, &epoch, respond).await? {
            None => Attempt::Ended,
            Some(true) => Attempt::Answered(received, job),
            Some(false) => over(worker, &epoch),
        })
    }

    /// Whether `epoch` is the one in etcd; `None` if etcd answered with an error, which has been passed on.
    async fn is_still(&self, worker: &Worker, epoch: &Epoch, respond: &mut Responder) -> Result<Option<bool>, Fault> {
        let state = &worker.config.state_prefix;
        let frame = Frame::of_parts(&[], Spliced::untouched(epoch_request(state)), &[]);
        let path = path_of(UnaryRpc::Range);
        let Some(answer) = ask(worker, &path, &self.request.headers, frame, || true, respond).await? else {
            return Err(Fault::Gone);
        };
        match receive(worker, answer, respond).await? {
            Answered::Error(head, trailers) => passed_on(head, trailers, respond).map(|()| None),
            Answered::Message(received) => is_epoch(&received.message, epoch, state)
                .map(Some)
                .map_err(|failure| Fault::refused_answer(&failure)),
        }
    }
}

/// Sealing may have made it longer than etcd takes.
fn check_length(worker: &Worker, frame: &Frame) -> Result<(), Fault> {
    let (length, limit) = (frame.message().len(), worker.max_request());
    if length > limit {
        return Err(Fault::request(&FrameError::TooLarge { length, limit }));
    }
    Ok(())
}

fn is_denied(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|status| status == "7")
}

/// An answer of which it is not known whether the client's compares did not hold or that of the epoch.
struct Unsettled {
    received: Received,
    job: OpenJob,
    epoch: Epoch,
}

/// What is to be opened of an answer; or that etcd has refused the request, because it was sealed in another epoch.
fn read(worker: &Worker, mut received: Received, reading: Reading) -> Result<Result<Attempt, Box<Unsettled>>, Fault> {
    let message = std::mem::take(&mut received.message);
    let lifted = match reading {
        Reading::Plain(response) => response.open(message).map(Lifted::Answered),
        Reading::Fenced(response) => response.open(message),
    };
    Ok(match lifted.map_err(|failure| Fault::refused_answer(&failure))? {
        Lifted::Answered(job) => Ok(Attempt::Answered(received, job)),
        Lifted::Over(epoch) => Ok(over(worker, &epoch)),
        Lifted::Either(job, epoch) => Err(Box::new(Unsettled { received, job, epoch })),
    })
}

/// etcd has refused a request because it was sealed in this epoch.
fn over(worker: &Worker, epoch: &Epoch) -> Attempt {
    worker.meters.fenced.increment(1);
    worker.keyring.is_over(epoch);
    Attempt::Again
}

/// Waits until it is known whether `keyring` may be written with; `None` if another one is in use by then.
async fn permitted(worker: &Worker, keyring: &Arc<Keyring>, respond: &mut Responder) -> Result<Option<Permit>, Fault> {
    let known = async {
        let known = timeout(WAIT_FOR_PERMIT, worker.keyring.permitted()).await;
        known.map_err(|_| Fault::no_permit())
    };
    respond.unless_gone(known).await?;
    let now = worker.keyring.writing();
    let is_same = Arc::ptr_eq(&now.keyring, keyring) && now.permit != Permit::Unknown;
    Ok(is_same.then(|| now.permit.clone()))
}

/// What etcd is to get for the client's message, with the permit of the keyring that sealed it where it stores a value under a
/// rule. Waits for a KMS only where one has to be asked for each write (v1).
async fn seal(worker: &Worker, rpc: UnaryRpc, frame: &Frame, respond: &mut Responder) -> Result<Sealed, Fault> {
    let mut deks = Deks::default();
    // One keyring seals the whole request. It is kept only where there is something to wait for: its count of holders is
    // shared by all cores.
    let in_use = worker.keyring.writing();
    let mut attempt = unary_request(rpc, frame.message(), &worker.context(&in_use.keyring, &deks));
    let writing = match attempt {
        Err(refusal) if refusal.is_pending() => Arc::clone(&in_use),
        done => return sealed_with(done, &in_use),
    };
    drop(in_use);
    loop {
        // On the heap: it is large and rarely needed, and every call would have room for it.
        let fetch = Box::pin(async {
            deks.fetch().await;
            Ok(())
        });
        respond.unless_gone(fetch).await?;
        attempt = unary_request(rpc, frame.message(), &worker.context(&writing.keyring, &deks));
        match attempt {
            Err(refusal) if refusal.is_pending() => {}
            done => return sealed_with(done, &writing),
        }
    }
}

fn sealed_with(done: Result<UnaryRequest, Refusal>, writing: &Writing) -> Result<Sealed, Fault> {
    let sealed = done.map_err(|refusal| Fault::refused(&refusal))?;
    Ok(match &writing.permit {
        _ if !sealed.response.seals() => Sealed::Plain(sealed),
        Permit::Unknown => Sealed::Unknown(Box::new(sealed), Arc::clone(&writing.keyring)),
        permit => Sealed::Under(sealed, permit.clone()),
    })
}

/// Tells the operator, once, that somebody in front of the proxy encrypts as well. It works, both ways, as long as both
/// stay: what is stored is sealed twice, and neither kube-apiserver nor the proxy could read it alone.
fn warn_once_of_double_sealing() {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            "a client writes values that are sealed already: does kube-apiserver have --encryption-provider-config too? \
             Values are now sealed twice and can't be read without this proxy"
        );
    });
}

/// Where a call is sent: not always where the client sent it.
fn path_of(rpc: UnaryRpc) -> PathAndQuery {
    // Parsed when the program is compiled.
    static PATHS: [PathAndQuery; 4] = [
        PathAndQuery::from_static("/etcdserverpb.KV/Range"),
        PathAndQuery::from_static("/etcdserverpb.KV/Put"),
        PathAndQuery::from_static("/etcdserverpb.KV/DeleteRange"),
        PathAndQuery::from_static("/etcdserverpb.KV/Txn"),
    ];
    let [range, put, delete_range, txn] = &PATHS;
    match rpc {
        UnaryRpc::Range => range,
        UnaryRpc::Put => put,
        UnaryRpc::DeleteRange => delete_range,
        UnaryRpc::Txn => txn,
    }
    .clone()
}
