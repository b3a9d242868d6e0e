//! The changes that a rotation makes to a configuration, one step each. Pure; everything that a step does not name stays as
//! it was, and only [`Draft::remove`] takes away something that could be read before.

use super::keys::{KeyId, KeyType, is_any_in, writing};
use super::model::{EncryptionConfiguration, Entry, Key, Provider};

/// A configuration while it is changed. [`Draft::render`] makes a document of it.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) entries: Vec<Entry>,
}

impl Draft {
    /// A copy of `config`, to be changed.
    pub fn of(config: &EncryptionConfiguration) -> Self {
        Self {
            entries: config.entries.clone(),
        }
    }

    /// Whether it says something else than `config`.
    pub fn differs_from(&self, config: &EncryptionConfiguration) -> bool {
        self.entries != config.entries
    }

    /// Lists `key` last, so that it reads only, in each provider that writes with the key `writer`.
    pub fn append(&mut self, writer: &KeyId, key: &Key) {
        for provider in self.writing_providers() {
            let is_meant = provider.key_ids().next().as_ref() == Some(writer);
            if let Some(keys) = keys_mut(provider, writer.provider).filter(|_| is_meant) {
                keys.push(key.clone());
            }
        }
    }

    /// Puts `key` first in each list of keys in which one of `beside` stands too: where the list's provider is the first
    /// one, it writes.
    pub fn promote(&mut self, key: &KeyId, beside: &[KeyId]) {
        for keys in self.lists(key, beside) {
            // Stable: the others keep their order.
            keys.sort_by_key(|other| other.name != key.name);
        }
    }

    /// Puts `key` last there: it reads only.
    pub fn demote(&mut self, key: &KeyId, beside: &[KeyId]) {
        for keys in self.lists(key, beside) {
            keys.sort_by_key(|other| other.name == key.name);
        }
    }

    /// Takes each of `keys` from the lists in which one of `beside` stands too, which itself stays.
    pub fn remove(&mut self, keys: &[KeyId], beside: &[KeyId]) {
        for provider in self.entries.iter_mut().flat_map(|entry| &mut entry.providers) {
            let Some((of, list)) = provider.keys() else { continue };
            if !is_any_in(beside, of, list) {
                continue;
            }
            if let Some(list) = keys_mut(provider, of) {
                let is_named = |ids: &[KeyId], key: &Key| ids.iter().any(|id| id.provider == of && id.name == key.name);
                list.retain(|key| is_named(beside, key) || !is_named(keys, key));
            }
        }
    }

    /// Has every entry read values in the clear: identity last where it was not listed.
    pub fn add_identity(&mut self) {
        for entry in self.writing_entries() {
            if !entry.providers.contains(&Provider::Identity) {
                entry.providers.push(Provider::Identity);
            }
        }
    }

    /// Has every entry write in the clear: identity first. What was sealed is read as before.
    pub fn identity_first(&mut self) {
        for entry in self.writing_entries() {
            if entry.providers.first() != Some(&Provider::Identity) {
                entry.providers.retain(|provider| *provider != Provider::Identity);
                entry.providers.insert(0, Provider::Identity);
            }
        }
    }

    /// Has every entry write with its first other provider, if it has one: identity last.
    pub fn identity_last(&mut self) {
        for entry in self.writing_entries() {
            let is_other = |provider: &Provider| *provider != Provider::Identity;
            if entry.providers.iter().any(is_other) && !entry.providers.first().is_some_and(is_other) {
                entry.providers.retain(is_other);
                entry.providers.push(Provider::Identity);
            }
        }
    }

    /// Lists a provider with `key` last in every entry that has nothing but identity.
    pub fn add_provider(&mut self, of: KeyType, key: &Key) {
        for entry in self.writing_entries() {
            if entry.providers.iter().all(|provider| *provider == Provider::Identity) {
                let keys = vec![key.clone()];
                entry.providers.push(match of {
                    KeyType::AesCbc => Provider::AesCbc { keys },
                    KeyType::AesGcm => Provider::AesGcm { keys },
                    KeyType::Secretbox => Provider::Secretbox { keys },
                });
            }
        }
    }

    fn writing_entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        let writing: Vec<usize> = writing(&self.entries).collect();
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(move |(index, entry)| writing.contains(&index).then_some(entry))
    }

    fn writing_providers(&mut self) -> impl Iterator<Item = &mut Provider> {
        self.writing_entries().filter_map(|entry| entry.providers.first_mut())
    }

    /// The lists that `key` and one of `beside` are in.
    fn lists(&mut self, key: &KeyId, beside: &[KeyId]) -> impl Iterator<Item = &mut Vec<Key>> {
        let of = key.provider;
        let providers = self.entries.iter_mut().flat_map(|entry| &mut entry.providers);
        let lists = providers.filter_map(move |provider| keys_mut(provider, of));
        lists.filter(move |keys| is_any_in(std::slice::from_ref(key), of, keys) && is_any_in(beside, of, keys))
    }
}

fn keys_mut(provider: &mut Provider, of: KeyType) -> Option<&mut Vec<Key>> {
    match (provider, of) {
        (Provider::AesCbc { keys }, KeyType::AesCbc)
        | (Provider::AesGcm { keys }, KeyType::AesGcm)
        | (Provider::Secretbox { keys }, KeyType::Secretbox) => Some(keys),
        _ => None,
    }
}
