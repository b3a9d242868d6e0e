//! Before documents leave the archive for good: that nothing in etcd itself needs a key which no other document has. Such
//! values are unreadable already, and the archive is what could still open them.

use super::{Document, Job, KeyringError};
use crate::config::{self, EncryptionConfiguration, KeyId, Options};
use crate::managed::Archived;
use crate::rotation::Site as _;
use crate::sweep::Wanted;
use crate::types::SecretBytes;

impl Job {
    /// Refuses to lose the last copy of a key that something needs.
    ///
    /// # Errors
    /// Something does, or etcd was not looked at to its end.
    pub(super) async fn refuse_needed(
        &self,
        archived: &[Archived],
        current: Option<&SecretBytes>,
        going: &[Document],
    ) -> Result<(), KeyringError> {
        let is_going = |entry: &&Archived| {
            going
                .iter()
                .any(|document| entry.fingerprint == Some(document.fingerprint))
        };
        let configs = |is_wanted: &dyn Fn(&&Archived) -> bool| -> Vec<EncryptionConfiguration> {
            let wanted = archived.iter().filter(is_wanted);
            wanted
                .filter_map(|entry| parsed(entry.document.as_ref().ok()?))
                .collect()
        };
        let current = current.and_then(parsed);
        let staying = configs(&|entry| !is_going(entry));
        let leaving = configs(&is_going);
        let has = |config: &EncryptionConfiguration, key: &KeyId| config.has_key(key);
        let mut keys: Vec<KeyId> = leaving.iter().flat_map(EncryptionConfiguration::key_ids).collect();
        keys.retain(|key| !staying.iter().chain(&current).any(|config| has(config, key)));
        keys.sort();
        keys.dedup();
        // Its rules tell what the keyring in use reads. Where there is none, those of a document do that might be next.
        let Some(rules) = current
            .as_ref()
            .or_else(|| leaving.first())
            .filter(|_| !keys.is_empty())
        else {
            return Ok(());
        };
        let wanted = Wanted { keys, others: false };
        let found = self.site()?.uncovered(rules, wanted, self.stop.clone()).await?;
        match found.in_the_way() {
            None => Ok(()),
            Some(found) => Err(KeyringError::Needed(found.to_string())),
        }
    }
}

fn parsed(document: &SecretBytes) -> Option<EncryptionConfiguration> {
    config::parse(document.expose(), Options { reload: true }).ok()
}
