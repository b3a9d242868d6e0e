//! The configuration that lies sealed in etcd: read, and replaced by compare-and-swap. A document that has a key which its
//! successor lacks goes into the archive first.

use std::path::PathBuf;

use tokio::sync::Mutex;

use super::{Error, Former, OPTIONS, Source, rendered};
use crate::config::{self, Draft, EncryptionConfiguration};
use crate::etcd::Store;
use crate::managed::{self, Current, Past, PastConfigs, Reader, Reading, Strongbox};
use crate::types::SecretBytes;

/// What operators call it.
pub const MANAGED: &str = "the keyring in etcd";

/// The keyring in etcd.
#[derive(Debug)]
pub struct ManagedConfig<S> {
    strongbox: Strongbox<S>,
    /// Looked at so often that it is opened only when it is another one.
    seen: Mutex<(Reader, Option<Current>, Past)>,
}

impl<S: Store> ManagedConfig<S> {
    /// The keyring in `strongbox`.
    pub fn new(strongbox: Strongbox<S>) -> Self {
        Self {
            strongbox,
            seen: Mutex::default(),
        }
    }

    /// Where it lies.
    pub fn strongbox(&self) -> &Strongbox<S> {
        &self.strongbox
    }

    /// The keyring as it is now.
    ///
    /// # Errors
    /// There is none, or it is not to be had.
    pub async fn current(&self) -> Result<Current, managed::Error> {
        Ok(self.with_past().await?.0)
    }

    /// The same, and the documents that are in use no more.
    async fn with_past(&self) -> Result<(Current, PastConfigs), managed::Error> {
        let (reader, current, past) = &mut *self.seen.lock().await;
        if let Reading::New(found) = reader.look(&self.strongbox).await? {
            *current = Some(*found);
            past.look_closely();
        }
        past.look(&self.strongbox).await?;
        let current = current.clone().ok_or(managed::Error::Absent)?;
        Ok((current, past.configs()))
    }
}

impl<S: Store> Source for ManagedConfig<S> {
    fn name(&self) -> String {
        MANAGED.to_owned()
    }

    async fn read(&self) -> Result<EncryptionConfiguration, Error> {
        let (current, past) = self.with_past().await?;
        let config = config::parse(current.document.expose(), OPTIONS);
        let config = config.map_err(|problems| Error::Managed(managed::Error::Invalid(problems)))?;
        Ok(config.with_past(&past))
    }

    async fn former(&self) -> Result<Former, Error> {
        let mut archived = self.strongbox.archived().await?;
        archived.sort_by_key(|entry| entry.about.as_ref().map(|about| about.generation));
        let documents = archived
            .iter()
            .map(|entry| entry.document.as_ref().ok().map(SecretBytes::expose));
        Ok(Former::of("the keyring's archive".to_owned(), documents))
    }

    async fn check(&self) -> Result<(), Error> {
        // Whoever could open it can seal it, and whether etcd takes it is seen then.
        Ok(())
    }

    async fn replace(
        &self,
        was: &EncryptionConfiguration,
        next: &Draft,
        comment: &str,
    ) -> Result<Option<PathBuf>, Error> {
        let current = self.current().await?;
        let (text, config) = rendered(next, current.document.expose(), comment)?;
        if current.fingerprint != was.fingerprint {
            return Err(Error::Changed);
        }
        let loses_a_plugin = was
            .plugins()
            .any(|kms| config.plugins().all(|other| other.name != kms.name));
        let loses_a_key = loses_a_plugin || was.key_ids().iter().any(|key| !config.has_key(key));
        self.strongbox.replace(&current, text.as_bytes(), loses_a_key).await?;
        Ok(None)
    }
}

impl From<managed::Error> for Error {
    fn from(error: managed::Error) -> Self {
        match error {
            managed::Error::Call(error) => Self::Call(error),
            managed::Error::Changed => Self::Changed,
            error => Self::Managed(error),
        }
    }
}
