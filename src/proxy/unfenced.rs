//! Writes that etcd cannot be made to refuse when they are late: the store takes no fence, or a client's token may not read
//! the epoch. They are bound by time, as well as that can be done, and other processes are told of it beforehand: a rotation
//! then waits for such writes before it proves anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::types::BootInstant;

/// How old a sealed value may be when it is handed to the connection; older ones are sealed anew.
pub const SEALED_FOR: Duration = Duration::from_secs(2);

/// Whether this process writes without a fence, and whether others know.
#[derive(Debug)]
pub struct Unfenced {
    wanted: AtomicBool,
    announced: watch::Sender<bool>,
    asked: watch::Sender<()>,
}

impl Unfenced {
    /// Of a process whose record in etcd says what it does. Without a record nobody is told, and nobody waits.
    pub fn new(has_record: bool) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            announced: watch::Sender::new(!has_record),
            asked: watch::Sender::new(()),
        }
    }

    /// Whether this process writes without a fence, or is about to.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Sees a change when that has become so.
    pub fn asked(&self) -> watch::Receiver<()> {
        self.asked.subscribe()
    }

    /// This process's record in etcd says that it does.
    pub fn is_announced(&self) {
        self.announced
            .send_if_modified(|announced| !std::mem::replace(announced, true));
    }

    /// Waits until others know that this process writes without a fence; at once, where that is so. False where it has to be
    /// waited for: what was sealed before is to be sealed anew.
    pub(super) async fn announced(&self) -> bool {
        if *self.announced.borrow() {
            return true;
        }
        if !self.wanted.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "writes are sent without a fence in etcd: the store does not take one, or a client's token may not read the epoch. \
                 Rotations wait for such writes, by time"
            );
            self.asked.send_replace(());
        }
        // The sender is this one's own.
        let _ = self.announced.subscribe().wait_for(|announced| *announced).await;
        false
    }
}

/// When a value was sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SealedAt(BootInstant);

impl SealedAt {
    pub(super) fn now() -> Self {
        Self(BootInstant::now())
    }

    /// Whether the value may still be sent.
    pub(super) fn is_fresh(self) -> bool {
        self.0.elapsed() < SEALED_FOR
    }
}
