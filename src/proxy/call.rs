//! One gRPC call: looked up in the table, given to its handler, and ended with a status whatever happens.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::HeaderMap;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::budget::Budget;
use super::fault::{Code, Fault};
use super::frame::FrameError;
use super::responder::Responder;
use super::rpcs::{Lookup, Treatment, lookup, unknown_text};
use super::worker::Worker;
use super::{checked, kv, meters, pipe, range_stream, unary, watch};
use crate::rewrite::UnaryRpc;

/// Serves one call to its end.
pub(super) async fn serve(
    worker: &Worker,
    mut request: Box<Parts>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    budget: Budget,
    peer: &str,
) {
    let share = budget.call(length(&request.headers));
    let mut respond = Responder::new(respond, budget);
    // With the query, if there is one: gRPC has none, and etcd does not know such a method.
    let path = request
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let (line, treatment) = match lookup(path.as_str()) {
        Lookup::Known(line, treatment) => (Some(line), Some(treatment)),
        Lookup::Unknown => (None, None),
    };
    let traced = worker.config.traces.begin(path.path(), &mut request.headers);
    let _under_way = worker.meters.begun(line);
    let outcome = if share.is_none() {
        Err(Fault::request(&FrameError::Crowded))
    } else if let Some(treatment) = treatment {
        route(worker, treatment, request, body, &mut respond).await
    } else {
        meters::refused("unknown_rpc");
        let text = unknown_text(path.as_str());
        Err(Fault::Refused("unknown_rpc", Code::Unimplemented, text))
    };
    match outcome {
        Ok(()) => {
            if let Some(latencies) = respond.clock.latencies() {
                worker.meters.took(line, latencies);
            }
        }
        Err(fault) => {
            if matches!(fault, Fault::Gone) {
                respond.budget().has_reset();
            } else {
                tracing::debug!(path = path.path(), ?fault, "call ended by the proxy");
            }
            if let Fault::Refused(reason, _, text) = &fault {
                worker.config.audit.access_refused(reason, peer, path.path(), text);
            }
            respond.fail(&fault);
        }
    }
    if let Some(call) = traced {
        call.end(respond.code(), respond.clock.upstream());
    }
    worker.meters.ended(line, respond.code());
}

/// What a header list takes up, as HTTP/2 counts it (RFC 9113, section 6.5.2), bytes.
pub(super) fn length(headers: &HeaderMap) -> usize {
    const OVERHEAD: usize = 32;
    let fields = headers.iter();
    fields.fold(0, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len() + value.len() + OVERHEAD)
    })
}

async fn route(
    worker: &Worker,
    treatment: Treatment,
    request: Box<Parts>,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    // Calls other than these few are rare or long: on the heap, so that their state does not swell that of every call.
    match treatment {
        Treatment::Range => kv::serve(worker, UnaryRpc::Range, request, body, respond).await,
        Treatment::Put => kv::serve(worker, UnaryRpc::Put, request, body, respond).await,
        Treatment::DeleteRange => kv::serve(worker, UnaryRpc::DeleteRange, request, body, respond).await,
        Treatment::Txn => kv::serve(worker, UnaryRpc::Txn, request, body, respond).await,
        Treatment::LeaseGrant => Box::pin(checked::lease_grant(worker, request, body, respond)).await,
        Treatment::LeaseKeepAlive => Box::pin(checked::lease_keep_alive(worker, request, body, respond)).await,
        Treatment::LeaseRevoke => Box::pin(checked::lease_revoke(worker, request, body, respond)).await,
        Treatment::Alarm => Box::pin(checked::alarm(worker, request, body, respond)).await,
        Treatment::RoleGrantPermission => {
            Box::pin(checked::role_grant_permission(worker, request, body, respond)).await
        }
        Treatment::LeaseTimeToLive => Box::pin(unary::lease_time_to_live(worker, request, body, respond)).await,
        Treatment::RangeStream => Box::pin(range_stream::serve(worker, request, body, respond)).await,
        Treatment::Watch => Box::pin(watch::serve(worker, request, body, respond)).await,
        Treatment::Lock(rpc) => Box::pin(checked::lock(worker, rpc, request, body, respond)).await,
        Treatment::Election(rpc) => Box::pin(checked::election(worker, rpc, request, body, respond)).await,
        Treatment::MemberList if worker.config.advertised.is_empty() => {
            Box::pin(pipe::serve(worker, request, body, respond, pipe::Ends::ByItself)).await
        }
        Treatment::MemberList => Box::pin(unary::member_list(worker, request, body, respond)).await,
        Treatment::Snapshot if !worker.config.allow_snapshot => Err(Fault::no_snapshot()),
        Treatment::Pipe => Box::pin(pipe::serve(worker, request, body, respond, pipe::Ends::ByItself)).await,
        Treatment::Snapshot | Treatment::PipeAtOnce => {
            Box::pin(pipe::serve(worker, request, body, respond, pipe::Ends::AtOnce)).await
        }
        Treatment::Identify => Box::pin(unary::identify(respond)).await,
        Treatment::PipeForever => Box::pin(pipe::serve(worker, request, body, respond, pipe::Ends::WhenDraining)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of what `call` returns, bytes.
    fn size<A, B, C, D, E, F, G>(_call: impl FnOnce(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }

    #[test]
    fn the_state_of_a_call_stays_small() {
        // Each call's is allocated and moved as a whole. It was 7,568 bytes when it had room for a watch, and 4,300 when what
        // is handed from function to function lay in it once for each. Some 200 are for what is at hand to seal it anew, and as many for what it takes of its client's budget.
        assert!(size(serve) <= 2720, "{}", size(serve));
    }
}
