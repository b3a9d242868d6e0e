//! Tells whoever follows something to look at once, and whoever asks when such a look is over.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells one follower. Clones tell the same one.
#[derive(Clone, Debug)]
pub struct Nudge {
    asked: Arc<watch::Sender<u64>>,
    looked: watch::Receiver<u64>,
}

/// The follower's end.
#[derive(Debug)]
pub struct Nudged {
    asked: watch::Receiver<u64>,
    looked: watch::Sender<u64>,
}

/// Both ends.
pub fn nudge() -> (Nudge, Nudged) {
    let (asked, asks) = watch::channel(0);
    let (looks, looked) = watch::channel(0);
    let nudge = Nudge {
        asked: Arc::new(asked),
        looked,
    };
    let nudged = Nudged {
        asked: asks,
        looked: looks,
    };
    (nudge, nudged)
}

impl Nudge {
    /// Has it look.
    pub fn now(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Has it look, and waits until a look has ended that began after this; or nobody is left who could.
    pub async fn looked(&self) {
        let mut ticket = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            ticket = *asked;
        });
        let mut looked = self.looked.clone();
        let _ = looked.wait_for(|looked| *looked >= ticket).await;
    }
}

impl Nudged {
    /// A look begins now: what it answers when it is over.
    pub(super) fn begin(&mut self) -> u64 {
        *self.asked.borrow_and_update()
    }

    /// A look is over.
    pub(super) fn over(&self, begun: u64) {
        self.looked.send_replace(begun);
    }

    /// Until a look is wanted; for ever where nobody is left who could want one.
    pub(super) async fn wanted(&mut self) {
        if self.asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
