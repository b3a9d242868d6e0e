//! Downstream: accepts clients, routes each RPC, and is the only place that makes a gRPC status of an error of ours.
//!
//! A call stays on the runtime that accepted its connection, from its first byte to its last. What a message means is
//! decided in `rewrite`; where etcd is, in `etcd`.

mod apart;
mod budget;
mod call;
mod checked;
mod clock;
mod connection;
mod crowd;
mod deframer;
mod families;
mod fault;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod heartbeat;
mod http;
mod kv;
mod ledger;
mod meters;
mod open;
mod pipe;
mod range_stream;
mod responder;
pub mod rpcs;
mod runtimes;
mod unary;
mod unfenced;
mod unopened;
mod upstream;
mod watch;
mod worker;

pub use families::FAMILIES;
pub use heartbeat::Heartbeats;
pub use ledger::Ledger;
pub use runtimes::{Runtimes, Shared};
pub use unfenced::{SEALED_FOR, Unfenced};
pub use unopened::{Encounters, Unopened};
pub use worker::Config;

/// How far the proxy is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Serving.
    Running,
    /// No member can be reached, and clients are to go elsewhere: taking nothing new and holding nothing, until one can.
    Withdrawn,
    /// Taking nothing new; ending what runs.
    Draining,
    /// Closing everything now.
    Stopped,
}
