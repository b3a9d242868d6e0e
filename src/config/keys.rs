//! Which keys a configuration lists and writes with, by name. Reads only; holds no key bytes.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{EncryptionConfiguration, Entry, Key, Provider};
use crate::types::KeyName;

/// A provider whose keys stand in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// AES-CBC.
    AesCbc,
    /// AES-GCM.
    AesGcm,
    /// XSalsa20-Poly1305.
    Secretbox,
}

impl KeyType {
    /// Its name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which key: values that it sealed say no more of it than this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId {
    /// Its provider.
    pub provider: KeyType,
    /// Its name there.
    pub name: KeyName,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:?}", self.provider, self.name.as_str())
    }
}

/// What an entry writes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The first key of its first provider.
    Key(KeyId),
    /// A KMS plugin, by name.
    Kms(KeyName),
    /// Nothing: values are stored in the clear.
    Identity,
}

impl Provider {
    /// Its type and keys, if they stand in the configuration.
    pub(super) fn keys(&self) -> Option<(KeyType, &[Key])> {
        match self {
            Self::AesCbc { keys } => Some((KeyType::AesCbc, keys)),
            Self::AesGcm { keys } => Some((KeyType::AesGcm, keys)),
            Self::Secretbox { keys } => Some((KeyType::Secretbox, keys)),
            Self::Identity | Self::Kms(_) => None,
        }
    }

    /// What it would write with.
    pub fn writer(&self) -> Writer {
        match self {
            Self::Kms(kms) => Writer::Kms(kms.name.clone()),
            _ => match self.key_ids().next() {
                Some(key) => Writer::Key(key),
                None => Writer::Identity,
            },
        }
    }

    /// Its keys, in order.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().into_iter().flat_map(|(provider, keys)| {
            keys.iter().map(move |key| KeyId {
                provider,
                name: key.name.clone(),
            })
        })
    }
}

impl EncryptionConfiguration {
    /// What writes: that of each entry in which a resource is named first, once, in the order of the document.
    pub fn writers(&self) -> Vec<Writer> {
        let mut writers = Vec::new();
        for entry in writing(&self.entries).filter_map(|index| self.entries.get(index)) {
            if let Some(provider) = entry.providers.first() {
                let writer = provider.writer();
                if !writers.contains(&writer) {
                    writers.push(writer);
                }
            }
        }
        writers
    }

    /// The keys that write.
    pub fn writing_keys(&self) -> Vec<KeyId> {
        let writers = self.writers().into_iter();
        let keys = writers.filter_map(|writer| match writer {
            Writer::Key(key) => Some(key),
            Writer::Kms(_) | Writer::Identity => None,
        });
        keys.collect()
    }

    /// Every key, once, in the order of the document.
    pub fn key_ids(&self) -> Vec<KeyId> {
        let mut seen = HashSet::new();
        let all = self.entries.iter().flat_map(|entry| &entry.providers);
        let mut ids: Vec<_> = all.flat_map(Provider::key_ids).collect();
        ids.retain(|key| seen.insert(key.clone()));
        ids
    }

    /// Whether `key` is listed anywhere.
    pub fn has_key(&self, key: &KeyId) -> bool {
        self.lists(key).next().is_some()
    }

    /// Whether `key` stands first in each list of keys in which one of `others` is too.
    pub fn leads(&self, key: &KeyId, others: &[KeyId]) -> bool {
        let mut lists = self.lists(key).filter(|keys| is_any_in(others, key.provider, keys));
        lists.all(|keys| keys.first().is_some_and(|first| first.name == key.name))
    }

    /// Whether `key` is in a list of keys in which one of `others` is too.
    pub fn is_beside(&self, key: &KeyId, others: &[KeyId]) -> bool {
        self.lists(key).any(|keys| is_any_in(others, key.provider, keys))
    }

    fn lists(&self, key: &KeyId) -> impl Iterator<Item = &[Key]> {
        let providers = self.entries.iter().flat_map(|entry| &entry.providers);
        let lists = providers.filter_map(Provider::keys);
        lists
            .filter(|(provider, keys)| *provider == key.provider && keys.iter().any(|other| other.name == key.name))
            .map(|(_, keys)| keys)
    }
}

/// Whether one of `ids` is in a provider's list.
pub(super) fn is_any_in(ids: &[KeyId], provider: KeyType, keys: &[Key]) -> bool {
    ids.iter()
        .any(|id| id.provider == provider && keys.iter().any(|key| key.name == id.name))
}

/// The entries, by index, whose first provider writes values of some resource: those in which one is named first.
pub(super) fn writing(entries: &[Entry]) -> impl Iterator<Item = usize> {
    let mut named = HashSet::new();
    entries.iter().enumerate().filter_map(move |(index, entry)| {
        let new = entry.resources.iter().filter(|resource| named.insert(*resource));
        (new.count() > 0).then_some(index)
    })
}
