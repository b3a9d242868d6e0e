//! What a sweep is about: the rules, narrowed by what the operator asked for, without the proxy's own keys. Pure.

use std::sync::Arc;

use super::ranges::Ranges;
use crate::config::ResourceSelector;
use crate::inventory;
use crate::keyring::{Keyring, Rule, Sealer};
use crate::keyspace::{Place, Scope as Reach, Span};
use crate::types::{Epoch, Fingerprint, StatePrefix};
use crate::value::{Chain, ProviderKind};

/// Where the right to sweep lies below the state prefix.
pub const OWNER: &str = "sweep/owner";

/// The values that are looked at, and the rules for them.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The rules.
    pub keyring: Arc<Keyring>,
    /// The epoch that they may be written in. Of no account where nothing is written.
    pub epoch: Epoch,
    /// The proxy's own keys, which are never touched.
    pub state: StatePrefix,
    /// Only these resources; empty for all that the rules cover.
    pub resources: Vec<ResourceSelector>,
    /// Only keys that begin with one of these; empty for all.
    pub prefixes: Vec<Vec<u8>>,
    /// Whether what is sealed is laid bare where the rule writes in the clear. If not, such rules are left out.
    pub lays_bare: bool,
    /// Values that were last written at this revision or before are stale, whatever they are sealed with.
    pub written_until: Option<i64>,
}

impl Scope {
    /// The key of whoever sweeps.
    pub(super) fn owner_key(&self) -> Vec<u8> {
        [self.state.as_bytes(), OWNER.as_bytes()].concat()
    }

    /// The key of how far it has come.
    pub(super) fn checkpoint_key(&self) -> Vec<u8> {
        checkpoint_key(&self.state)
    }

    /// What covers the value under `key`, or `None` where it is not the sweep's to touch.
    pub(super) fn sealer(&self, key: &[u8]) -> Option<Sealer<'_>> {
        if self.state.contains(key) || !self.is_selected(key) {
            return None;
        }
        self.keyring.chain(key).filter(|sealer| self.is_wanted(sealer.chain()))
    }

    fn is_wanted(&self, chain: &Chain) -> bool {
        self.lays_bare || chain.writer().provider != ProviderKind::Identity
    }

    fn is_selected(&self, key: &[u8]) -> bool {
        let by_prefix = self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(prefix));
        by_prefix && (self.resources.is_empty() || self.resources.iter().any(|wanted| self.is_of(key, wanted)))
    }

    fn is_of(&self, key: &[u8], wanted: &ResourceSelector) -> bool {
        match (self.keyring.keyspace().classify(key), wanted) {
            (Place::Resource { .. } | Place::Unlisted, ResourceSelector::All) => true,
            (Place::Resource { group, .. }, ResourceSelector::Group(wanted)) => group == wanted,
            (Place::Resource { group, resource }, ResourceSelector::Exact(wanted)) => {
                group == wanted.group && resource == wanted.resource
            }
            _ => false,
        }
    }

    /// What `key` belongs to, as Kubernetes writes it.
    pub(super) fn resource(&self, key: &[u8]) -> String {
        inventory::resource(self.keyring.keyspace().classify(key))
    }

    /// Every key that has a chain here lies in one of these; not every key in them has one.
    pub(super) fn ranges(&self) -> Ranges {
        let rules = self.keyring.rules().iter().filter(|rule| self.is_wanted(rule.chain()));
        let mut ranges = Ranges::of(rules.flat_map(Rule::spans));
        if !self.resources.is_empty() {
            let spans: Vec<Span> = self
                .resources
                .iter()
                .flat_map(|wanted| self.keyring.keyspace().spans_of(reach(wanted)))
                .collect();
            ranges = ranges.and(&Ranges::of(&spans));
        }
        if !self.prefixes.is_empty() {
            let spans: Vec<Span> = self.prefixes.iter().map(|prefix| Span::of_prefix(prefix)).collect();
            ranges = ranges.and(&Ranges::of(&spans));
        }
        ranges
    }

    /// Whether every value under a rule is looked at.
    pub(super) fn is_everything(&self) -> bool {
        let is_wanted = |rule: &Rule| self.is_wanted(rule.chain());
        self.resources.is_empty() && self.prefixes.is_empty() && self.keyring.rules().iter().all(is_wanted)
    }

    /// Tells one piece of work from another, so that none is taken up where another was left: the configuration, the key
    /// IDs that KMS plugins write under, where Kubernetes' keys lie, and what was asked for.
    pub(super) fn fingerprint(&self) -> String {
        let mut text = self.keyring.fingerprint().to_string().into_bytes();
        let mut add = |kind: u8, part: &[u8]| {
            text.push(kind);
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        };
        for prefix in self.keyring.keyspace().prefixes() {
            add(b'e', prefix.as_bytes());
        }
        for path in self.keyring.paths() {
            add(b'l', path.as_bytes());
        }
        for plugin in self.keyring.plugins() {
            if let Some((key_id, _)) = plugin.report().writing {
                add(b'k', key_id.as_bytes());
            }
        }
        if let Some(revision) = self.written_until {
            add(b'u', &revision.to_be_bytes());
        }
        for rule in self.keyring.rules().iter().filter(|rule| !self.is_wanted(rule.chain())) {
            add(b'x', rule.selector().to_string().as_bytes());
        }
        for resource in &self.resources {
            add(b'r', resource.to_string().as_bytes());
        }
        for prefix in &self.prefixes {
            add(b'p', prefix);
        }
        Fingerprint::of(&text).to_string()
    }
}

fn reach(selector: &ResourceSelector) -> Reach<'_> {
    match selector {
        ResourceSelector::Exact(resource) => Reach::Resource(resource),
        ResourceSelector::Group(group) => Reach::Group(group),
        ResourceSelector::All => Reach::Everything,
    }
}
/// Where the record of how far a sweep has come lies.
pub(super) fn checkpoint_key(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), b"sweep/checkpoint"].concat()
}
