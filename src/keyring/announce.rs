//! What the log says of a keyring that is taken into use, the first and every later one.

use super::{Keyring, guess};
use crate::value::ProviderKind;

impl Keyring {
    /// Logs each rule, names only, and warns of those that protect nothing.
    pub fn announce(&self) {
        for rule in self.rules() {
            tracing::info!(rule = %rule, "encryption rule");
            if rule.is_idle() {
                tracing::warn!(resource = %rule.selector(), "no key can match this rule; is the resource's name misspelt?");
            }
            if let Some(told) = guess(rule.selector(), self.keyspace()) {
                tracing::info!(resource = %rule.selector(), "{told}");
            }
            if rule.chain().writer().provider == ProviderKind::Identity {
                tracing::warn!(resource = %rule.selector(), "the first provider is identity: new values are stored in the clear");
            }
        }
    }
}
