//! Which field of which etcd message carries a value, and what is refused over ciphertext.
//!
//! Takes a message's bytes, returns the bytes to send on: values sealed on their way to etcd and opened on their way
//! back, each by the rule and with the key of its own `KeyValue`, and every other byte as it was. Requests that etcd
//! would evaluate over ciphertext, and those that reach for the proxy's own records, are refused. Pure: no IO, no clock,
//! no gRPC status; a caller that must not block does an [`OpenJob`] in steps.
//!
//! One request writes with one keyring: the one in the [`Context`] it is given.

mod apart;
mod bounds;
mod compare;
mod context;
mod deadly;
mod failure;
mod fence;
mod found;
mod lease;
mod members;
mod merge;
mod message;
mod names;
mod oneof;
mod open;
mod pair;
mod plan;
mod put;
mod range;
mod range_stream;
mod refusal;
mod txn;
mod unary;
mod watch;

#[cfg(test)]
mod tests;

pub use apart::{ApartRange, joined};
pub use context::{Context, OnUndecryptable};
pub use deadly::{alarm_request, role_grant_permission_request};
pub use failure::{EscapedKey, OpenFailure, Undecryptable, Unopened};
pub use fence::{Fence, Fenced, FencedResponse, Lifted, Unfenced, epoch_request, is_epoch};
pub use lease::{lease_grant_request, lease_revoke_request, lease_time_to_live_response};
pub use members::member_list_response;
pub use names::{ElectionRpc, LockRpc, election_request, lock_request};
pub use open::{OpenJob, Opened, Progress};
pub use plan::ResponsePlan;
pub use range_stream::{RangeStreamRequest, RangeStreamResponses, range_stream_request};
pub use refusal::{Refusal, RefusalKind};
pub use unary::{UnaryRequest, UnaryRpc, unary_request};
pub use watch::WatchSession;
