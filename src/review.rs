//! What an operator should know about a valid configuration before a proxy runs with it: its rules as the proxy
//! understands them, and what about it is doubtful. Pure: reads no file, asks no etcd and dials no plugin; never shows a
//! byte of a key.

mod change;
mod doubts;
mod finding;
mod rules;
#[cfg(test)]
mod tests;
mod weak;

pub use finding::{Finding, Severity};
pub use rules::{KeyView, KmsView, ProviderView, RuleView, rules};

use crate::config::EncryptionConfiguration;
use crate::keyring;
use crate::keyspace::KeySpace;

/// Everything doubtful about `config`; with `previous`, also what the step from there to `config` makes unreadable.
///
/// In the order of the checks, and within one check in that of the document.
pub fn findings(
    config: &EncryptionConfiguration,
    previous: Option<&EncryptionConfiguration>,
    keyspace: &KeySpace,
) -> Vec<Finding> {
    let mut findings = doubts::doubts(config, &for_rules(config, keyspace));
    if let Some(previous) = previous {
        findings.extend(change::between(previous, config));
    }
    findings
}

/// The key space as a proxy has it that runs with `config`.
fn for_rules(config: &EncryptionConfiguration, keyspace: &KeySpace) -> KeySpace {
    keyspace.for_rules(config.rules().into_iter().map(|(selector, _)| keyring::scope(selector)))
}
