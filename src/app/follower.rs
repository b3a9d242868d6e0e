//! Follows the keyring in etcd for a process that serves: looks every second, and hands on what has become of it. On the
//! background's thread; the keyring is compiled and taken into use elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::etcd::Client;
use crate::files::Nudge;
use crate::keyring::{self, ReadError};
use crate::managed::{Current, Reader, Reading as Look, Strongbox};
use crate::rotation::MANAGED;
use crate::types::{SecretBytes, with_causes};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Between two questions for the roots that are at hand, where nothing has changed: a plugin's key may have.
const ROOTS_EVERY: Duration = Duration::from_secs(60);

/// The latest document, or why there is none to be had.
type Latest = Result<SecretBytes, Arc<str>>;

/// The roots that a process has, by ID.
pub(super) type KnownRoots = Arc<Mutex<Vec<String>>>;

/// What is handed from one side to the other.
pub(super) fn channel(first: &Current) -> (watch::Sender<Latest>, ManagedSource) {
    let (sender, latest) = watch::channel(Ok(first.document.clone()));
    (sender, ManagedSource { latest })
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
                Ok(document) => Ok(Zeroizing::new(document.expose().to_vec())),
                Err(why) => Err(ReadError::Elsewhere(why)),
            }
        })
    }
}

/// Looks at the keyring in etcd.
pub(super) struct Follower {
    pub(super) strongbox: Strongbox<Client>,
    pub(super) documents: watch::Sender<Latest>,
    /// Has the keyring in use looked at when something else is there.
    pub(super) nudge: Nudge,
    pub(super) known: KnownRoots,
    pub(super) seen: tokio::sync::Mutex<Seen>,
}

/// What was there at the last look.
pub(super) struct Seen {
    reader: Reader,
    current: Option<Current>,
    asked_for_roots: Option<Instant>,
}

impl Seen {
    pub(super) fn nothing() -> Self {
        Self {
            reader: Reader::default(),
            current: None,
            asked_for_roots: None,
        }
    }
}

impl Follower {
    /// Looks for as long as it is polled.
    pub(super) async fn run(&self) {
        loop {
            if self.look().await {
                self.nudge.now();
            }
            sleep(EVERY).await;
        }
    }

    /// Looks once, and has what is found taken into use before it returns.
    pub(super) async fn renew(&self) {
        self.look().await;
        self.nudge.looked().await;
    }

    /// Whether something else is there.
    async fn look(&self) -> bool {
        let seen = &mut *self.seen.lock().await;
        let has_new_roots = self.reload_roots().await;
        let latest = match seen.reader.look(&self.strongbox).await {
            Ok(Look::New(current)) => {
                let document = current.document.clone();
                seen.current = Some(*current);
                seen.asked_for_roots = None;
                Ok(document)
            }
            Ok(Look::Same) => match &seen.current {
                Some(current) => Ok(current.document.clone()),
                None => return false,
            },
            Ok(Look::Absent) => Err(Arc::from("there is none")),
            // The one in use is as good as the last look.
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "the keyring in etcd was not looked at");
                return false;
            }
            Err(error) => Err(Arc::from(with_causes(&error))),
        };
        if has_new_roots || seen.asked_for_roots.is_none_or(|asked| asked.elapsed() >= ROOTS_EVERY) {
            seen.asked_for_roots = Some(Instant::now());
            self.ask_for_roots(seen.current.as_ref()).await;
        }
        self.documents.send_if_modified(|before| {
            let is_same = match (&*before, &latest) {
                (Ok(before), Ok(now)) => before.expose() == now.expose(),
                (Err(before), Err(now)) => before == now,
                _ => false,
            };
            *before = latest;
            !is_same
        })
    }

    /// Whether the root file has changed. One that is no good now leaves the roots that were read before.
    async fn reload_roots(&self) -> bool {
        let roots = self.strongbox.shared_roots();
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
            Err(error) => tracing::debug!(%error, "the roots at hand are not known"),
        }
    }
}
