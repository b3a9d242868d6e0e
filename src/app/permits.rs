//! Gives the keyring in use its permit to write, and finds it out anew when the epoch in etcd has been replaced, when another
//! keyring is in use, or when it was refused.
//!
//! The order is the argument. First the epoch is read; then the configuration is looked at (a keyring in etcd is read along with
//! the epoch, at one revision), and what is there is taken into use; then it is asked whether a rotation has noted a key of it as dropped. Who drops a key notes that first and replaces
//! the epoch afterwards. So either this process sees the note, or its epoch is one that etcd no longer takes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::follower::Follower;
use super::writes::{Told, Writes};
use crate::etcd::{self, CallError, Client, Store, epoch, renewal};
use crate::files::Nudge;
use crate::keyring::{Keyring, KeyringHandle, Permit};
use crate::members::Rivals;
use crate::rotation::Notes;
use crate::types::{Backoff, Epoch, StatePrefix};

/// Between two attempts while etcd is in trouble, and what it doubles to.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Between two questions whether what was refused may be now.
const REFUSED: Duration = Duration::from_secs(5);

/// How long plugins may take to wrap fresh seeds before the others' values are written on.
const RENEWAL: Duration = Duration::from_secs(5);

/// How the configuration is looked at anew.
#[derive(Clone)]
pub(super) enum Renewal {
    /// By looking at its file.
    File(Nudge),
    /// By looking into etcd.
    Managed(Rc<Follower>),
}

impl Renewal {
    /// Looks, and has what is found taken into use before it returns.
    pub(super) async fn look(&self) {
        match self {
            Self::File(nudge) => nudge.looked().await,
            Self::Managed(follower) => {
                follower.renew().await;
            }
        }
    }

    /// The same, and the epoch since when what is in use has been looked at: read before the file is looked at, or together with
    /// the keyring, at one revision.
    async fn epoch(&self, client: &Client, state: &StatePrefix) -> Result<Epoch, Trouble> {
        match self {
            Self::File(nudge) => {
                let epoch = epoch::read(client, state).await?;
                nudge.looked().await;
                Ok(epoch)
            }
            Self::Managed(follower) => follower.renew().await.ok_or(Trouble::NotLooked),
        }
    }

    /// Why `keyring` must not be written with: another member holds a key's name with other bytes. A keyring in etcd is the same for
    /// all.
    pub(super) async fn rival<S: Store>(
        &self,
        rivals: &Rivals,
        store: &S,
        state: &StatePrefix,
        keyring: &Keyring,
    ) -> Result<Option<Arc<str>>, CallError> {
        match self {
            Self::File(_) => rivals.look(store, state, keyring).await,
            Self::Managed(_) => Ok(None),
        }
    }

    /// Why the keyring in use must not be written with: it is not the one in etcd.
    pub(super) fn lost(&self) -> Option<Arc<str>> {
        match self {
            Self::File(_) => None,
            Self::Managed(follower) => follower.lost(),
        }
    }
}

/// What it takes.
pub(super) struct Permits {
    keyring: Arc<KeyringHandle>,
    state: StatePrefix,
    renewal: Renewal,
    /// Whether it is found out before the first write that waits for it.
    is_eager: bool,
    /// Told of what comes of it.
    writes: Arc<Writes>,
    /// What is known of rotations beside their record.
    notes: Notes,
    /// Whether others hold its keys' names with other bytes; of a process that is no member nobody knows, nor does it of others.
    rivals: Option<Rivals>,
    /// Whether the store takes the fence, once that is known.
    takes_fence: OnceCell<bool>,
}

impl Permits {
    /// For the keyring in use, whose configuration is looked at by `renewal`. Unless it `is_eager` it asks etcd nothing until
    /// somebody wants to write.
    pub(super) fn new(
        keyring: Arc<KeyringHandle>,
        state: StatePrefix,
        renewal: Renewal,
        is_eager: bool,
        writes: Arc<Writes>,
        notes: Notes,
        rivals: Option<Rivals>,
    ) -> Self {
        Self {
            keyring,
            state,
            renewal,
            is_eager,
            writes,
            notes,
            rivals,
            takes_fence: OnceCell::new(),
        }
    }

    /// Works for as long as it is polled.
    pub(super) async fn run(self, client: &Client) {
        let mut permits = self.keyring.permits();
        let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut told = Told::default();
        if !self.is_eager {
            // The handle is this one's own.
            let _ = self.keyring.wanted().wait_for(|wanted| *wanted).await;
        }
        loop {
            permits.borrow_and_update();
            let known = self.keyring.writing().permit.clone();
            self.writes.measure();
            if known == Permit::Unknown {
                match self.find_out(client).await {
                    Ok(permit) => {
                        retry.reset();
                        self.writes.found(None);
                        told.of(&permit);
                    }
                    Err(trouble) => {
                        let why = trouble.to_string();
                        self.writes.found(Some(&why));
                        told.trouble(&why);
                        tokio::time::sleep(retry.step()).await;
                    }
                }
                continue;
            }
            let refused = matches!(known, Permit::Refused(_));
            if timeout(REFUSED, permits.changed()).await.is_err()
                && refused
                && let Ok(permit) = self.find_out(client).await
            {
                told.of(&permit);
            }
        }
    }

    /// Finds out what the keyring in use may write, and notes it.
    async fn find_out(&self, client: &Client) -> Result<Permit, Trouble> {
        let epoch = match self.renewal.epoch(client, &self.state).await {
            Ok(epoch) => epoch,
            Err(Trouble::Call(error)) if error.trouble() == etcd::Trouble::PermissionDenied => {
                return Ok(self.note(refused_by_etcd(&self.state, &error)));
            }
            Err(trouble) => return Err(trouble),
        };
        let keyring = self.keyring.snapshot();
        self.renew_seeds(client, &keyring).await?;
        let barred = self.notes.barred(client, &self.state, &keyring).await?;
        if let Some(rivals) = &self.rivals {
            self.renewal.rival(rivals, client, &self.state, &keyring).await?;
        }
        let why = self
            .renewal
            .lost()
            .or_else(|| barred.map(|why| Arc::from(why.to_string())));
        let permit = match why {
            Some(why) => Permit::Refused(why),
            None if self.takes_fence(client, &epoch).await? => Permit::Fenced {
                nests: client.is_authentication_off().await,
                epoch,
            },
            None => Permit::Unfenced,
        };
        // Asked last: who keeps this process's record may have met a rival meanwhile.
        let permit = match self.rivals.as_ref().and_then(|rivals| rivals.met_by(&keyring)) {
            Some(why) if !matches!(permit, Permit::Refused(_)) => Permit::Refused(why),
            _ => permit,
        };
        self.keyring.permit(&keyring, permit.clone());
        Ok(permit)
    }

    /// Follows an order to write under fresh seeds. Who gives it replaces the epoch afterwards, and this is read behind the epoch: so
    /// what is written in that one or a later one is under a seed that was wrapped after the order.
    async fn renew_seeds(&self, client: &Client, keyring: &Keyring) -> Result<(), CallError> {
        if keyring.plugins().is_empty() {
            return Ok(());
        }
        if let Some(order) = renewal::ordered(client, &self.state).await? {
            join_all(keyring.plugins().iter().map(|plugin| plugin.renew(&order, RENEWAL))).await;
        }
        Ok(())
    }

    async fn takes_fence(&self, client: &Client, epoch: &Epoch) -> Result<bool, CallError> {
        let ask = async || client.takes_fence(&Epoch::key(&self.state), epoch).await;
        self.takes_fence.get_or_try_init(ask).await.copied()
    }

    fn note(&self, permit: Permit) -> Permit {
        self.keyring.permit(&self.keyring.snapshot(), permit.clone());
        permit
    }
}

/// Why it could not be found out what may be written.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the keyring in etcd could not be looked at")]
    NotLooked,
}

fn refused_by_etcd(state: &StatePrefix, error: &CallError) -> Permit {
    let state = state.as_bytes().escape_ascii();
    Permit::Refused(Arc::from(format!(
        "etcd does not let this proxy's user read {state}: {error}. Grant it readwrite on the prefix {state}"
    )))
}
