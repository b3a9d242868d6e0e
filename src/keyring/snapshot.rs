//! The snapshot itself: which rule covers a key, and whether any could cover a range. Immutable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::readers::{Lost, Reader, Readers};
use super::rule::{Rule, compile, scope};
use super::sealer::Metered;
use super::{Error, Sealer};
use crate::config::{EncryptionConfiguration, ResourceSelector, Retired};
use crate::keyspace::{KeySpace, Place};
use crate::kms::{Plugin, Plugins};
use crate::types::{Fingerprint, GroupResource, KeyRange};
#[cfg(test)]
use crate::value::Chain;

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
    /// In the order of the document, each once. Held here so that they live as long as the keyring does.
    plugins: Vec<Plugin>,
    /// Sorted.
    exact: Vec<(GroupResource, Metered)>,
    /// Sorted.
    groups: Vec<(String, Metered)>,
    all: Option<Metered>,
    may_wait: bool,
    readers: Readers,
    retired: Retired,
    /// How many values clients have read under them.
    retired_reads: Arc<AtomicU64>,
}

impl Keyring {
    /// Keys every cipher of `config`, takes its KMS plugins from `plugins`, and finds out where its rules reach in
    /// `keyspace`. Waits for no plugin.
    pub fn compile(config: &EncryptionConfiguration, keyspace: &KeySpace, plugins: &Plugins) -> Result<Self, Error> {
        let keyspace = keyspace.for_rules(config.rules().into_iter().map(|(selector, _)| scope(selector)));
        let (rules, plugins) = compile(config, &keyspace, plugins)?;
        Ok(Self {
            readers: Readers::of(config),
            retired: config.retired.clone(),
            plugins,
            ..Self::of(rules, keyspace, config.fingerprint)
        })
    }

    /// The one rule that `chain` is for `selector`.
    #[cfg(test)]
    pub(crate) fn of_chain(selector: ResourceSelector, chain: Chain, keyspace: KeySpace) -> Self {
        let rule = Rule::of(selector, chain, &keyspace);
        Self::of(vec![rule], keyspace, Fingerprint::of(b""))
    }

    fn of(rules: Vec<Rule>, keyspace: KeySpace, fingerprint: Fingerprint) -> Self {
        let mut keyring = Self {
            keyspace,
            fingerprint,
            rules: Vec::new(),
            plugins: Vec::new(),
            exact: Vec::new(),
            groups: Vec::new(),
            all: None,
            may_wait: rules.iter().any(|rule| rule.chain.may_wait()),
            readers: Readers::default(),
            retired: Retired::default(),
            retired_reads: Arc::default(),
        };
        for Rule { selector, chain, .. } in &rules {
            let metered = Metered::new(selector, chain, &keyring.retired_reads);
            match selector {
                ResourceSelector::Exact(resource) => keyring.exact.push((resource.clone(), metered)),
                ResourceSelector::Group(group) => keyring.groups.push((group.clone(), metered)),
                ResourceSelector::All => keyring.all = Some(metered),
            }
        }
        keyring.exact.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        keyring.groups.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        keyring.rules = rules;
        keyring
    }

    /// Whether a value could ever have to wait for a KMS. Where none can, nothing needs to be looked at for it.
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// The chain for the value under `key`. `None`: no rule covers it, and the value passes untouched.
    pub fn chain(&self, key: &[u8]) -> Option<Sealer<'_>> {
        self.chain_of(self.keyspace.classify(key))
    }

    /// [`Keyring::chain`], and the front that all keys have in common for which it is the same; empty where that is not known.
    pub(super) fn chain_with_front<'k>(&self, key: &'k [u8]) -> (Option<Sealer<'_>>, &'k [u8]) {
        let (place, front) = self.keyspace.classify_with_front(key);
        (self.chain_of(place), front)
    }

    fn chain_of(&self, place: Place<'_>) -> Option<Sealer<'_>> {
        match place {
            Place::Resource { group, resource } => self
                .exact_rule(group, resource)
                .or_else(|| self.group_rule(group))
                .or(self.all.as_ref())
                .map(|found| found.sealer(Some((group, resource)))),
            Place::Unlisted => self.all.as_ref().map(|found| found.sealer(None)),
            Place::NeverEncrypted | Place::Outside => None,
        }
    }

    /// Whether any key of `range` could have a chain.
    ///
    /// Errs only towards true, and only where all that the range has in common with a rule's keys are records of
    /// kube-apiserver's own, keys of a longer prefix, or a group's name without a resource behind it.
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

    /// What values could be read with under this keyring and cannot be under `newer`: empty unless a reload takes a key,
    /// a provider or a rule away.
    pub fn lost(&self, newer: &Self) -> Vec<Lost> {
        self.readers.lost(&newer.readers)
    }

    /// What the rule for `selector` reads with, in the order of the document; the first of it writes.
    pub fn readers(&self, selector: &ResourceSelector) -> &[Reader] {
        self.readers.of_rule(selector)
    }

    /// The keys that read behind the rules, and are no part of the configuration.
    pub fn retired(&self) -> &Retired {
        &self.retired
    }

    /// How many values clients have read that only a retired key opens, since this was compiled.
    pub fn retired_reads(&self) -> u64 {
        self.retired_reads.load(Ordering::Relaxed)
    }

    /// The KMS plugins, in the order in which the document names them first.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Where keys lie that another version, or a process to which an operator has named other paths, would not look for: such a one
    /// does not seal what lies there.
    pub fn paths(&self) -> Vec<String> {
        let rules = self.rules.iter().map(|rule| scope(rule.selector()));
        self.keyspace.beyond(rules)
    }

    /// Where keys lie.
    pub fn keyspace(&self) -> &KeySpace {
        &self.keyspace
    }

    fn exact_rule(&self, group: &str, resource: &str) -> Option<&Metered> {
        let wanted = (group, resource);
        let found = self
            .exact
            .binary_search_by(|(rule, _)| (rule.group.as_str(), rule.resource.as_str()).cmp(&wanted));
        Some(&self.exact.get(found.ok()?)?.1)
    }

    fn group_rule(&self, group: &str) -> Option<&Metered> {
        let found = self.groups.binary_search_by(|(rule, _)| rule.as_str().cmp(group));
        Some(&self.groups.get(found.ok()?)?.1)
    }
}
