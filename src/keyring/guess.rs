//! What an operator should know of a rule for built-in resources that this version does not know. Pure.

use super::scope;
use crate::config::{EncryptionConfiguration, ResourceSelector};
use crate::keyspace::{Guess, KeySpace};

/// [`super::Keyring::paths`] of one that `config` would make.
pub fn paths(config: &EncryptionConfiguration, keyspace: &KeySpace) -> Vec<String> {
    let rules: Vec<_> = config
        .rules()
        .into_iter()
        .map(|(selector, _)| scope(selector))
        .collect();
    keyspace.for_rules(rules.iter().copied()).beyond(rules)
}

/// How far the rule for `selector` reaches, where that is not certain; `keyspace` is for the rules of its configuration.
pub fn guess(selector: &ResourceSelector, keyspace: &KeySpace) -> Option<String> {
    let named = "--resource-path says where they lie";
    Some(match (keyspace.guess(scope(selector)), selector) {
        (Guess::None, _) | (_, ResourceSelector::All) => return None,
        (Guess::BothLayouts, ResourceSelector::Exact(of)) => format!(
            "this version knows no such built-in resource, so its rule covers both /{}/ (a built-in one that is newer) and /{}/{}/ (a \
             custom one) below the prefix; should its keys lie elsewhere, {named}",
            of.resource, of.group, of.resource
        ),
        (_, ResourceSelector::Exact(of)) => format!(
            "this version knows no such built-in resource, and keys of another one lie at /{}/ below the prefix, so its rule covers \
             /{}/{}/ alone (a custom one); should it be a built-in one whose keys lie elsewhere, {named}",
            of.resource, of.group, of.resource
        ),
        (_, ResourceSelector::Group(group)) => format!(
            "covers the built-in resources of the group that this version knows, and what lies at /{group}/ below the prefix; one that \
             a newer Kubernetes adds is covered once it is named: as a resource of its own, by --resource-path, or by *.*"
        ),
    })
}
