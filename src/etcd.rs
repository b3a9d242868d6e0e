//! Upstream: the etcd members, connections to them, and which member the next request goes to.
//!
//! Carries requests and answers as HTTP/2 streams; never looks into a client's message. `api` makes the proxy's own calls.

mod api;
mod connection;
pub mod epoch;
mod families;
mod http;
mod kind;
pub mod lease;
mod meters;
mod patience;
mod pool;
mod probe;
mod relayed;
pub mod renewal;
mod store;

/// How long etcd itself holds on to a request, at most: its `ReqTimeout`, five seconds and twice the election timeout, which is
/// one unless configured. Source: etcd's public `server/config`.
pub const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(7);

pub use api::{CallError, Client, Guard, KeyValue, Member, Page, PageAsk, Replaced, Status, Trouble, replace_len};
pub use connection::{Call, Connection, NotEtcd, OpenCall, OpenError};
pub use families::FAMILIES;
pub use http::{HttpError, Relay};
pub use kind::{KnownKind, StoreKind};
pub use patience::{Attempts, Patience, WaitError};
pub use pool::{Config, Pool, Reachability, Unreachable};
pub use probe::{IDENTIFY, IDENTIFY_VERSION};
pub use relayed::{BrokenOff, Relayed};
pub use store::Store;
