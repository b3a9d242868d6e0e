//! Follows the keyring in etcd for a process that serves: looks every second, and hands on what has become of it. On the
//! background's thread; the keyring is compiled and taken into use elsewhere.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::strongbox::strongbox;
use super::{Common, Error, RootSettings};
use crate::etcd::Client;
use crate::files::Nudge;
use crate::keyring::{self, KeyringHandle, Permit, ReadError};
use crate::managed::{self, Current, Past, PastConfigs, Reader, Reading as Look, Strongbox};
use crate::rotation::MANAGED;
use crate::types::{Epoch, SecretBytes, Tenure, with_causes};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Between two questions for the roots that are at hand, where nothing has changed: a plugin's key may have.
const ROOTS_EVERY: Duration = Duration::from_secs(60);

/// The latest document with those that it replaced, or why there is none to be had.
type Latest = Result<Found, Arc<str>>;

#[derive(Clone)]
struct Found {
    document: SecretBytes,
    past: PastConfigs,
}

impl Found {
    fn is_same(&self, other: &Self) -> bool {
        self.document.expose() == other.document.expose()
            && (Arc::ptr_eq(&self.past, &other.past) || self.past == other.past)
    }
}

/// The roots that a process has, by ID.
pub(super) type KnownRoots = Arc<std::sync::Mutex<Vec<String>>>;

/// What a process that serves knows of the keyring in etcd when it starts to follow it.
pub(super) struct Kept {
    pub(super) common: Common,
    pub(super) root: RootSettings,
    reader: Reader,
    past: Past,
    documents: watch::Sender<Latest>,
}

/// Both ends of what is handed on: for the follower, and for the reload.
pub(super) fn channel(common: &Common, root: &RootSettings, first: &Current, past: Past) -> (Kept, ManagedSource) {
    let (documents, latest) = watch::channel(Ok(Found {
        document: first.document.clone(),
        past: past.configs(),
    }));
    let kept = Kept {
        common: common.clone(),
        root: root.clone(),
        reader: Reader::since(first),
        past,
        documents,
    };
    (kept, ManagedSource { latest })
}

/// The keyring in etcd as a reload reads it.
#[derive(Clone)]
pub(super) struct ManagedSource {
    latest: watch::Receiver<Latest>,
}

impl keyring::Source for ManagedSource {
    fn name(&self) -> String {
        MANAGED.to_owned()
    }

    fn read(&self) -> keyring::Reading {
        let latest = self.latest.borrow().clone();
        Box::pin(async move {
            match latest {
                Ok(Found { document, past }) => Ok(keyring::Document {
                    bytes: Zeroizing::new(document.expose().to_vec()),
                    past,
                }),
                Err(why) => Err(ReadError::Elsewhere(why)),
            }
        })
    }
}

/// Looks at the keyring in etcd.
pub(super) struct Follower {
    strongbox: Strongbox<Client>,
    documents: watch::Sender<Latest>,
    /// Has the keyring in use looked at when something else is there.
    nudge: Nudge,
    known: KnownRoots,
    seen: Mutex<Seen>,
    /// Ends when the keyring in use is not, or no longer, the one in etcd.
    tenure: Arc<Tenure>,
    /// Loses its permit then.
    keyring: Arc<KeyringHandle>,
    lost: RefCell<Option<Arc<str>>>,
}

/// What was there at the last look.
#[derive(Default)]
struct Seen {
    reader: Reader,
    past: Past,
    current: Option<Current>,
    asked_for_roots: Option<Instant>,
}

impl Follower {
    /// Gets ready to look, over `client`.
    ///
    /// # Errors
    /// The roots are not to be had.
    pub(super) fn start(
        kept: Kept,
        client: &Client,
        nudge: &Nudge,
        known: KnownRoots,
        tenure: Arc<Tenure>,
        keyring: Arc<KeyringHandle>,
    ) -> Result<Self, Error> {
        let seen = Seen {
            reader: kept.reader,
            past: kept.past,
            ..Seen::default()
        };
        Ok(Self {
            strongbox: strongbox(&kept.common, &kept.root, client.clone())?,
            documents: kept.documents,
            nudge: nudge.clone(),
            known,
            seen: Mutex::new(seen),
            tenure,
            keyring,
            lost: RefCell::default(),
        })
    }

    /// The keyring that is followed.
    pub(super) fn strongbox(&self) -> &Strongbox<Client> {
        &self.strongbox
    }

    /// Why the keyring in use must not be written with: by the last look, etcd does not have it.
    pub(super) fn lost(&self) -> Option<Arc<str>> {
        self.lost.borrow().clone()
    }

    /// Looks for as long as it is polled.
    pub(super) async fn run(&self) {
        loop {
            if self.look().await == Some(true) {
                self.nudge.now();
            }
            sleep(EVERY).await;
        }
    }

    /// Looks once, and has what is found taken into use before it returns: in which epoch it was there. `None` if it could not be
    /// looked.
    pub(super) async fn renew(&self) -> Option<Epoch> {
        let epoch = match self.look().await {
            Some(_) => self.seen.lock().await.reader.epoch().cloned(),
            None => None,
        };
        self.nudge.looked().await;
        epoch
    }

    /// Whether something else is there; `None` if that is not known.
    async fn look(&self) -> Option<bool> {
        let seen = &mut *self.seen.lock().await;
        let has_new_roots = self.reload_roots().await;
        let found = seen.reader.look(&self.strongbox).await;
        self.note_loss(found.as_ref().err());
        if has_new_roots || matches!(found, Ok(Look::New(_))) {
            seen.past.look_closely();
        }
        // What is replaced is in the archive before: so the keys of a document that is seen to be replaced are found here.
        if let Err(error) = seen.past.look(&self.strongbox).await {
            // What was read before stays.
            tracing::debug!(error = with_causes(&error), "the archive was not looked at");
        }
        let latest = match found {
            Ok(Look::New(current)) => {
                let document = current.document.clone();
                seen.current = Some(*current);
                seen.asked_for_roots = None;
                Ok(document)
            }
            Ok(Look::Same) => match &seen.current {
                Some(current) => Ok(current.document.clone()),
                None => return Some(false),
            },
            Ok(Look::Absent) => Err(Arc::from("there is none")),
            // The one in use is as good as the last look.
            Err(error) if error.is_passing() => {
                tracing::debug!(error = with_causes(&error), "the keyring in etcd was not looked at");
                return None;
            }
            Err(error) => Err(Arc::from(with_causes(&error))),
        };
        if has_new_roots || seen.asked_for_roots.is_none_or(|asked| asked.elapsed() >= ROOTS_EVERY) {
            seen.asked_for_roots = Some(Instant::now());
            self.ask_for_roots(seen.current.as_ref()).await;
        }
        let past = seen.past.configs();
        let latest = latest.map(|document| Found { document, past });
        let is_other = self.documents.send_if_modified(|before| {
            let is_same = match (&*before, &latest) {
                (Ok(before), Ok(now)) => before.is_same(now),
                (Err(before), Err(now)) => before == now,
                _ => false,
            };
            *before = latest;
            !is_same
        });
        Some(is_other)
    }

    /// What is sealed with a keyring that is not in etcd is lost with this process: no more of it is written, from now on.
    fn note_loss(&self, error: Option<&managed::Error>) {
        match error {
            Some(error) if error.is_loss() => {
                let why: Arc<str> = Arc::from(with_causes(error));
                self.lost.replace(Some(Arc::clone(&why)));
                self.tenure.end();
                self.keyring.permit(&self.keyring.snapshot(), Permit::Refused(why));
            }
            // Nothing is known.
            Some(error) if error.is_passing() => {}
            _ if self.lost.take().is_some() => self.keyring.permit(&self.keyring.snapshot(), Permit::Unknown),
            _ => {}
        }
    }

    /// Whether the root file has changed. One that is no good now leaves the roots that were read before.
    async fn reload_roots(&self) -> bool {
        let roots = self.strongbox.roots();
        match tokio::task::spawn_blocking(move || roots.reload()).await {
            Ok(Ok(has_changed)) => has_changed,
            Ok(Err(error)) => {
                tracing::warn!(error = with_causes(&error), "the root file is not read anew");
                false
            }
            Err(_) => false,
        }
    }

    async fn ask_for_roots(&self, current: Option<&Current>) {
        let Some(current) = current else { return };
        match self.strongbox.known_roots(current).await {
            Ok(known) => {
                let ids = known.iter().map(|root| root.id.to_string()).collect();
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = ids;
            }
            Err(error) => tracing::debug!(error = with_causes(&error), "the roots at hand are not known"),
        }
    }
}
