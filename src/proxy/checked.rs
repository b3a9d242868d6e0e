//! Calls that pass as they are once their request has been checked: locks and elections, whose keys etcd itself writes and
//! reads in the clear, are kept off encrypted prefixes; leases of the proxy's own records are kept from being ended; and etcd is
//! kept from requests that it does not survive.

use h2::RecvStream;
use http::request::Parts;

use super::fault::Fault;
use super::frame::Frames;
use super::pipe::{self, Ends};
use super::responder::Responder;
use super::unary::only_message;
use super::worker::Worker;
use crate::rewrite::{
    Context, ElectionRpc, LockRpc, Refusal, alarm_request, election_request, lease_grant_request, lease_revoke_request,
    lock_request, role_grant_permission_request,
};
use crate::value::Deks;

/// Serves a call of the Lock service.
pub(super) async fn lock(
    worker: &Worker,
    rpc: LockRpc,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, ctx| lock_request(rpc, message, ctx),
        request,
        body,
        respond,
        // Locks, campaigns and observers wait for others, for as long as that takes.
        Ends::WhenDraining,
    )
    .await
}

/// Serves a call of the Election service.
pub(super) async fn election(
    worker: &Worker,
    rpc: ElectionRpc,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, ctx| election_request(rpc, message, ctx),
        request,
        body,
        respond,
        Ends::WhenDraining,
    )
    .await
}

/// Serves `Maintenance.Alarm`.
pub(super) async fn alarm(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, _| alarm_request(message),
        request,
        body,
        respond,
        Ends::ByItself,
    )
    .await
}

/// Serves `Auth.RoleGrantPermission`.
pub(super) async fn role_grant_permission(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, _| role_grant_permission_request(message),
        request,
        body,
        respond,
        Ends::ByItself,
    )
    .await
}

/// Serves `Lease.LeaseGrant`.
pub(super) async fn lease_grant(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, _| lease_grant_request(message),
        request,
        body,
        respond,
        Ends::ByItself,
    )
    .await
}

/// Serves `Lease.LeaseKeepAlive`: each request is checked as it comes.
pub(super) async fn lease_keep_alive(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    let frames = Frames::of_request(body, &request.headers, worker.max_request(), respond.budget());
    pipe::messages(worker, request, (frames, lease_revoke_request), respond).await
}

/// Serves `Lease.LeaseRevoke`.
pub(super) async fn lease_revoke(
    worker: &Worker,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    serve(
        worker,
        |message, _| lease_revoke_request(message),
        request,
        body,
        respond,
        Ends::ByItself,
    )
    .await
}

/// Checks the request, then pipes the call.
async fn serve(
    worker: &Worker,
    check: impl FnOnce(&[u8], &Context<'_>) -> Result<(), Refusal>,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
    ends: Ends,
) -> Result<(), Fault> {
    let (frame, _share) = only_message(worker, &request.headers, body, respond.budget()).await?;
    check(
        &frame.message(),
        &worker.context(&worker.keyring.load(), &Deks::default()),
    )
    .map_err(|refusal| Fault::refused(&refusal))?;
    pipe::message(worker, request, frame, respond, ends).await
}
