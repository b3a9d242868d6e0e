//! What `migrate` goes over to, which rules get it, and under which name. Pure.
//!
//! A KMS provider's name may stand in a configuration once, since kube-apiserver refuses a second one. So each rule has one of its
//! own: `NAME` for the first, `NAME-2` for the next, all at one endpoint.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::keys::{KeyId, KeyType, WritingEntry};
use super::model::{EncryptionConfiguration, Entry, Kms, KmsApiVersion, Provider, ResourceSelector};
use super::provider_type::ProviderType;
use super::{Error, Options, parse};
use crate::types::{GroupResource, KeyName};

/// What is to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A new key for this provider.
    Keys(KeyType),
    /// A KMS plugin.
    Kms(#[serde(with = "plugin")] Kms),
    /// Nothing: values are stored in the clear.
    Identity,
}

/// Who writes now, and who is to write in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// What writes, with what follows it.
    pub pairs: Vec<(KeyId, KeyId)>,
    /// What is to write, where it does so already.
    pub already: Vec<KeyId>,
    /// Resources whose rule has nothing but identity, beside rules that write encrypted: it is left as it is.
    pub left: Vec<String>,
}

/// Why a plugin cannot be listed as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Another plugin has the name.
    Name(Kms),
    /// The endpoint is listed with another version of the protocol.
    Version(Kms),
}

impl Target {
    /// Whether a configuration that lists it is valid.
    ///
    /// # Errors
    /// What kube-apiserver would say of it.
    pub fn check(&self) -> Result<(), Error> {
        let Self::Kms(kms) = self else { return Ok(()) };
        let draft = Draft {
            entries: vec![Entry {
                resources: vec![ResourceSelector::Exact(GroupResource::new("", "secrets"))],
                providers: vec![Provider::Kms(kms.clone())],
            }],
        };
        parse(draft.render("").as_bytes(), Options { reload: true }).map(|_| ())
    }

    /// Who is to write in whose place in `config`, where `new_key` names a key that none of those it is given has.
    ///
    /// # Errors
    /// The plugin cannot be listed.
    pub fn migration(
        &self,
        config: &EncryptionConfiguration,
        new_key: impl Fn(KeyType, &[KeyId]) -> KeyId,
    ) -> Result<Migration, Conflict> {
        if let Self::Kms(kms) = self {
            refuse_conflict(kms, config)?;
        }
        let mut found = Migration::default();
        let entries = config.writing_entries();
        let encrypts = entries
            .iter()
            .any(|entry| entry.head.provider != ProviderType::Identity);
        for entry in entries {
            let is_bare = entry
                .entry
                .providers
                .iter()
                .all(|provider| *provider == Provider::Identity);
            if is_bare && encrypts && *self != Self::Identity {
                let resources = entry.resources.iter().map(ToString::to_string);
                found.left.extend(resources);
                continue;
            }
            if self.is(&entry) {
                found.already.push(entry.head);
                continue;
            }
            self.follow(&entry, config, &new_key, &mut found.pairs);
        }
        Ok(found)
    }

    fn follow(
        &self,
        entry: &WritingEntry<'_>,
        config: &EncryptionConfiguration,
        new_key: impl Fn(KeyType, &[KeyId]) -> KeyId,
        pairs: &mut Vec<(KeyId, KeyId)>,
    ) {
        let assigned: Vec<KeyId> = pairs.iter().map(|(_, new)| new.clone()).collect();
        match self {
            Self::Identity => {
                pairs.push((entry.head.clone(), entry.entry.identity()));
            }
            Self::Keys(of) => {
                let is_clear = |id: &KeyId| id.provider == ProviderType::Identity;
                // One key follows one key, wherever that writes; and one follows all that is in the clear.
                let same = |(old, _): &&(KeyId, KeyId)| *old == entry.head || (is_clear(old) && is_clear(&entry.head));
                let new = pairs.iter().find(same).map(|(_, new)| new.clone());
                let pair = (entry.head.clone(), new.unwrap_or_else(|| new_key(*of, &assigned)));
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
            Self::Kms(kms) => {
                let listed = entry.entry.providers.iter().find_map(|provider| match provider {
                    Provider::Kms(other) if is_same(kms, other) => Some(other.name.clone()),
                    _ => None,
                });
                let is_taken = |name: &KeyName| {
                    config.plugins().any(|other| other.name == *name) || assigned.iter().any(|id| id.name == *name)
                };
                let others = (2_u32..).map(|number| KeyName::new(format!("{}-{number}", kms.name)));
                let mut candidates = std::iter::once(kms.name.clone()).chain(others);
                let name = listed.or_else(|| candidates.find(|name| !is_taken(name)));
                let new = KeyId {
                    provider: ProviderType::Kms(kms.api_version),
                    name: name.unwrap_or_else(|| kms.name.clone()),
                };
                pairs.push((entry.head.clone(), new));
            }
        }
    }

    /// Whether what writes in `entry` is what this names.
    fn is(&self, entry: &WritingEntry<'_>) -> bool {
        match self {
            Self::Keys(of) => entry.head.key_type() == Some(*of),
            Self::Identity => entry.head.provider == ProviderType::Identity,
            Self::Kms(kms) => {
                matches!(entry.entry.providers.first(), Some(Provider::Kms(other)) if is_same(kms, other))
            }
        }
    }
}

/// Whether `other` is the plugin `kms`, under a name that a rule has it by.
fn is_same(kms: &Kms, other: &Kms) -> bool {
    let behind = other.name.as_str().strip_prefix(kms.name.as_str());
    let is_numbered = |rest: &str| {
        let digits = rest.strip_prefix('-').unwrap_or_default();
        rest.is_empty() || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    kms.api_version == other.api_version && kms.endpoint == other.endpoint && behind.is_some_and(is_numbered)
}

fn refuse_conflict(kms: &Kms, config: &EncryptionConfiguration) -> Result<(), Conflict> {
    for other in config.plugins() {
        if other.name == kms.name && !is_same(kms, other) {
            return Err(Conflict::Name(other.clone()));
        }
        if other.endpoint == kms.endpoint && other.api_version != kms.api_version {
            return Err(Conflict::Version(other.clone()));
        }
    }
    Ok(())
}

impl Draft {
    /// Lists what follows each writer of `pairs` so that it reads only: right behind it, as the `provider` of its own that it
    /// names. An entry that lists it already stays as it is.
    pub fn introduce(&mut self, pairs: &[(KeyId, KeyId)], provider: impl Fn(&KeyId) -> Option<Provider>) {
        for entry in self.writing_indexes() {
            let Some(chosen) = self.chosen(entry, pairs) else {
                continue;
            };
            if let (Some(entry), Some(provider)) = (self.entries.get_mut(entry), provider(&chosen)) {
                entry.providers.insert(1, provider);
            }
        }
    }

    /// What the entry lacks of what follows its writer.
    fn chosen(&self, index: usize, pairs: &[(KeyId, KeyId)]) -> Option<KeyId> {
        let entry = self.entries.get(index)?;
        let follow = |(old, new): &&(KeyId, KeyId)| {
            let fits = new.provider != ProviderType::Identity || *new == entry.identity();
            fits && entry.is_headed_by(old)
        };
        let mut following = pairs.iter().filter(follow).map(|(_, new)| new);
        if following.clone().any(|new| entry.place(new).is_some()) {
            return None;
        }
        // A plugin's name stands in one entry.
        let is_free = |new: &&KeyId| {
            let mut entries = self.entries.iter();
            !matches!(new.provider, ProviderType::Kms(_)) || entries.all(|other| other.place(new).is_none())
        };
        following.find(is_free).cloned()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(of) => write!(f, "{of}"),
            Self::Identity => f.write_str("identity"),
            Self::Kms(kms) => write!(f, "{kms}"),
        }
    }
}

/// As `migrate --to` takes it.
impl fmt::Display for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.api_version {
            KmsApiVersion::V1 => "v1",
            KmsApiVersion::V2 => "v2",
        };
        write!(
            f,
            "kms:{version}:{}={}",
            self.name.as_str().escape_debug(),
            self.endpoint.escape_debug()
        )
    }
}

/// A plugin in a record.
mod plugin {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Duration, KeyName, Kms, KmsApiVersion, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Plugin {
        is_v1: bool,
        name: KeyName,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        cache_size: Option<i32>,
        endpoint: String,
        timeout_ns: u64,
    }

    pub(super) fn serialize<S: Serializer>(kms: &Kms, serializer: S) -> Result<S::Ok, S::Error> {
        let plugin = Plugin {
            is_v1: kms.api_version == KmsApiVersion::V1,
            name: kms.name.clone(),
            cache_size: kms.cache_size,
            endpoint: kms.endpoint.clone(),
            timeout_ns: u64::try_from(kms.timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        plugin.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kms, D::Error> {
        let plugin = Plugin::deserialize(deserializer)?;
        Ok(Kms {
            api_version: if plugin.is_v1 {
                KmsApiVersion::V1
            } else {
                KmsApiVersion::V2
            },
            name: plugin.name,
            cache_size: plugin.cache_size,
            endpoint: plugin.endpoint,
            timeout: Duration::from_nanos(plugin.timeout_ns),
        })
    }
}
