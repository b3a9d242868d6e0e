//! Byte streams under HTTP: where to listen and to dial, sockets, TLS on either side, and writes gathered per tick.
//!
//! Knows nothing of HTTP, gRPC or etcd's messages.

mod coalesce;
mod dial;
mod endpoint;
mod listen_url;
mod listener;
mod socket;
mod stream;
mod url_parts;

pub use coalesce::{Coalesced, Flusher};
pub use dial::{DialError, Dialer};
pub use endpoint::{Endpoint, Target};
pub use listen_url::{ListenAddress, ListenUrl};
pub use listener::{Accepted, BindError, Listener};
pub use socket::Socket;
pub use stream::{ByteMeter, Stream};
pub use url_parts::{MAX_SOCKET_PATH, UrlError, UrlProblem};
