//! One gRPC call: looked up in the table, given to its handler, and ended with a status whatever happens.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::budget::Budget;
use super::fault::{Code, Fault};
use super::responder::Responder;
use super::rpcs::{Lookup, Treatment, lookup, unknown_text};
use super::worker::Worker;
use super::{named, pipe, range_stream, unary, watch};
use crate::rewrite::UnaryRpc;

/// Serves one call to its end.
pub(super) async fn serve(
    worker: &Worker,
    request: Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    budget: Budget,
) {
    let mut respond = Responder::new(respond, budget);
    // With the query, if there is one: gRPC has none, and etcd does not know such a method.
    let path = request
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let (method, outcome) = match lookup(path.as_str()) {
        Lookup::Known(method, treatment) => (method, route(worker, treatment, request, body, &mut respond).await),
        Lookup::Unknown => {
            let text = unknown_text(path.as_str());
            ("unknown", Err(Fault::status(Code::Unimplemented, text)))
        }
    };
    if let Err(fault) = outcome {
        if !matches!(fault, Fault::Gone) {
            tracing::debug!(method, ?fault, "call ended by the proxy");
        }
        respond.fail(&fault);
    }
    metrics::counter!("etcd_encryption_proxy_requests_total", "rpc" => method, "code" => respond.code()).increment(1);
}

async fn route(
    worker: &Worker,
    treatment: Treatment,
    request: Parts,
    body: RecvStream,
    respond: &mut Responder,
) -> Result<(), Fault> {
    match treatment {
        Treatment::Range => unary::serve(worker, UnaryRpc::Range, request, body, respond).await,
        Treatment::Put => unary::serve(worker, UnaryRpc::Put, request, body, respond).await,
        Treatment::DeleteRange => unary::serve(worker, UnaryRpc::DeleteRange, request, body, respond).await,
        Treatment::Txn => unary::serve(worker, UnaryRpc::Txn, request, body, respond).await,
        Treatment::LeaseTimeToLive => unary::lease_time_to_live(worker, request, body, respond).await,
        Treatment::RangeStream => range_stream::serve(worker, request, body, respond).await,
        Treatment::Watch => watch::serve(worker, request, body, respond).await,
        Treatment::Lock(rpc) => named::lock(worker, rpc, request, body, respond).await,
        Treatment::Election(rpc) => named::election(worker, rpc, request, body, respond).await,
        Treatment::Pipe => pipe::serve(worker, request, body, respond, pipe::Ends::ByItself).await,
        Treatment::PipeForever => pipe::serve(worker, request, body, respond, pipe::Ends::WhenDraining).await,
    }
}
