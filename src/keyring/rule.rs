//! From a configuration's entries to rules: selectors merged, ciphers keyed, chains built.

use std::sync::Arc;
use std::{fmt, ptr};

use super::Error;
use crate::audit;
use crate::config::{self, EncryptionConfiguration, KeyType, ResourceSelector};
use crate::keyspace::{KeySpace, Scope, Span};
use crate::kms::{Plugin, Plugins};
use crate::types::{KeyName, SecretBytes};
use crate::value::{BuildError, Chain, Provider};

/// What one selector of the configuration leads to.
///
/// Displayed for an operator, names only: `secrets: writes aescbc key "key1"; reads aescbc "key1","key0", identity`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) selector: ResourceSelector,
    pub(super) chain: Arc<Chain>,
    pub(super) spans: Vec<Span>,
}

impl Rule {
    /// Which resources the rule is about.
    pub fn selector(&self) -> &ResourceSelector {
        &self.selector
    }

    /// What writes and reads their values.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The rule as the audit log has it: names.
    pub fn for_audit(&self) -> audit::Rule {
        let names = |provider: &Provider| {
            let keys = provider.key_names().iter().map(ToString::to_string);
            (provider.kind().to_string(), keys.collect())
        };
        audit::Rule::new(&self.selector, self.chain.own_readers().map(names))
    }

    /// Where keys of the rule's resources lie. A more specific rule, or none at all, may hold for some keys there.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether no key can ever be the rule's: its resource is neither built in nor of a group with a dot, a misspelt
    /// `secret` for instance. Such a rule protects nothing.
    pub fn is_idle(&self) -> bool {
        self.spans.is_empty()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.selector, self.chain)
    }
}

impl Rule {
    /// A rule with a chain that no configuration led to.
    #[cfg(test)]
    pub(super) fn of(selector: ResourceSelector, chain: Chain, keyspace: &KeySpace) -> Self {
        Self {
            spans: keyspace.spans_of(scope(&selector)),
            selector,
            chain: Arc::new(chain),
        }
    }
}

/// Every rule of `config`, in the order in which the document names the selectors first, and the KMS plugins that it lists,
/// each once.
pub(super) fn compile(
    config: &EncryptionConfiguration,
    keyspace: &KeySpace,
    plugins: &Plugins,
) -> Result<(Vec<Rule>, Vec<Plugin>), Error> {
    let mut listed_plugins = Vec::new();
    let keyed = keyed_providers(config, plugins, &mut listed_plugins)?;
    let retired = retired(config)?;
    let rules = config.rules().into_iter().map(|(selector, listed)| {
        // The very provider, not an equal one: the rules of an entry share its keyed ciphers.
        let same = |listed: &&config::Provider| keyed.iter().find(|(provider, _)| ptr::eq(*provider, *listed));
        let providers = listed.iter().filter_map(same).map(|(_, provider)| provider.clone());
        let chain = Chain::with_retired(providers.collect(), retired.clone());
        let chain = chain.map_err(|source| Error::Chain {
            selector: selector.to_string(),
            source,
        })?;
        Ok(Rule {
            selector: selector.clone(),
            chain: Arc::new(chain),
            spans: keyspace.spans_of(scope(selector)),
        })
    });
    Ok((rules.collect::<Result<_, _>>()?, listed_plugins))
}

/// Every provider of every entry with its ciphers keyed.
fn keyed_providers<'a>(
    config: &'a EncryptionConfiguration,
    plugins: &Plugins,
    found: &mut Vec<Plugin>,
) -> Result<Vec<(&'a config::Provider, Provider)>, Error> {
    let mut all = Vec::new();
    for (entry, index) in config.entries.iter().zip(0..) {
        for (listed, place) in entry.providers.iter().zip(0..) {
            let provider = match listed {
                config::Provider::Kms(kms) => {
                    let plugin = plugin(kms, plugins, index, place)?;
                    let provider = plugin.provider();
                    if !found.iter().any(|other| other.is(&plugin)) {
                        found.push(plugin);
                    }
                    Ok(provider)
                }
                config::Provider::Identity => Ok(Provider::identity()),
                config::Provider::AesCbc { keys } => keyed(KeyType::AesCbc, keys),
                config::Provider::AesGcm { keys } => keyed(KeyType::AesGcm, keys),
                config::Provider::Secretbox { keys } => keyed(KeyType::Secretbox, keys),
            };
            let provider = provider.map_err(|source| Error::Provider {
                entry: index,
                provider: place,
                source,
            })?;
            all.push((listed, provider));
        }
    }
    Ok(all)
}

/// A provider of that type with its ciphers keyed.
fn keyed(of: KeyType, keys: &[config::Key]) -> Result<Provider, BuildError> {
    match of {
        KeyType::AesCbc => Provider::aescbc(pairs(keys)),
        KeyType::AesGcm => Provider::aesgcm(pairs(keys)),
        KeyType::Secretbox => Provider::secretbox(pairs(keys)),
    }
}

/// The retired keys of `config`, keyed.
fn retired(config: &EncryptionConfiguration) -> Result<Vec<Provider>, Error> {
    let by_type = config.retired.by_type().into_iter();
    let providers = by_type.map(|(of, keys)| keyed(of, &keys)).collect::<Result<_, _>>();
    providers.map_err(Error::Retired)
}

fn plugin(kms: &config::Kms, plugins: &Plugins, entry: usize, provider: usize) -> Result<Plugin, Error> {
    plugins.plugin(kms).map_err(|source| Error::Kms {
        entry,
        provider,
        name: kms.name.clone(),
        source,
    })
}

/// Names and bytes of the keys, in order.
fn pairs(keys: &[config::Key]) -> impl Iterator<Item = (&KeyName, &SecretBytes)> {
    keys.iter().map(|key| (&key.name, &key.secret))
}

/// Where in a key space `selector` reaches.
pub(crate) fn scope(selector: &ResourceSelector) -> Scope<'_> {
    match selector {
        ResourceSelector::Exact(resource) => Scope::Resource(resource),
        ResourceSelector::Group(group) => Scope::Group(group),
        ResourceSelector::All => Scope::Everything,
    }
}
