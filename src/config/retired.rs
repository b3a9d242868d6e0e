//! Keys that are retired: documents that were in use once have them, and the one in use does not. They open what still turns up
//! under them, a restored snapshot's values say, and never write. A document that is written never lists them.

use std::collections::HashMap;

use super::keys::{KeyId, KeyType};
use super::model::{EncryptionConfiguration, Key, Provider};
use crate::types::{Fingerprint, KeyName};

/// Keys that only read, and stand behind all that the configuration lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    keys: Vec<(KeyType, Key)>,
    left_out: Vec<KeyId>,
    documents: Vec<Fingerprint>,
}

impl Retired {
    /// The keys of `past`, latest document first, that `current` does not list.
    ///
    /// A KMS provider of a past document is not among them: what it needs is a plugin, which nobody keeps in an archive. An
    /// aescbc key whose name stands for other bytes as well is left out: aescbc is not authenticated, so that either of the two
    /// would open some values of the other to rubbish.
    pub fn of(current: &EncryptionConfiguration, past: &[EncryptionConfiguration]) -> Self {
        // By what a value says of its key. What shares a name is few.
        let mut by_name: HashMap<(KeyType, &KeyName), Vec<&Key>> = HashMap::new();
        for (of, key) in keys(current) {
            by_name.entry((of, &key.name)).or_default().push(key);
        }
        let mut found = Vec::new();
        for (of, key) in past.iter().flat_map(keys) {
            let of_name = by_name.entry((of, &key.name)).or_default();
            if !of_name.contains(&key) {
                of_name.push(key);
                found.push((of, key));
            }
        }
        let is_ambiguous = |(of, key): &(KeyType, &Key)| {
            *of == KeyType::AesCbc && by_name.get(&(*of, &key.name)).is_some_and(|keys| keys.len() > 1)
        };
        let (left_out, keys): (Vec<_>, Vec<_>) = found.into_iter().partition(is_ambiguous);
        let id = |(of, key): (KeyType, &Key)| KeyId {
            provider: of.into(),
            name: key.name.clone(),
        };
        let other = past.iter().map(|document| document.fingerprint);
        Self {
            keys: keys.into_iter().map(|(of, key)| (of, key.clone())).collect(),
            left_out: left_out.into_iter().map(id).collect(),
            documents: other.filter(|document| *document != current.fingerprint).collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Which keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|(of, key)| KeyId {
            provider: (*of).into(),
            name: key.name.clone(),
        })
    }

    /// Those that could not be taken, for their names stand for several keys.
    pub fn left_out(&self) -> &[KeyId] {
        &self.left_out
    }

    /// The documents that were looked at, without the one in use.
    pub fn documents(&self) -> &[Fingerprint] {
        &self.documents
    }

    /// The keys of each type that has any.
    pub fn by_type(&self) -> Vec<(KeyType, Vec<Key>)> {
        let mut types = Vec::new();
        for of in [KeyType::AesCbc, KeyType::AesGcm, KeyType::Secretbox] {
            let keys = self.keys.iter().filter(|(known, _)| *known == of);
            let keys: Vec<_> = keys.map(|(_, key)| key.clone()).collect();
            if !keys.is_empty() {
                types.push((of, keys));
            }
        }
        types
    }
}

fn keys(config: &EncryptionConfiguration) -> impl Iterator<Item = (KeyType, &Key)> {
    let providers = config.entries.iter().flat_map(|entry| &entry.providers);
    let keys = providers.filter_map(Provider::keys);
    keys.flat_map(|(of, keys)| keys.iter().map(move |key| (of, key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, parse};

    const A: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
    const B: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

    fn config(providers: &[(&str, &str, &str)]) -> EncryptionConfiguration {
        let provider = |(of, name, secret): &(&str, &str, &str)| {
            format!("  - {of}: {{keys: [{{name: {name}, secret: {secret}}}]}}\n")
        };
        let providers: String = providers.iter().map(provider).collect();
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
             providers:\n{providers}  - kms: {{apiVersion: v2, name: k, endpoint: 'unix:///p'}}\n  - identity: {{}}\n"
        );
        parse(text.as_bytes(), Options { reload: true }).unwrap()
    }

    fn ids(retired: &Retired) -> Vec<String> {
        retired.ids().map(|id| id.to_string()).collect()
    }

    #[test]
    fn keys_that_are_listed_no_more_are_retired_once_each_and_never_listed() {
        let current = config(&[("secretbox", "three", A)]);
        let past = [
            config(&[("secretbox", "three", A), ("aescbc", "two", B)]),
            config(&[("aescbc", "two", B), ("aesgcm", "one", A)]),
        ];
        let retired = Retired::of(&current, &past);
        assert_eq!(ids(&retired), ["aescbc key \"two\"", "aesgcm key \"one\""]);
        assert_eq!(retired.by_type().len(), 2);
        assert!(Retired::of(&current, std::slice::from_ref(&current)).is_empty());
        assert_eq!(Retired::of(&current, std::slice::from_ref(&current)).documents(), []);
    }

    #[test]
    fn of_keys_that_share_a_name_only_those_are_taken_that_tell_their_own_values() {
        let current = config(&[("aescbc", "one", A), ("secretbox", "two", A)]);
        let past = [config(&[("aescbc", "one", B), ("secretbox", "two", B)])];
        let retired = Retired::of(&current, &past);
        assert_eq!(ids(&retired), ["secretbox key \"two\""]);
        assert_eq!(retired.left_out().len(), 1);
        let past = [config(&[("aescbc", "old", A)]), config(&[("aescbc", "old", B)])];
        assert_eq!(ids(&Retired::of(&current, &past)), [""; 0]);
    }
}
