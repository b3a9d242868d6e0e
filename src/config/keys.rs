//! Which keys a configuration lists and writes with, by name. Reads only; holds no key bytes.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{EncryptionConfiguration, Entry, Key, Kms, Provider, ResourceSelector};
use super::provider_type::ProviderType;
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

/// Which key: values that it sealed say no more of it than this. A KMS plugin counts as one key, and so does identity in one
/// entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId {
    /// Its provider.
    pub provider: ProviderType,
    /// Its name there; the plugin's; or, for identity, the entry's resources, sorted, with commas between them.
    pub name: KeyName,
}

impl KeyId {
    /// Values in the clear, by an entry for these resources.
    fn identity(resources: &[ResourceSelector]) -> Self {
        let mut names: Vec<String> = resources.iter().map(ToString::to_string).collect();
        names.sort();
        Self {
            provider: ProviderType::Identity,
            name: KeyName::new(names.join(",")),
        }
    }

    /// Whether it is identity, in an entry that names this resource.
    pub fn lays_bare(&self, resource: &str) -> bool {
        self.provider == ProviderType::Identity && self.name.as_str().split(',').any(|name| name == resource)
    }

    /// What it is for, if its bytes stand in the configuration.
    pub fn key_type(&self) -> Option<KeyType> {
        self.provider.key_type()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_str();
        match self.provider {
            ProviderType::Keys(of) => write!(f, "{of} key {name:?}"),
            ProviderType::Kms(_) => write!(f, "{} plugin {name:?}", self.provider),
            ProviderType::Identity => write!(
                f,
                "identity for {}",
                self.name.as_str().replace(',', ", ").escape_debug()
            ),
        }
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
    pub(crate) fn with_keys(of: KeyType, keys: Vec<Key>) -> Self {
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
                provider: provider.into(),
                name: key.name.clone(),
            })
        })
    }

    /// Whether it is, or lists, `id`, where it stands in an entry for that resource.
    pub fn is_of(&self, id: &KeyId) -> bool {
        match (self, id.provider) {
            (Self::Identity, ProviderType::Identity) => true,
            (Self::Kms(kms), ProviderType::Kms(version)) => kms.api_version == version && kms.name == id.name,
            _ => self.key_ids().any(|key| key == *id),
        }
    }
}

impl Entry {
    /// Where it lists `key` first: in which provider, and where among its keys.
    pub(super) fn place(&self, key: &KeyId) -> Option<(usize, usize)> {
        if key.provider == ProviderType::Identity && *key != self.identity() {
            return None;
        }
        let mut providers = self.providers.iter().enumerate();
        providers.find_map(|(index, provider)| match key.provider {
            ProviderType::Keys(_) => Some((index, provider.key_ids().position(|id| id == *key)?)),
            ProviderType::Kms(_) | ProviderType::Identity => provider.is_of(key).then_some((index, 0)),
        })
    }

    /// identity, in this entry.
    pub(super) fn identity(&self) -> KeyId {
        KeyId::identity(&self.resources)
    }

    /// What it writes with.
    fn head(&self) -> Option<KeyId> {
        match self.providers.first()? {
            Provider::Kms(kms) => Some(KeyId {
                provider: ProviderType::Kms(kms.api_version),
                name: kms.name.clone(),
            }),
            Provider::Identity => Some(self.identity()),
            provider => provider.key_ids().next(),
        }
    }

    /// Whether `key` is the first key of its first provider.
    pub(super) fn is_headed_by(&self, key: &KeyId) -> bool {
        self.place(key) == Some((0, 0))
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

    /// All that writes, once each: keys, KMS plugins, and identity for each entry that it writes in.
    pub fn writing(&self) -> Vec<KeyId> {
        let mut ids = Vec::new();
        for id in self.writing_entries().into_iter().map(|entry| entry.head) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The entries in which a resource is named first, with what each writes.
    pub(crate) fn writing_entries(&self) -> Vec<WritingEntry<'_>> {
        let mut named = HashSet::new();
        let entries = self.entries.iter().filter_map(|entry| {
            let new = entry.resources.iter().filter(|resource| named.insert(*resource));
            let resources: Vec<_> = new.collect();
            let head = entry.head().filter(|_| !resources.is_empty())?;
            Some(WritingEntry { entry, head, resources })
        });
        entries.collect()
    }

    /// Every KMS plugin that is listed, in the order of the document.
    pub fn plugins(&self) -> impl Iterator<Item = &Kms> {
        let all = self.entries.iter().flat_map(|entry| &entry.providers);
        all.filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms),
            _ => None,
        })
    }

    /// Every key, once, in the order of the document.
    pub fn key_ids(&self) -> Vec<KeyId> {
        let mut seen = HashSet::new();
        let all = self.entries.iter().flat_map(|entry| &entry.providers);
        let mut ids: Vec<_> = all.flat_map(Provider::key_ids).collect();
        ids.retain(|key| seen.insert(key.clone()));
        ids
    }

    /// The key `id`, where its bytes stand in the configuration.
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        let mut lists = self.entries.iter().flat_map(|entry| &entry.providers);
        lists.find_map(|provider| {
            let (of, keys) = provider.keys()?;
            let mut keys = keys.iter().filter(|_| id.key_type() == Some(of));
            keys.find(|key| key.name == id.name)
        })
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

/// An entry that writes.
pub(crate) struct WritingEntry<'a> {
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// What it writes with.
    pub(crate) head: KeyId,
    /// The resources that no entry before it names.
    pub(crate) resources: Vec<&'a ResourceSelector>,
}

/// The entries, by index, whose first provider writes values of some resource: those in which one is named first.
pub(super) fn writing(entries: &[Entry]) -> impl Iterator<Item = usize> {
    let mut named = HashSet::new();
    entries.iter().enumerate().filter_map(move |(index, entry)| {
        let new = entry.resources.iter().filter(|resource| named.insert(*resource));
        (new.count() > 0).then_some(index)
    })
}
