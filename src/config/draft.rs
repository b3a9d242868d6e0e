//! The changes that a rotation makes to a configuration, one step each. Pure; everything that a step does not name stays as
//! it was, and only [`Draft::remove`] and [`Draft::remove_readers`] take away something that could be read before.

use super::keys::{KeyId, KeyType, writing};
use super::model::{EncryptionConfiguration, Entry, Key, Provider, ResourceSelector};

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

    /// Lists `key` so that it reads only, in each entry that writes with the key `writer`: last in that one's list or, where
    /// it is of another type, in a provider of its own right behind. A provider of that type further behind is left alone: what
    /// it reads stays where it is, and to take `key` back is to take its provider away.
    pub fn append(&mut self, writer: &KeyId, of: KeyType, key: &Key) {
        for entry in self.writing_entries() {
            let Some(first) = entry.providers.first_mut() else {
                continue;
            };
            if first.key_ids().next().as_ref() != Some(writer) {
                continue;
            }
            match keys_mut(first, of) {
                Some(keys) => keys.push(key.clone()),
                None => entry.providers.insert(1, Provider::with_keys(of, vec![key.clone()])),
            }
        }
    }

    /// Puts `key` in front of the key `over` in each entry that lists both: first in its list, and its provider before that
    /// of `over`. It writes where `over` did. All others keep their order.
    pub fn promote(&mut self, key: &KeyId, over: &KeyId) {
        self.promote_where(key, over, |_| true);
    }

    /// The same, in the entries that write with `over` now. Where another key has come first since, that one stays first.
    pub fn reinstate(&mut self, key: &KeyId, over: &KeyId) {
        self.promote_where(key, over, |entry| entry.is_headed_by(over));
    }

    fn promote_where(&mut self, key: &KeyId, over: &KeyId, is_wanted: impl Fn(&Entry) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| is_wanted(entry)) {
            let (Some((from, index)), Some((to, _))) = (entry.place(key), entry.place(over)) else {
                continue;
            };
            let provider = entry.providers.get_mut(from);
            let list = provider.and_then(|provider| keys_mut(provider, key.key_type()?));
            if let Some(head) = list.and_then(|keys| keys.get_mut(..=index)) {
                head.rotate_right(1);
            }
            if to < from
                && let Some(span) = entry.providers.get_mut(to..=from)
            {
                span.rotate_right(1);
            }
        }
    }

    /// Takes each of `keys` from the entries that list one of `beside` too, which itself stays, and a provider with its last
    /// key.
    pub fn remove(&mut self, keys: &[KeyId], beside: &[KeyId]) {
        for entry in self.entries.iter_mut().filter(|entry| entry.lists_any(beside)) {
            let mut going = keys.to_vec();
            going.retain(|id| !beside.contains(id));
            entry.take(&going);
        }
    }

    /// Lists `key` so that it reads only, in the first entry that names `selector`: last in the list of the last provider of its
    /// type or, where there is none, in a provider of its own, last but for identity. What the entry lists already stays once.
    pub fn read_with(&mut self, selector: &ResourceSelector, of: KeyType, key: &Key) {
        let id = KeyId {
            provider: of.into(),
            name: key.name.clone(),
        };
        let mut entries = self.entries.iter_mut();
        let Some(entry) = entries.find(|entry| entry.resources.contains(selector)) else {
            return;
        };
        if entry.place(&id).is_some() {
            return;
        }
        let mut lists = entry.providers.iter_mut().rev();
        if let Some(keys) = lists.find_map(|provider| keys_mut(provider, of)) {
            keys.push(key.clone());
            return;
        }
        let ends_clear = entry.providers.len() > 1 && entry.providers.last() == Some(&Provider::Identity);
        let place = entry.providers.len() - usize::from(ends_clear);
        entry
            .providers
            .insert(place, Provider::with_keys(of, vec![key.clone()]));
    }

    /// Takes each of `keys` from every entry that does not write with it, and a provider with its last key.
    pub fn remove_readers(&mut self, keys: &[KeyId]) {
        for entry in &mut self.entries {
            let mut going = keys.to_vec();
            going.retain(|key| !entry.is_headed_by(key));
            entry.take(&going);
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
                entry.providers.push(Provider::with_keys(of, vec![key.clone()]));
            }
        }
    }

    /// The entries that write.
    pub(super) fn writing_indexes(&self) -> Vec<usize> {
        writing(&self.entries).collect()
    }

    fn writing_entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        let writing = self.writing_indexes();
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(move |(index, entry)| writing.contains(&index).then_some(entry))
    }
}

impl Entry {
    /// Takes `keys` out, and a provider with its last key.
    fn take(&mut self, keys: &[KeyId]) {
        for id in keys {
            let Some(of) = id.key_type() else {
                // identity is one of an entry for each resource that it names.
                if self.place(id).is_some() {
                    self.providers.retain(|provider| !provider.is_of(id));
                }
                continue;
            };
            let lists = self.providers.iter_mut();
            for list in lists.filter_map(|provider| keys_mut(provider, of)) {
                list.retain(|key| key.name != id.name);
            }
        }
        let is_empty = |provider: &Provider| provider.keys().is_some_and(|(_, keys)| keys.is_empty());
        self.providers.retain(|provider| !is_empty(provider));
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
