//! Whether this process may write what it encrypts: as long as its record is in etcd, says what is so, no key that it
//! writes with has been removed by a rotation that it did not see, and a keyring that should be in etcd is there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::build::Parts;
use super::follower::Follower;
use crate::etcd::{CallError, Store};
use crate::files::Nudge;
use crate::keyring::KeyringHandle;
use crate::members;
use crate::rotation::barred;
use crate::types::{StatePrefix, Tenure};

/// How long the configuration may take to be looked at before the record is written all the same: the record then says what
/// is in use, and a key that may not be written with is found below.
const RENEWAL: Duration = Duration::from_secs(10);

/// Keeps [`Tenure`].
pub(super) struct Standing {
    keyring: Arc<KeyringHandle>,
    tenure: Arc<Tenure>,
    state: StatePrefix,
    is_there: watch::Sender<bool>,
    told: RefCell<Option<Arc<str>>>,
}

impl Standing {
    /// Of the process that `parts` serve; `is_there` is set while its record is in etcd.
    pub(super) fn new(parts: &Parts, state: &StatePrefix, is_there: watch::Sender<bool>) -> Self {
        Self {
            keyring: Arc::clone(&parts.keyring),
            tenure: Arc::clone(&parts.proxy.tenure),
            state: state.clone(),
            is_there,
            told: RefCell::new(None),
        }
    }
}

/// How the configuration is looked at anew.
pub(super) enum Renewal {
    /// By looking at its file.
    File(Nudge),
    /// By looking into etcd.
    Managed(Rc<Follower>),
}

/// [`Standing`], with the means to renew what the record says.
pub(super) struct Witness {
    pub(super) standing: Standing,
    pub(super) renewal: Renewal,
}

impl<S: Store> members::Witness<S> for Witness {
    async fn renew(&self) {
        let renewed = async {
            match &self.renewal {
                Renewal::File(nudge) => nudge.looked().await,
                Renewal::Managed(follower) => follower.renew().await,
            }
        };
        if timeout(RENEWAL, renewed).await.is_err() {
            tracing::warn!("the configuration is still being looked at; this process's record says what is in use");
        }
    }

    async fn stands(&self, store: &S, now: Instant, left: Duration) -> Result<(), CallError> {
        // After the record was written, and with what is in use by now: whoever removes a key first notes that, and looks
        // for records then. So one of the two sees the other.
        let barred = barred(store, &self.standing.state, &self.standing.keyring.snapshot()).await?;
        let lost = match &self.renewal {
            Renewal::File(_) => None,
            // Asked last: what it sees meanwhile ends the tenure, which must not be undone.
            Renewal::Managed(follower) => follower.lost(),
        };
        let why = lost.or_else(|| barred.map(|why| Arc::from(why.to_string())));
        self.standing.stands(why, now, left);
        Ok(())
    }

    fn falls(&self) {
        self.standing.end();
    }
}

impl Standing {
    /// The record stands for `left` from `now`, and says what is so; `why` nothing may be written all the same.
    fn stands(&self, why: Option<Arc<str>>, now: Instant, left: Duration) {
        match why {
            None => {
                if self.told.take().is_some() {
                    tracing::info!("values are encrypted again");
                }
                self.tenure.extend(now.into_std(), left);
            }
            Some(why) => {
                self.tenure.end();
                let told = self.told.replace(Some(Arc::clone(&why)));
                if told.as_ref() != Some(&why) {
                    tracing::error!(why = &*why, "writes of values that this process encrypts are refused");
                }
            }
        }
        self.is_there.send_replace(true);
    }

    /// The record no longer stands.
    fn end(&self) {
        self.tenure.end();
        self.is_there.send_replace(false);
    }
}
