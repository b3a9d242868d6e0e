//! Before a backup is put back: that no stored value which opens now would not open then.

use super::{Job, KeyringError};
use crate::config::{self, EncryptionConfiguration, Options};
use crate::managed::{self, Past};

impl Job {
    /// Refuses a backup with which fewer of the stored values open than with what stands. Where nothing stands, each has to.
    ///
    /// # Errors
    /// It is so, or that is not known: the backup, what stands or etcd is not to be had.
    pub(super) async fn refuse_lossy(&self, backup: &[u8]) -> Result<(), KeyringError> {
        let backup = self.strongbox.restorable(backup, false).await?;
        let mut archive = Past::default();
        archive.look(&self.strongbox).await?;
        let archived = archive.configs();
        let standing = self.standing().await?;
        // What stands is archived before it is replaced, and the archive stays.
        let mut past = backup.past;
        past.extend(standing.iter().chain(archived.iter()).cloned());
        let then = self.undecryptable(&backup.config.with_past(&past)).await?;
        if then == 0 {
            return Ok(());
        }
        let now = match standing {
            Some(standing) => self.undecryptable(&standing.with_past(&archived)).await?,
            None => 0,
        };
        if then > now {
            return Err(KeyringError::Lossy { then, now });
        }
        Ok(())
    }

    /// The keyring that stands.
    async fn standing(&self) -> Result<Option<EncryptionConfiguration>, KeyringError> {
        let Some(current) = self.strongbox.read().await? else {
            return Ok(None);
        };
        let config = config::parse(current.document.expose(), Options { reload: true });
        Ok(Some(config.map_err(managed::Error::Invalid)?))
    }

    async fn undecryptable(&self, config: &EncryptionConfiguration) -> Result<u64, KeyringError> {
        let report = self.site()?.look(config, self.stop.clone()).await?;
        Ok(report.counts.undecryptable)
    }
}
