//! Calls of the proxy's own to etcd: its records, the sweep, what an operator is told about the store.
//!
//! Messages are written and read by hand through `wire`, as everywhere here: a few fields of a few messages. A call is
//! made once; whether it is made again is decided by who knows what it was for. Never touches a client's message, and
//! needs no token: where etcd's authentication is on, the client certificate is the user.

mod auth;
mod call;
mod error;
mod guard;
mod kv;
mod lease;
mod maintenance;
mod read;
mod settled;

use std::rc::Rc;
use std::time::Duration;

pub use error::{CallError, Trouble};
pub use guard::Guard;
pub use kv::{KeyValue, Page, PageAsk, Replaced, replace_len};
pub use maintenance::{Member, Status};

use super::Pool;

/// Calls to whichever member the pool is connected to.
#[derive(Clone)]
pub struct Client {
    pool: Rc<Pool>,
    /// How long a call waits for a member; no longer than the pool does.
    wait: Duration,
}

impl Client {
    /// Calls over `pool`'s connection.
    pub fn new(pool: Rc<Pool>) -> Self {
        let wait = Duration::MAX;
        Self { pool, wait }
    }

    /// The same for somebody who waits no longer than `wait` for a member.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}
