//! Where bytes come from and go to: the addresses that operators write.

mod endpoint;
mod listen_url;
mod url_parts;

pub use endpoint::{Endpoint, Target};
pub use listen_url::{ListenAddress, ListenUrl};
pub use url_parts::{MAX_SOCKET_PATH, UrlError, UrlProblem};
