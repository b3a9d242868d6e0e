//! Whether others know what this process has loaded: as long as its record is in etcd and says what is so, no key that it
//! writes with has been dropped by a rotation that it did not see, and a keyring that should be in etcd is there.
//!
//! Writes under the fence do not depend on it. Those that cannot be fenced do, and so does what is made of a value that does not
//! open: others may have a key that this process has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::build::Parts;
use super::permits::Renewal;
use crate::etcd::{CallError, Store};
use crate::keyring::{KeyringHandle, Permit};
use crate::members::{self, Rivals};
use crate::proxy::Unfenced;
use crate::rotation::Notes;
use crate::types::{BootInstant, StatePrefix, Tenure};

/// How long the configuration may take to be looked at before the record is written all the same: the record then says what
/// is in use, and a key that may not be written with is found below.
const RENEWAL: Duration = Duration::from_secs(10);

/// Keeps [`Tenure`].
pub(super) struct Standing {
    keyring: Arc<KeyringHandle>,
    tenure: Arc<Tenure>,
    state: StatePrefix,
    is_there: watch::Sender<bool>,
    unfenced: Arc<Unfenced>,
    /// Whether the record says so, by what was last described.
    says_unfenced: Arc<AtomicBool>,
    /// What is known of rotations beside their record.
    notes: Notes,
    /// Whether others hold its keys' names with other bytes.
    rivals: Rivals,
}

impl Standing {
    /// Of the process that `parts` serve; `is_there` is set while its record is in etcd.
    pub(super) fn new(
        parts: &Parts,
        state: &StatePrefix,
        is_there: watch::Sender<bool>,
        says_unfenced: Arc<AtomicBool>,
        notes: Notes,
        rivals: Rivals,
    ) -> Self {
        Self {
            keyring: Arc::clone(&parts.keyring),
            tenure: Arc::clone(&parts.proxy.tenure),
            state: state.clone(),
            is_there,
            unfenced: Arc::clone(&parts.proxy.unfenced),
            says_unfenced,
            notes,
            rivals,
        }
    }
}

/// [`Standing`], with the means to renew what the record says.
pub(super) struct Witness {
    pub(super) standing: Standing,
    pub(super) renewal: Renewal,
}

impl<S: Store> members::Witness<S> for Witness {
    async fn renew(&self) {
        let renewed = async {
            self.renewal.look().await;
        };
        if timeout(RENEWAL, renewed).await.is_err() {
            tracing::warn!("the configuration is still being looked at; this process's record says what is in use");
        }
    }

    async fn stands(&self, store: &S, now: BootInstant, left: Duration) -> Result<(), CallError> {
        // After the record was written, and with what is in use by now: whoever removes a key first notes that, and looks
        // for records then. So one of the two sees the other.
        let keyring = self.standing.keyring.snapshot();
        let (state, notes) = (&self.standing.state, &self.standing.notes);
        let barred = notes.barred(store, state, &keyring).await?;
        // After its own record is there, so that of two that come at once one sees the other at least.
        let rival = self
            .renewal
            .rival(&self.standing.rivals, store, state, &keyring)
            .await?;
        // Asked last: what it sees meanwhile ends the tenure, which must not be undone.
        let lost = self.renewal.lost();
        let why = lost.or_else(|| barred.map(|why| Arc::from(why.to_string()))).or(rival);
        if let Some(why) = &why {
            self.standing.keyring.permit(&keyring, Permit::Refused(Arc::clone(why)));
        }
        self.standing.stands(why.is_none(), now, left);
        Ok(())
    }

    fn falls(&self) {
        self.standing.end();
    }
}

impl Standing {
    /// The record stands for `left` from `now`, and says what is so; `is_true`: of a configuration that may be in use.
    fn stands(&self, is_true: bool, now: BootInstant, left: Duration) {
        if is_true {
            self.tenure.extend(now, left);
        } else {
            self.tenure.end();
        }
        if self.says_unfenced.load(Ordering::Acquire) {
            self.unfenced.is_announced();
        }
        self.is_there.send_replace(true);
    }

    /// The record no longer stands.
    fn end(&self) {
        self.tenure.end();
        self.rivals.is_gone();
        self.is_there.send_replace(false);
    }
}
