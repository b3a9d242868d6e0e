//! Takes changed certificates, keys and CAs into use, for either side. What cannot be used leaves the ones in use as they
//! are. Connections that exist keep the session that they were opened with.

mod metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use x509_parser::time::ASN1Time;

use super::error::{Error, FileRole};
use super::expiry::{Expiry, Reminder};
use super::files::MAX_FILE_BYTES;
use super::handle::Handle;
use super::side::{Loaded, Side};
use super::validity::Warning;
use crate::files::{self, Permissions, Status, Subject};
use crate::types::{Fingerprint, with_causes};

pub use metrics::FAMILIES;

/// How long files that do not go together, or cannot be read, are given to become what their writer means them to be:
/// tools replace a certificate and its key one after the other, and some write in place.
const GRACE: Duration = Duration::from_secs(2);

/// How often files that change while they are loaded are begun with anew before that counts as a fault of theirs.
const MAX_ROUNDS: usize = 10;

/// Which certificates are in use since when, and why newer ones are not.
pub type ReloadStatus = Status<Loaded>;

/// Looks at the files of one side, each time it is asked to.
pub struct Reloader<S: Side> {
    files: Arc<S>,
    handle: Handle<S::Tls>,
    status: Arc<ReloadStatus>,
    permissions: Arc<Permissions>,
    /// What the files held that are in use; `None` where that is not known.
    seen: Option<Fingerprint>,
    /// Since when the files cannot be used.
    faulty_since: Option<Instant>,
    /// How long that is nothing to speak of.
    grace: Duration,
    expiry: Expiry,
}

enum Found<T> {
    /// What is in use.
    Same,
    Other(Fingerprint, T),
}

impl<S: Side> Reloader<S> {
    /// For `handle`, which holds what `files` made when they held `seen`, see [`fingerprint`].
    pub fn new(
        files: S,
        handle: Handle<S::Tls>,
        seen: Option<Fingerprint>,
        status: Arc<ReloadStatus>,
        permissions: Arc<Permissions>,
    ) -> Self {
        metrics::in_use(S::WHICH, status.snapshot().loaded);
        Self {
            files: Arc::new(files),
            handle,
            status,
            permissions,
            seen,
            faulty_since: None,
            grace: GRACE,
            expiry: Expiry::default(),
        }
    }

    fn accept(&mut self, found: Found<S::Tls>) {
        self.faulty_since = None;
        match found {
            Found::Same => {
                if self.status.unchanged().is_some() {
                    tracing::info!(which = S::WHICH, "the TLS files are again the ones in use");
                }
            }
            Found::Other(fingerprint, tls) => {
                let (loaded, warnings) = S::about(&tls);
                let is_reload = self.seen.is_some() || self.status.snapshot().failure.is_some();
                if is_reload {
                    for warning in warnings {
                        tracing::warn!("{warning}");
                    }
                    metrics::count(S::WHICH, "success");
                    tracing::info!(
                        which = S::WHICH,
                        until = loaded.not_after.map(readable),
                        "new TLS files are in use for connections to come"
                    );
                }
                self.handle.store(tls);
                self.status.loaded(loaded);
                self.seen = Some(fingerprint);
                metrics::in_use(S::WHICH, loaded);
            }
        }
    }

    fn refuse(&mut self, error: &Error) {
        let since = *self.faulty_since.get_or_insert_with(Instant::now);
        let text = with_causes(error);
        if since.elapsed() < self.grace {
            tracing::debug!(which = S::WHICH, error = text, "the TLS files may be half replaced");
            return;
        }
        metrics::count(S::WHICH, "failure");
        if self.status.failed(text.clone()) {
            tracing::error!(
                which = S::WHICH,
                error = text,
                "new TLS files are refused; the ones in use stay"
            );
        }
    }

    fn remind(&mut self) {
        let Some(not_after) = self.status.snapshot().loaded.not_after else {
            return;
        };
        let (which, until) = (S::WHICH, readable(not_after));
        match self.expiry.due(not_after, ASN1Time::now().timestamp()) {
            None => {}
            Some(Reminder::Soon { days }) => {
                tracing::warn!(
                    which,
                    until,
                    days,
                    "the TLS certificate in use ends in less than 30 days"
                );
            }
            Some(Reminder::Urgent { days }) => {
                tracing::error!(
                    which,
                    until,
                    days,
                    "the TLS certificate in use ends in less than 7 days"
                );
            }
            Some(Reminder::Over) => {
                tracing::error!(which, until, "the TLS certificate in use has ended: no peer accepts it");
            }
        }
    }
}

impl<S: Side> Subject for Reloader<S> {
    async fn look(&mut self) -> bool {
        let (files, permissions, seen) = (Arc::clone(&self.files), Arc::clone(&self.permissions), self.seen);
        let found = tokio::task::spawn_blocking(move || find(&*files, &permissions, seen)).await;
        let is_content = match found {
            Ok(Ok(found)) => {
                self.accept(found);
                true
            }
            Ok(Err(error)) => {
                self.refuse(&error);
                false
            }
            // The process is ending.
            Err(_) => true,
        };
        self.remind();
        is_content
    }
}

/// What the files of a side hold now; `None` where one cannot be read. Take it before they are loaded: a change in between is
/// then seen as one. Blocks.
pub fn fingerprint<S: Side>(files: &S) -> Option<Fingerprint> {
    files::fingerprint(&files.paths(), MAX_FILE_BYTES)
}

/// What the files hold, if all of them can be used as they are now.
fn find<S: Side>(files: &S, permissions: &Permissions, seen: Option<Fingerprint>) -> Result<Found<S::Tls>, Error> {
    let paths = files.paths();
    for path in &paths {
        files::check_kind(path).map_err(Error::Kind)?;
    }
    files.admit(permissions)?;
    let fingerprint = || files::fingerprint(&paths, MAX_FILE_BYTES);
    for _ in 0..MAX_ROUNDS {
        let before = fingerprint();
        if before.is_some() && before == seen {
            return Ok(Found::Same);
        }
        let loaded = files.load();
        // Files that were replaced in between may have been loaded half of each.
        let (true, Some(now)) = (before == fingerprint(), before) else {
            if before.is_none() {
                // Says which one cannot be read. If that has changed just now, the next look is due soon.
                loaded?;
            }
            continue;
        };
        let tls = loaded?;
        // At the start such a certificate is told of and used, for want of a better one. Here there is a better one.
        let unfit = |warning: &&Warning| matches!(warning.role(), FileRole::ServerCert | FileRole::EtcdCert);
        return match S::about(&tls).1.iter().find(unfit) {
            Some(warning) if seen.is_some() => Err(Error::NotValidNow(warning.clone())),
            _ => Ok(Found::Other(now, tls)),
        };
    }
    Err(Error::Restless)
}

/// A moment in Unix time, for people.
fn readable(at: i64) -> String {
    ASN1Time::from_timestamp(at).map_or_else(|_| format!("Unix time {at}"), |time| time.to_string())
}

#[cfg(test)]
mod tests;
