//! The rules of a configuration as the proxy understands them: one a resource, with every provider that reads its values,
//! in the order in which they are tried.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::{EncryptionConfiguration, Entry, Key, KmsApiVersion, Provider, ResourceSelector};
use crate::keyring;
use crate::keyspace::KeySpace;

/// What one resource, or group of them, comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleView {
    /// As kube-apiserver prints it: `secrets`, `deployments.apps`, `*.apps`, `*.*`.
    pub resource: String,
    /// The document's entries that list it; their providers follow one another.
    pub entries: Vec<usize>,
    /// What its values are read with, in order. The first one writes, with its first key.
    pub providers: Vec<ProviderView>,
    /// Whether no key can ever be the rule's.
    pub idle: bool,
}

/// One provider of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderView {
    /// Its name in the document: `identity`, `aescbc`, `aesgcm`, `secretbox` or `kms`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where in the document.
    pub at: String,
    /// Its keys, in order; none for identity and kms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyView>,
    /// For kms alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms: Option<KmsView>,
}

/// A key, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Its name.
    pub name: String,
    /// Its length, bits.
    pub bits: usize,
}

/// A KMS plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KmsView {
    /// `v1` or `v2`.
    pub api_version: &'static str,
    /// Its name, stored beside every value.
    pub name: String,
    /// Its socket.
    pub endpoint: String,
    /// Longest wait for one call, as `3s`.
    #[serde(serialize_with = "as_text")]
    pub timeout: Duration,
    /// Data keys kept in memory; for v1 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<i32>,
}

/// Every rule of `config`, in the order in which the document names the resources first.
pub fn rules(config: &EncryptionConfiguration, keyspace: &KeySpace) -> Vec<RuleView> {
    let keyspace = &super::for_rules(config, keyspace);
    let view = |rule: Rule<'_>| RuleView {
        resource: rule.selector.to_string(),
        entries: rule.entries,
        idle: is_idle(rule.selector, keyspace),
        providers: rule.providers.iter().map(Placed::view).collect(),
    };
    merged(config).into_iter().map(view).collect()
}

/// Whether no key can ever be of `selector`.
pub(super) fn is_idle(selector: &ResourceSelector, keyspace: &KeySpace) -> bool {
    keyspace.spans_of(keyring::scope(selector)).is_empty()
}

/// A rule with its providers placed.
pub(super) struct Rule<'c> {
    pub(super) selector: &'c ResourceSelector,
    pub(super) entries: Vec<usize>,
    pub(super) providers: Vec<Placed<'c>>,
}

/// A provider and where the document has it.
#[derive(Clone, Copy)]
pub(super) struct Placed<'c> {
    pub(super) entry: usize,
    pub(super) index: usize,
    pub(super) provider: &'c Provider,
}

/// The rules of `config`, as [`EncryptionConfiguration::rules`] has them, with places.
pub(super) fn merged(config: &EncryptionConfiguration) -> Vec<Rule<'_>> {
    let rule = |(selector, _)| {
        let entries = config.entries.iter().enumerate();
        let listing: Vec<_> = entries.filter(|(_, of)| of.resources.contains(selector)).collect();
        Rule {
            selector,
            entries: listing.iter().map(|(entry, _)| *entry).collect(),
            providers: listing.into_iter().flat_map(|(entry, of)| placed(entry, of)).collect(),
        }
    };
    config.rules().into_iter().map(rule).collect()
}

/// The providers of one entry.
pub(super) fn placed(entry: usize, of: &Entry) -> impl Iterator<Item = Placed<'_>> {
    let providers = of.providers.iter().enumerate();
    providers.map(move |(index, provider)| Placed { entry, index, provider })
}

/// The keys of `provider`; none for identity and kms.
pub(super) fn keys(provider: &Provider) -> &[Key] {
    match provider {
        Provider::AesCbc { keys } | Provider::AesGcm { keys } | Provider::Secretbox { keys } => keys,
        Provider::Identity | Provider::Kms(_) => &[],
    }
}

/// The provider's name in the document.
pub(super) fn kind(provider: &Provider) -> &'static str {
    match provider {
        Provider::Identity => "identity",
        Provider::AesCbc { .. } => "aescbc",
        Provider::AesGcm { .. } => "aesgcm",
        Provider::Secretbox { .. } => "secretbox",
        Provider::Kms(_) => "kms",
    }
}

impl Placed<'_> {
    pub(super) fn at(&self) -> String {
        format!("resources[{}].providers[{}]", self.entry, self.index)
    }

    pub(super) fn at_key(&self, key: usize) -> String {
        format!("{}.{}.keys[{key}]", self.at(), kind(self.provider))
    }

    fn view(&self) -> ProviderView {
        let key = |key: &Key| KeyView {
            name: key.name.to_string(),
            bits: key.secret.len() * 8,
        };
        let kms = match self.provider {
            Provider::Kms(kms) => Some(KmsView {
                api_version: match kms.api_version {
                    KmsApiVersion::V1 => "v1",
                    KmsApiVersion::V2 => "v2",
                },
                name: kms.name.to_string(),
                endpoint: kms.endpoint.clone(),
                timeout: kms.timeout,
                cache_size: kms.cache_size,
            }),
            _ => None,
        };
        ProviderView {
            kind: kind(self.provider),
            at: self.at(),
            keys: keys(self.provider).iter().map(key).collect(),
            kms,
        }
    }
}

fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
