//! Compiling a configuration's entries into chains, and finding the chain of a key. Neither changes afterwards.

use std::fmt;
use std::sync::Arc;

use super::Error;
use crate::config::{self, EncryptionConfiguration, ResourceSelector};
use crate::keyspace::{KeySpace, Place, Scope, Span};
use crate::types::{Fingerprint, GroupResource, KeyName, KeyRange, SecretBytes};
use crate::value::{Chain, Provider};

/// What one selector of the configuration leads to.
///
/// Displayed for an operator, names only: `secrets: writes aescbc key "key1"; reads aescbc "key1","key0", identity`.
#[derive(Clone, Debug)]
pub struct Rule {
    selector: ResourceSelector,
    chain: Arc<Chain>,
    spans: Vec<Span>,
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

/// One configuration over one key space.
///
/// Only the most specific rule covers a resource: its own, then its group's, then the one for everything. The order of
/// the document says nothing about that; it decides only in which order a selector that several entries list gets their
/// providers.
#[derive(Debug)]
pub struct Keyring {
    keyspace: KeySpace,
    fingerprint: Fingerprint,
    /// In the order in which the document names the selectors first.
    rules: Vec<Rule>,
    /// Sorted.
    exact: Vec<(GroupResource, Arc<Chain>)>,
    /// Sorted.
    groups: Vec<(String, Arc<Chain>)>,
    all: Option<Arc<Chain>>,
}

impl Keyring {
    /// Keys every cipher of `config` and finds out where its rules reach in `keyspace`.
    pub fn compile(config: &EncryptionConfiguration, keyspace: KeySpace) -> Result<Self, Error> {
        let mut rules: Vec<Rule> = Vec::new();
        for (selector, providers) in providers_by_selector(config)? {
            let chain = Chain::new(providers).map_err(|source| Error::Chain {
                selector: selector.to_string(),
                source,
            })?;
            rules.push(Rule {
                selector: selector.clone(),
                chain: Arc::new(chain),
                spans: keyspace.spans_of(scope(selector)),
            });
        }
        let mut keyring = Self {
            keyspace,
            fingerprint: config.fingerprint,
            rules: Vec::new(),
            exact: Vec::new(),
            groups: Vec::new(),
            all: None,
        };
        for Rule { selector, chain, .. } in &rules {
            let chain = Arc::clone(chain);
            match selector {
                ResourceSelector::Exact(resource) => keyring.exact.push((resource.clone(), chain)),
                ResourceSelector::Group(group) => keyring.groups.push((group.clone(), chain)),
                ResourceSelector::All => keyring.all = Some(chain),
            }
        }
        keyring.exact.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        keyring.groups.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        keyring.rules = rules;
        Ok(keyring)
    }

    /// The chain for the value under `key`. `None`: no rule covers it, and the value passes untouched.
    pub fn chain(&self, key: &[u8]) -> Option<&Chain> {
        let found = match self.keyspace.classify(key) {
            Place::Resource { group, resource } => self
                .exact_rule(group, resource)
                .or_else(|| self.group_rule(group))
                .or(self.all.as_ref()),
            Place::Unlisted => self.all.as_ref(),
            Place::NeverEncrypted | Place::Outside => None,
        };
        found.map(Arc::as_ref)
    }

    /// Whether any key of `range` could have a chain. Errs only towards true, and only for kube-apiserver's own records
    /// and for prefixes below one another.
    pub fn may_cover(&self, range: &KeyRange<'_>) -> bool {
        self.rules
            .iter()
            .flat_map(|rule| &rule.spans)
            .any(|span| span.meets(range))
    }

    /// The configuration that was compiled.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Every rule, in the order in which the document names its selector first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Where keys lie.
    pub fn keyspace(&self) -> &KeySpace {
        &self.keyspace
    }

    fn exact_rule(&self, group: &str, resource: &str) -> Option<&Arc<Chain>> {
        let wanted = (group, resource);
        let found = self
            .exact
            .binary_search_by(|(rule, _)| (rule.group.as_str(), rule.resource.as_str()).cmp(&wanted));
        Some(&self.exact.get(found.ok()?)?.1)
    }

    fn group_rule(&self, group: &str) -> Option<&Arc<Chain>> {
        let found = self.groups.binary_search_by(|(rule, _)| rule.as_str().cmp(group));
        Some(&self.groups.get(found.ok()?)?.1)
    }
}

/// Each selector once, with the providers of all entries that list it, in document order. The selectors of one entry
/// share its keyed ciphers.
fn providers_by_selector(config: &EncryptionConfiguration) -> Result<Vec<(&ResourceSelector, Vec<Provider>)>, Error> {
    let mut merged: Vec<(&ResourceSelector, Vec<Provider>)> = Vec::new();
    for (index, entry) in config.entries.iter().enumerate() {
        let keyed = entry
            .providers
            .iter()
            .enumerate()
            .map(|(provider, wanted)| keyed(wanted, index, provider));
        let providers = keyed.collect::<Result<Vec<_>, _>>()?;
        for selector in &entry.resources {
            match merged.iter_mut().find(|(known, _)| *known == selector) {
                Some((_, chain)) => chain.extend(providers.iter().cloned()),
                None => merged.push((selector, providers.clone())),
            }
        }
    }
    Ok(merged)
}

fn keyed(wanted: &config::Provider, entry: usize, provider: usize) -> Result<Provider, Error> {
    match wanted {
        config::Provider::Identity => Ok(Provider::identity()),
        config::Provider::AesCbc { keys } => Provider::aescbc(pairs(keys)),
        config::Provider::AesGcm { keys } => Provider::aesgcm(pairs(keys)),
        config::Provider::Secretbox { keys } => Provider::secretbox(pairs(keys)),
        config::Provider::Kms(kms) => {
            return Err(Error::Kms {
                entry,
                provider,
                name: kms.name.clone(),
            });
        }
    }
    .map_err(|source| Error::Provider {
        entry,
        provider,
        source,
    })
}

/// Names and bytes of the keys, in order.
fn pairs(keys: &[config::Key]) -> impl Iterator<Item = (&KeyName, &SecretBytes)> {
    keys.iter().map(|key| (&key.name, &key.secret))
}

fn scope(selector: &ResourceSelector) -> Scope<'_> {
    match selector {
        ResourceSelector::Exact(resource) => Scope::Resource(resource),
        ResourceSelector::Group(group) => Scope::Group(group),
        ResourceSelector::All => Scope::Everything,
    }
}
