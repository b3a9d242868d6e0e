//! What a snapshot is held against: the keys at hand, and where in etcd Kubernetes' objects lie. Pure.

use std::sync::Arc;

use crate::keyring::Keyring;
use crate::keyspace::{KeySpace, Place};
use crate::types::StatePrefix;

/// Keys that may open values, from one place: a configuration in use, an older one, an archive of retired keys.
#[derive(Clone, Debug)]
pub struct KeySource {
    /// What it is called in the report.
    pub name: String,
    /// Its rules, over the key space of the scope.
    pub keyring: Arc<Keyring>,
}

/// What values are judged by.
#[derive(Clone, Debug)]
pub struct Scope {
    /// In the order in which they are tried. Each could be what the restored cluster is given; of several it would need
    /// those that the report names.
    pub sources: Vec<KeySource>,
    /// Where Kubernetes' keys lie.
    pub keyspace: KeySpace,
    /// The proxy's own keys, which no rule is about.
    pub state: StatePrefix,
}

impl Scope {
    /// What `key` belongs to: as the first of the sources has it that has something there, for what is assumed of paths that no table
    /// knows depends on the rules.
    pub(super) fn place<'k>(&'k self, key: &'k [u8]) -> Place<'k> {
        let spaces = self.sources.iter().map(|source| source.keyring.keyspace());
        let mut places = spaces.map(|keyspace| keyspace.classify(key));
        let found = places.find(|place| matches!(place, Place::Resource { .. }));
        found.unwrap_or_else(|| self.keyspace.classify(key))
    }
}
