//! Which keys a configuration lists and writes with, by name. Reads only; holds no key bytes.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{EncryptionConfiguration, Entry, Key, Provider};
use crate::types::{KeyName, KeyPrint};

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
    pub fn keys(&self) -> Option<(KeyType, &[Key])> {
        match self {
            Self::AesCbc { keys } => Some((KeyType::AesCbc, keys)),
            Self::AesGcm { keys } => Some((KeyType::AesGcm, keys)),
            Self::Secretbox { keys } => Some((KeyType::Secretbox, keys)),
            Self::Identity | Self::Kms(_) => None,
        }
    }

    /// One of that type, with these keys.
    pub(super) fn with_keys(of: KeyType, keys: Vec<Key>) -> Self {
        match of {
            KeyType::AesCbc => Self::AesCbc { keys },
            KeyType::AesGcm => Self::AesGcm { keys },
            KeyType::Secretbox => Self::Secretbox { keys },
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

    /// Its keys, in order, with what tells their bytes from others.
    pub fn key_prints(&self) -> impl Iterator<Item = (KeyId, KeyPrint)> {
        let keys = self.keys().map_or(&[][..], |(_, keys)| keys);
        let print = |(id, key): (KeyId, &Key)| {
            let print = KeyPrint::of(id.provider.as_str(), &id.name, &key.secret);
            (id, print)
        };
        self.key_ids().zip(keys).map(print)
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

impl Entry {
    /// Where it lists `key` first: in which provider, and where among its keys.
    pub(super) fn place(&self, key: &KeyId) -> Option<(usize, usize)> {
        let mut providers = self.providers.iter().enumerate();
        providers.find_map(|(index, provider)| Some((index, provider.key_ids().position(|id| id == *key)?)))
    }

    /// Whether `key` is the first key of its first provider.
    pub(super) fn is_headed_by(&self, key: &KeyId) -> bool {
        let first = self.providers.first().and_then(|provider| provider.key_ids().next());
        first.as_ref() == Some(key)
    }

    /// Whether it lists one of `keys`.
    pub(super) fn lists_any(&self, keys: &[KeyId]) -> bool {
        keys.iter().any(|key| self.place(key).is_some())
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
        self.entries.iter().any(|entry| entry.place(key).is_some())
    }

    /// Whether `key` stands in front of the key `over` in each entry that lists both, so that it writes where that one did:
    /// first in its list, and its provider not behind that of `over`.
    pub fn leads(&self, key: &KeyId, over: &KeyId) -> bool {
        let mut entries = self.entries.iter();
        entries.all(|entry| match (entry.place(key), entry.place(over)) {
            (Some((provider, index)), Some((other, _))) => index == 0 && provider <= other,
            _ => true,
        })
    }

    /// Whether `key` writes in an entry that lists `other` too.
    pub fn writes_beside(&self, key: &KeyId, other: &KeyId) -> bool {
        let mut entries = self.entries.iter().filter(|entry| entry.is_headed_by(key));
        entries.any(|entry| entry.place(other).is_some())
    }

    /// Whether `key` writes in an entry that does not list `other`.
    pub fn writes_without(&self, key: &KeyId, other: &KeyId) -> bool {
        let mut entries = self.entries.iter().filter(|entry| entry.is_headed_by(key));
        entries.any(|entry| entry.place(other).is_none())
    }

    /// Whether `key` is in an entry that lists one of `others` too.
    pub fn is_beside(&self, key: &KeyId, others: &[KeyId]) -> bool {
        let mut entries = self.entries.iter().filter(|entry| entry.place(key).is_some());
        entries.any(|entry| entry.lists_any(others))
    }
}

/// The entries, by index, whose first provider writes values of some resource: those in which one is named first.
pub(super) fn writing(entries: &[Entry]) -> impl Iterator<Item = usize> {
    let mut named = HashSet::new();
    entries.iter().enumerate().filter_map(move |(index, entry)| {
        let new = entry.resources.iter().filter(|resource| named.insert(*resource));
        (new.count() > 0).then_some(index)
    })
}
