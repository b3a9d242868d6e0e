//! The keyring's record: the document that is in use, and what is said of it in the open. Everything in it is authenticated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{Error, OpenError, RootError};
use super::record::{Name, SCHEMA, check_host, encode, fingerprint};
use super::root_id::RootId;
use super::roots::{Means, Roots};
use super::seal::{Aad, Sealed};
use super::stretch::Stretch;
use super::time::Time;
use crate::config::{EncryptionConfiguration, KeyId, KeyType};
use crate::types::{Fingerprint, KeyName, SecretBytes};

/// The record as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyringRecord {
    schema: u32,
    pub(super) about: About,
    pub(super) sealed: Sealed,
}

/// What is said of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct About {
    /// One more each time that the record is replaced; 1 for the first.
    pub(super) generation: u64,
    #[serde(with = "fingerprint")]
    pub(super) fingerprint: Fingerprint,
    /// When the first record was made, and when this one.
    pub(super) created: Time,
    pub(super) updated: Time,
    /// On which host this one was made.
    pub(super) by: String,
    /// When each key came.
    pub(super) keys: Vec<KeyAge>,
    pub(super) stretch: Stretch,
}

/// When a key came, by the clock of whoever made it. For ages, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyAge {
    /// Its provider.
    pub provider: KeyType,
    /// Its name there.
    pub name: KeyName,
    /// Since when it is listed.
    pub since: Time,
}

/// The keyring that is in use, opened.
#[derive(Clone, Debug)]
pub struct Current {
    /// The EncryptionConfiguration.
    pub document: SecretBytes,
    /// Its SHA-256.
    pub fingerprint: Fingerprint,
    /// Goes up by one each time that the record is replaced.
    pub generation: u64,
    /// When the cluster's first keyring was made.
    pub created: Time,
    /// When this one was written.
    pub updated: Time,
    /// On which host.
    pub by: String,
    /// When each of its keys came.
    pub keys: Vec<KeyAge>,
    /// What it is sealed under.
    pub root: RootId,
    /// Whether that is the key of a KMS plugin.
    pub is_kms: bool,
    /// At which revision etcd has it.
    pub(super) revision: i64,
    pub(super) stretch: Stretch,
}

impl KeyringRecord {
    /// Seals `document`, to lie under `key`.
    pub(super) async fn seal(about: About, key: &[u8], means: &Means<'_>, document: &[u8]) -> Result<Self, RootError> {
        let sealed = Sealed::new(means, about.aad(key), document).await?;
        Ok(Self {
            schema: SCHEMA,
            about,
            sealed,
        })
    }

    /// Opens it, as it lies under `key`.
    pub(super) async fn open(&self, key: &[u8], roots: &Roots) -> Result<SecretBytes, OpenError> {
        let document = self
            .sealed
            .open(roots, &self.about.stretch, self.about.aad(key))
            .await?;
        if Fingerprint::of(document.expose()) != self.about.fingerprint {
            return Err(OpenError::Altered(self.sealed.root()));
        }
        Ok(document)
    }

    /// Reads one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let name = Name::keyring();
        let record: Self = name.parse(bytes)?;
        let refused = |(field, why): (&str, String)| name.refused(field, &why);
        record.about.stretch.check().map_err(refused)?;
        check_host(&record.about.by).map_err(refused)?;
        record.sealed.check().map_err(refused)?;
        Ok(record)
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        encode(self)
    }

    /// The same for those who use it: `document` is what it holds, and etcd has it at `revision`.
    pub(super) fn current(self, document: SecretBytes, revision: i64) -> Current {
        Current {
            document,
            root: self.sealed.root(),
            is_kms: self.sealed.is_kms(),
            fingerprint: self.about.fingerprint,
            generation: self.about.generation,
            created: self.about.created,
            updated: self.about.updated,
            by: self.about.by,
            keys: self.about.keys,
            stretch: self.about.stretch,
            revision,
        }
    }
}

impl About {
    fn aad(&self, key: &[u8]) -> Aad {
        let Self {
            generation,
            fingerprint,
            created,
            updated,
            by,
            keys,
            stretch,
        } = self;
        let mut aad = Aad::new("keyring", key)
            .number(SCHEMA.into())
            .number(*generation)
            .bytes(&fingerprint.into_bytes())
            .number(created.seconds())
            .number(updated.seconds())
            .bytes(by.as_bytes())
            .number(keys.len() as u64);
        for KeyAge { provider, name, since } in keys {
            aad = aad.bytes(provider.as_str().as_bytes());
            aad = aad.bytes(name.as_str().as_bytes()).number(since.seconds());
        }
        aad.stretch(stretch)
    }
}

/// When the keys of `config` came: as `before` says, and `now` for those that it does not know.
pub(super) fn ages(config: &EncryptionConfiguration, before: &[KeyAge], now: Time) -> Vec<KeyAge> {
    let known = before.iter().map(|age| ((age.provider, &age.name), age.since));
    let known: BTreeMap<_, _> = known.collect();
    let age = |id: KeyId| {
        let (provider, name) = (id.key_type()?, id.name);
        Some(KeyAge {
            since: known.get(&(provider, &name)).copied().unwrap_or(now),
            provider,
            name,
        })
    };
    config.key_ids().into_iter().filter_map(age).collect()
}
