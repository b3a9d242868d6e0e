//! Handles of the metrics of client traffic, one set for each runtime: found when first needed, and from then on without a
//! lock. Knows of a call only its RPC, its end and its times.

use std::cell::OnceCell;
use std::rc::Rc;

use metrics::{Counter, Gauge, Histogram};

use super::clock::Latencies;
use super::families::{
    ACCEPTED, ADDED_LATENCY, CLIENT_MEMORY, CONNECTIONS, FENCED, HANDSHAKE_FAILURES, IN_FLIGHT, LET_GO, RECEIVED,
    REFUSED, REQUESTS, SENT, UNAVAILABLE, UNDECRYPTABLE, UNOPENED, UPSTREAM_LATENCY, WATCHES,
};
use super::fault::{self, CODES};
use super::ledger::LetGo;
use super::rpcs::RPCS;
use crate::transport::ByteMeter;

/// What is counted on one runtime.
pub(super) struct Meters {
    /// One for each line of [`RPCS`], and one for what has no line.
    rpcs: Vec<RpcMeter>,
    pub(super) undecryptable: Counter,
    pub(super) unavailable: Counter,
    /// Writes that were sealed in an epoch that is over.
    pub(super) fenced: Counter,
    pub(super) open_watches: Rc<Gauge>,
    pub(super) connections: Rc<Gauge>,
    pub(super) accepted: Counter,
    pub(super) handshake_failures: Counter,
    /// Bytes from and to clients.
    pub(super) bytes: ByteMeter,
}

/// What is counted for one RPC.
struct RpcMeter {
    name: &'static str,
    in_flight: OnceCell<Rc<Gauge>>,
    /// By the number of the status; the last is for numbers that gRPC does not define.
    ended: [OnceCell<Counter>; CODES + 1],
    latencies: OnceCell<(Histogram, Histogram)>,
}

/// Which RPC is counted for: a line of [`RPCS`], or none.
pub(super) type Line = Option<usize>;

impl Meters {
    pub(super) fn new() -> Self {
        // There from the start: an alert could not tell nothing met from nothing known.
        drop([UNOPENED, CLIENT_MEMORY].map(|family| metrics::gauge!(family.name)));
        drop(LetGo::ALL.map(|why| metrics::counter!(LET_GO.name, "reason" => why.name())));
        let known = RPCS.iter().map(|(service, method, _)| label(service, method));
        Self {
            rpcs: known.chain(["unknown"]).map(RpcMeter::new).collect(),
            undecryptable: metrics::counter!(UNDECRYPTABLE.name),
            unavailable: metrics::counter!(UNAVAILABLE.name),
            fenced: metrics::counter!(FENCED.name),
            open_watches: Rc::new(metrics::gauge!(WATCHES.name)),
            connections: Rc::new(metrics::gauge!(CONNECTIONS.name)),
            accepted: metrics::counter!(ACCEPTED.name),
            handshake_failures: metrics::counter!(HANDSHAKE_FAILURES.name),
            bytes: ByteMeter {
                received: metrics::counter!(RECEIVED.name),
                sent: metrics::counter!(SENT.name),
            },
        }
    }

    /// A client is let go: why, and which.
    #[expect(clippy::unused_self, reason = "rare: its handle is found when it is needed")]
    pub(super) fn let_go(&self, why: LetGo, peer: &str) {
        metrics::counter!(LET_GO.name, "reason" => why.name()).increment(1);
        tracing::warn!(client = peer, reason = why.text(), "a client connection was ended");
    }

    /// A call has begun; it is under way until what is returned is dropped.
    pub(super) fn begun(&self, line: Line) -> Level {
        let rpc = self.rpc(line);
        let gauge = rpc.map(|rpc| {
            rpc.in_flight
                .get_or_init(|| Rc::new(metrics::gauge!(IN_FLIGHT.name, "rpc" => rpc.name)))
        });
        Level::one_more(gauge.cloned().unwrap_or_else(|| Rc::new(Gauge::noop())))
    }

    /// A call has ended with a status; `None`: its client has gone.
    pub(super) fn ended(&self, line: Line, code: Option<u16>) {
        let code = code.unwrap_or(fault::CANCELLED);
        let Some(rpc) = self.rpc(line) else { return };
        let Some(counter) = rpc.ended.get(usize::from(code).min(CODES)) else {
            return;
        };
        let register = || metrics::counter!(REQUESTS.name, "rpc" => rpc.name, "code" => fault::code_name(code));
        counter.get_or_init(register).increment(1);
    }

    /// etcd has answered a call, and so took its time.
    pub(super) fn took(&self, line: Line, latencies: Latencies) {
        let Some(rpc) = self.rpc(line) else { return };
        let register = || {
            (
                metrics::histogram!(ADDED_LATENCY.name, "rpc" => rpc.name),
                metrics::histogram!(UPSTREAM_LATENCY.name, "rpc" => rpc.name),
            )
        };
        let (added, upstream) = rpc.latencies.get_or_init(register);
        added.record(latencies.added);
        upstream.record(latencies.upstream);
    }

    fn rpc(&self, line: Line) -> Option<&RpcMeter> {
        self.rpcs.get(line.unwrap_or(RPCS.len()))
    }
}

impl RpcMeter {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            in_flight: OnceCell::new(),
            ended: [const { OnceCell::new() }; CODES + 1],
            latencies: OnceCell::new(),
        }
    }
}

/// The method's name. gRPC's health service has methods of the same names as etcd's services.
fn label(service: &str, method: &'static str) -> &'static str {
    match (service, method) {
        ("grpc.health.v1.Health", "Check") => "Health.Check",
        ("grpc.health.v1.Health", "List") => "Health.List",
        ("grpc.health.v1.Health", "Watch") => "Health.Watch",
        _ => method,
    }
}

/// Counts a request that is answered here and not sent on. Rare enough to look its series up.
pub(super) fn refused(reason: &'static str) {
    metrics::counter!(REFUSED.name, "reason" => reason).increment(1);
}

/// So many more on a gauge, until it is dropped. A gauge's own count of holders is shared by all runtimes, so it is held by
/// the runtime's.
pub(super) struct Level {
    gauge: Rc<Gauge>,
    held: u32,
}

impl Level {
    pub(super) fn none(gauge: Rc<Gauge>) -> Self {
        Self { gauge, held: 0 }
    }

    pub(super) fn one_more(gauge: Rc<Gauge>) -> Self {
        let mut level = Self::none(gauge);
        level.set(1);
        level
    }

    /// Holds this many from now on.
    pub(super) fn set(&mut self, held: u32) {
        if held != self.held {
            self.gauge.increment(f64::from(held) - f64::from(self.held));
            self.held = held;
        }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_rpcs_have_one_label() {
        let labels: BTreeSet<_> = RPCS.iter().map(|(service, method, _)| label(service, method)).collect();
        assert_eq!(labels.len(), RPCS.len());
    }
}
