//! Any bytes as one message of a kind, driven to the end: what must hold of all of them is checked on the way.
//! The fuzz targets look further.

use bytes::Bytes;

use crate::rewrite::{
    Context, ElectionRpc, LockRpc, OpenJob, Progress, UnaryRpc, WatchSession, alarm_request, election_request,
    lease_grant_request, lease_revoke_request, lease_time_to_live_response, lock_request, member_list_response,
    range_stream_request, role_grant_permission_request, unary_request,
};
use crate::wire::Spliced;

/// How many bytes a step deals with: few, so that there are several.
const BUDGET: usize = 64;

/// `data` as the request of every unary call; then `answer` as what etcd answered.
pub(super) fn unary(data: &[u8], answer: &[u8], ctx: &Context<'_>) {
    for rpc in [UnaryRpc::Range, UnaryRpc::Put, UnaryRpc::DeleteRange, UnaryRpc::Txn] {
        if let Ok(request) = unary_request(rpc, Bytes::copy_from_slice(data), ctx) {
            drain(request.message);
            if let Ok(job) = request.response.open(Bytes::copy_from_slice(answer)) {
                finish(job, ctx);
            }
        }
    }
}

/// `data` as a message of every other kind, from either side.
pub(super) fn streams(data: &[u8], ctx: &Context<'_>) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(request) = range_stream_request(bytes.clone(), ctx) {
        drain(request.message);
        if let Ok(job) = request.responses.open(bytes.clone()) {
            finish(job, ctx);
        }
    }
    let mut session = WatchSession::new();
    if let Ok(message) = session.request(bytes.clone(), ctx) {
        drain(message);
    }
    if let Ok(Some(job)) = session.response(bytes.clone(), ctx) {
        finish(job, ctx);
    }
    for rpc in [LockRpc::Lock, LockRpc::Unlock] {
        drop(lock_request(rpc, data, ctx));
    }
    for rpc in [
        ElectionRpc::Campaign,
        ElectionRpc::Proclaim,
        ElectionRpc::Leader,
        ElectionRpc::Resign,
    ] {
        drop(election_request(rpc, data, ctx));
    }
    for check in [
        alarm_request,
        role_grant_permission_request,
        lease_grant_request,
        lease_revoke_request,
    ] {
        drop(check(data));
    }
    if let Ok(message) = member_list_response(bytes.clone(), &["http://127.0.0.1:3379".to_owned()]) {
        drain(message);
    }
    if let Ok(message) = lease_time_to_live_response(bytes, ctx.state) {
        drain(message);
    }
}

fn finish(mut job: OpenJob, ctx: &Context<'_>) {
    loop {
        match job.step(ctx, BUDGET) {
            Ok(Progress::More(rest)) => job = rest,
            Ok(Progress::Waiting(_)) => unreachable!("no KMS"),
            Ok(Progress::Done(opened)) => return drain(opened.message),
            Err(_) => return,
        }
    }
}

/// A message must be as long as it says, however it is handed out.
fn drain(mut message: Spliced) {
    let promised = message.len();
    let mut handed_out = 0;
    while let Some(chunk) = message.next_chunk(BUDGET) {
        assert!((1..=BUDGET).contains(&chunk.len()));
        handed_out += chunk.len();
    }
    assert_eq!(handed_out, promised);
}
