//! Takes a changed configuration into use: read, parsed, compiled, found healthy, read once more, swapped. What fails on
//! the way leaves the keyring in use as it is, and says which line.
//!
//! How a keyring is made of a document is not known here: whoever knows the plugins gives a [`Load`].

mod metrics;
mod source;

use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

use super::{Error, KeyringHandle, Lost, Rule};
use crate::audit::Audit;
use crate::config::{self, KeyId, Retired};
use crate::files::{Status, Subject};
use crate::keyring::Keyring;
use crate::types::{Fingerprint, with_causes};

pub use metrics::FAMILIES;
pub use source::{Document, FileSource, ReadError, Reading, Source};

/// How often a document that changes while it is loaded is begun with anew, before that counts as a failure.
const MAX_ROUNDS: usize = 10;

/// Which configuration is in use since when, and why a newer one is not.
pub type ReloadStatus = Status<Fingerprint>;

/// From a document to a keyring that has been compiled and found healthy, within a bound of its own.
pub type Load = Box<dyn Fn(Document) -> Loading + Send + Sync>;

/// A keyring on its way.
pub type Loading = Pin<Box<dyn Future<Output = Result<Keyring, LoadError>> + Send>>;

/// Why a document makes no keyring.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It is not a valid configuration.
    #[error("it is not valid")]
    Config(#[from] config::Error),
    /// It needs something that is not there.
    #[error("it cannot be used")]
    Compile(#[from] Error),
    /// A provider of it does not work. The text is for the operator.
    #[error("it is not healthy: {0}")]
    Unhealthy(String),
    /// Names of keys that are in use stand for other bytes in it.
    #[error(
        "{}: what the key in use has sealed could not be read any more, and nobody could tell its values from those of the new \
         key. Give the new key another name; or, unless it is aescbc, list the old bytes too, in a second provider of the same \
         type behind the first, with the same name: both are tried then", listed(.0)
    )]
    Replaced(Vec<Lost>),
    /// The process is ending.
    #[error("the proxy is stopping")]
    Stopping,
}

fn listed(lost: &[Lost]) -> String {
    let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
    lost.join("; ")
}

/// What a reload is made of.
pub struct ReloadConfig {
    /// Where the configuration is.
    pub source: Arc<dyn Source>,
    /// The keyring that is replaced.
    pub keyring: Arc<KeyringHandle>,
    /// Told of each outcome.
    pub status: Arc<ReloadStatus>,
    /// Told of each outcome that is new.
    pub audit: Audit,
    /// Makes the keyring.
    pub load: Load,
    /// Value of the label `apiserver_id_hash`.
    pub instance: String,
}

/// Looks where the configuration is, each time it is asked to.
pub struct Reloader {
    config: ReloadConfig,
    metrics: metrics::Metrics,
}

/// Why the configuration that is there is not in use.
#[derive(Debug, Error)]
enum ReloadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("it changes faster than it can be loaded")]
    Restless,
}

/// Tells what is there from what was.
#[derive(PartialEq, Eq)]
struct Found {
    document: Fingerprint,
    past: Vec<Fingerprint>,
}

impl Found {
    fn of(found: &Document) -> Self {
        let document = Fingerprint::of(&found.bytes);
        let past = found.past.iter().map(|past| past.fingerprint);
        Self {
            document,
            // It may be archived a moment before it is replaced.
            past: past.filter(|past| *past != document).collect(),
        }
    }

    fn is_in_use(&self, keyring: &Keyring) -> bool {
        self.document == keyring.fingerprint() && self.past == keyring.retired().documents()
    }
}

enum Round {
    Unchanged,
    Loaded,
    /// It changed meanwhile.
    Overtaken,
}

impl Reloader {
    /// For the configuration that `config.keyring` holds now. Its metrics say so from now on.
    pub fn new(config: ReloadConfig) -> Self {
        let metrics = metrics::Metrics::new(config.instance.clone());
        metrics.in_use(&config.status.snapshot());
        Self { config, metrics }
    }

    async fn rounds(&self) -> Result<(), ReloadError> {
        for _ in 0..MAX_ROUNDS {
            match self.round().await? {
                Round::Overtaken => tracing::debug!("the configuration changed while it was loaded; starting over"),
                Round::Loaded => return Ok(()),
                Round::Unchanged => {
                    if let Some(failure) = self.config.status.unchanged() {
                        tracing::info!(
                            source = self.config.source.name(),
                            was = failure.text,
                            "the encryption provider configuration is again the one in use"
                        );
                        self.metrics.failing(false);
                    }
                    return Ok(());
                }
            }
        }
        Err(ReloadError::Restless)
    }

    async fn round(&self) -> Result<Round, ReloadError> {
        let document = self.config.source.read().await?;
        let found = Found::of(&document);
        if found.is_in_use(&self.config.keyring.load()) {
            return Ok(Round::Unchanged);
        }
        let keyring = (self.config.load)(document).await?;
        let mut replaced = self.config.keyring.load().lost(&keyring);
        replaced.retain(Lost::is_replaced);
        if !replaced.is_empty() {
            return Err(LoadError::Replaced(replaced).into());
        }
        // The check of a plugin can take seconds. What nobody wants any more is not taken into use.
        if Found::of(&self.config.source.read().await?) != found {
            return Ok(Round::Overtaken);
        }
        self.put_in_place(keyring, found.document);
        Ok(Round::Loaded)
    }

    fn put_in_place(&self, keyring: Keyring, fingerprint: Fingerprint) {
        let lost = self.config.keyring.load().lost(&keyring);
        self.config
            .audit
            .configuration_loaded(&self.config.source.name(), &fingerprint, || {
                keyring.rules().iter().map(Rule::for_audit).collect()
            });
        self.config.keyring.store(keyring);
        self.config.status.loaded(fingerprint);
        self.metrics.succeeded(&self.config.status.snapshot());
        tracing::info!(
            source = self.config.source.name(),
            %fingerprint,
            "a new encryption provider configuration is in use"
        );
        self.config.keyring.load().announce();
        say_retired(self.config.keyring.load().retired());
        for lost in lost {
            tracing::warn!(
                %lost,
                "VALUES MAY HAVE BECOME UNREADABLE: the new configuration cannot read what the one before it could. If \
                 anything is still stored that way, put it back as the last provider"
            );
        }
    }

    fn refuse(&self, error: &ReloadError) {
        let name = self.config.source.name();
        let text = describe(&name, error);
        self.metrics.failed();
        if self.config.status.failed(text.clone()) {
            self.config.audit.reload_refused(&name, &text);
            tracing::error!(
                error = text,
                "the new encryption provider configuration is refused; the one in use stays"
            );
        }
    }
}

impl Subject for Reloader {
    async fn look(&mut self) -> bool {
        match self.rounds().await {
            Ok(()) => true,
            Err(error) => {
                self.refuse(&error);
                false
            }
        }
    }
}

/// Which keys read though the configuration does not list them, and which do not.
pub fn say_retired(retired: &Retired) {
    let shown = |ids: &mut dyn Iterator<Item = KeyId>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    if !retired.is_empty() {
        let keys = shown(&mut retired.ids());
        tracing::info!(keys, "retired keys of the archive open what turns up under them");
    }
    if !retired.left_out().is_empty() {
        let keys = shown(&mut retired.left_out().iter().cloned());
        tracing::warn!(
            keys,
            "keys of the archive are left out, since each shares its name with other bytes and aescbc cannot tell their \
             values apart: values that need them do not open"
        );
    }
}

/// One line: the problems of a document each with its place (`file:line:column: …`), anything else behind the source's name.
fn describe(name: &str, error: &ReloadError) -> String {
    if let ReloadError::Load(LoadError::Config(problems)) = error {
        let text = problems.to_string();
        let placed = |problem: &str| {
            // With its place in front, unless it is about the document as a whole.
            let space = if problem.starts_with(|first: char| first.is_ascii_digit()) {
                ""
            } else {
                " "
            };
            format!("{name}:{space}{problem}")
        };
        return text.lines().map(placed).collect::<Vec<_>>().join("; ");
    }
    format!("{name}: {}", with_causes(error))
}

#[cfg(test)]
mod tests;
