//! What every call on one runtime shares. One of these per core; nothing in it crosses threads but immutable settings.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::Stage;
use super::ledger::Ledger;
use super::meters::Meters;
use super::unfenced::Unfenced;
use super::unopened::Unopened;
use crate::audit::Audit;
use crate::etcd::{Pool, Relay};
use crate::keyring::{Keyring, KeyringHandle};
use crate::rewrite::{Context, Fence, OnUndecryptable};
use crate::traces::Traces;
use crate::transport::Dialer;
use crate::types::{Epoch, StatePrefix, Tenure};
use crate::value::Deks;

/// etcd's receive limit stands this much above `--max-request-bytes`: room for what surrounds the values.
const REQUEST_OVERHEAD: usize = 512 * 1024;

/// Flow-control window of a call that is read at once and to its end, bytes: room for what is under way while it is read.
pub(super) const CALL_WINDOW: u32 = 256 * 1024;

/// Flow-control window of a call that is read as fast as its client reads, bytes. A client may leave a thousand watches
/// unread, and this is what each then holds here; etcd itself keeps what is beyond it.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;

/// Longest message taken from etcd, bytes: what Go's gRPC client takes.
pub(super) const MAX_RESPONSE: usize = i32::MAX as usize;

/// Settings of the data path, the same for every runtime.
#[derive(Debug)]
pub struct Config {
    /// Keys that only the proxy itself may touch.
    pub state_prefix: StatePrefix,
    /// Whether others know what this process has loaded.
    pub tenure: Arc<Tenure>,
    /// Writes without a fence, and whether others know of them.
    pub unfenced: Arc<Unfenced>,
    /// What a reader gets for a sealed value that no key opens.
    pub on_undecryptable: OnUndecryptable,
    /// Values that no key opens, as they were met.
    pub unopened: Arc<Unopened>,
    /// etcd's limit on a request, bytes.
    pub max_request_bytes: usize,
    /// Streams that one client connection may have open at once.
    pub max_concurrent_streams: u32,
    /// What all clients may make the process hold.
    pub ledger: Arc<Ledger>,
    /// Where clients that follow the members are sent; empty: to the members themselves.
    pub advertised: Vec<String>,
    /// Whether clients may take snapshots, which hold what is under the state prefix.
    pub allow_snapshot: bool,
    /// Where what somebody may have to account for is told.
    pub audit: Audit,
    /// Where calls are traced.
    pub traces: Traces,
    /// Members, for plain HTTP requests.
    pub http_members: Arc<[Dialer]>,
}

/// One runtime's share of the proxy.
pub(super) struct Worker {
    /// For calls that end by themselves.
    pub(super) calls: Rc<Pool>,
    /// For calls that stay: their unread answers must not stand in the way of the others.
    pub(super) streams: Rc<Pool>,
    /// For plain HTTP requests.
    pub(super) relay: Relay,
    pub(super) keyring: Arc<KeyringHandle>,
    pub(super) config: Arc<Config>,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) meters: Meters,
    /// The fence of the epoch that was written in last.
    pub(super) fence: RefCell<Option<Rc<Fence>>>,
}

impl Worker {
    /// Longest message taken from a client, bytes, as etcd has it.
    pub(super) fn max_request(&self) -> usize {
        self.config.max_request_bytes.saturating_add(REQUEST_OVERHEAD)
    }

    /// What one message is rewritten under.
    pub(super) fn context<'a>(&'a self, keyring: &'a Keyring, deks: &'a Deks) -> Context<'a> {
        Context {
            keyring,
            deks,
            state: &self.config.state_prefix,
            on_undecryptable: self.config.on_undecryptable,
        }
    }

    /// The fence of `epoch`: one is made for all requests of it.
    pub(super) fn fence(&self, epoch: &Epoch) -> Rc<Fence> {
        let mut known = self.fence.borrow_mut();
        if let Some(fence) = known.as_ref().filter(|fence| fence.epoch() == epoch) {
            return Rc::clone(fence);
        }
        let fence = Rc::new(Fence::new(epoch, &self.config.state_prefix));
        *known = Some(Rc::clone(&fence));
        fence
    }

    /// Resolves when clients are to go elsewhere: the proxy begins to drain, or withdraws.
    pub(super) async fn draining(&self) {
        let mut stage = self.stage.clone();
        // The sender outlives every worker; if it were gone, that would be a stop as well.
        let _ = stage.wait_for(|stage| *stage != Stage::Running).await;
    }
}
