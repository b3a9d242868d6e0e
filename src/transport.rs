//! Byte streams under HTTP: where to listen and to dial, sockets, TLS on either side, and writes gathered per tick.
//!
//! Knows nothing of gRPC or etcd's messages, and of HTTP but one frame, whose writing may wait.

mod backlog;
mod coalesce;
mod dial;
mod endpoint;
mod flusher;
mod listen_url;
mod listener;
mod pong;
mod race;
mod socket;
mod stream;
mod turns;
mod url_parts;

pub use backlog::Backlog;
pub use coalesce::Coalesced;
pub use dial::{DialError, Dialer};
pub use endpoint::{Endpoint, Target};
pub use flusher::Flusher;
pub use listen_url::{ListenAddress, ListenUrl};
pub use listener::{Accepted, BindError, Closed, Listener};
pub use socket::Socket;
pub use stream::{ByteMeter, Stream};
pub use turns::Turns;
pub use url_parts::{MAX_SOCKET_PATH, UrlError, UrlProblem};
