//! Locks and elections: etcd writes and reads their keys itself, in the clear, so they are kept off encrypted prefixes.

use h2::RecvStream;
use http::request::Parts;

use super::fault::Fault;
use super::pipe::{self, Ends};
use super::responder::Responder;
use super::unary::only_message;
use super::worker::Worker;
use crate::rewrite::{Context, ElectionRpc, LockRpc, Refusal, election_request, lock_request};
use crate::value::Deks;

/// Serves a call of the Lock service.
pub(super) async fn lock(
    worker: &Worker,
    rpc: LockRpc,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, ctx| lock_request(rpc, message, ctx),
        request,
        body,
        respond,
    )
    .await
}

/// Serves a call of the Election service.
pub(super) async fn election(
    worker: &Worker,
    rpc: ElectionRpc,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, ctx| election_request(rpc, message, ctx),
        request,
        body,
        respond,
    )
    .await
}

/// Checks the request, then pipes the call.
async fn serve(
    worker: &Worker,
    check: impl FnOnce(&[u8], &Context<'_>) -> Result<(), Refusal>,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let (frame, _share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    check(
        &frame.message(),
        &worker.context(&worker.keyring.load(), &Deks::default()),
    )
    .map_err(|refusal| Fault::refused(&refusal))?;
    // Locks, campaigns and observers wait for others, for as long as that takes.
    pipe::message(worker, request, frame, respond, Ends::WhenDraining).await
}
