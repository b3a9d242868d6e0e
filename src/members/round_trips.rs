//! Which KMS plugins a process has seen to wrap a key and to give it back: what its record says, and who does not say so.

use super::roster::{Dissent, Roster};
use crate::config::{KmsApiVersion, ProviderType};
use crate::keyring::Keyring;
use crate::types::KeyName;

/// The plugins of `keyring` that have wrapped a key for this process and given it back, as its record has them.
pub(super) fn round_trips(keyring: &Keyring) -> Vec<String> {
    let proven = keyring.plugins().iter().filter(|plugin| plugin.has_returned_a_key());
    proven
        .map(|plugin| named(plugin.api_version(), plugin.name()))
        .collect()
}

fn named(version: KmsApiVersion, name: &KeyName) -> String {
    format!("{} {name}", ProviderType::Kms(version).as_str())
}

impl Roster {
    /// Who does not say that each of these plugins has wrapped a key for it and given it back; `None` if everybody does.
    pub fn without_round_trip(&self, plugins: &[(KmsApiVersion, KeyName)]) -> Option<Dissent> {
        if plugins.is_empty() {
            return None;
        }
        self.named(|member| {
            let mut wanted = plugins.iter().map(|(version, name)| named(*version, name));
            let lacking = wanted.find(|text| !member.round_trips.contains(text))?;
            let who = format!("{} ({})", member.name, member.urls.join(", "));
            Some(format!(
                "{who} does not say that {lacking} has wrapped a key for it and given it back"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::record::tests::member;

    #[test]
    fn whoever_has_had_no_key_back_is_named() {
        let with = |name: &str, plugins: &[&str]| {
            let mut member = member(name, "sha256:1");
            member.round_trips = plugins.iter().map(|&plugin| plugin.to_owned()).collect();
            member
        };
        let wanted = [
            (KmsApiVersion::V2, KeyName::new("new")),
            (KmsApiVersion::V1, KeyName::new("a:b")),
        ];
        let both = ["kms v1 a:b", "kms v2 new"];
        let all = |other: &[&str]| Roster::of([with("a", &both), with("b", other)], 1);
        assert_eq!(all(&both).without_round_trip(&wanted), None);
        // The same name under the other version is another plugin.
        for lacking in [&[][..], &["kms v1 new", "kms v1 a:b"], &["kms v2 new", "kms v2 a:b"]] {
            let text = all(lacking).without_round_trip(&wanted).unwrap().to_string();
            assert!(
                text.starts_with("b (http://127.0.0.1:3379) does not say that kms v"),
                "{text}"
            );
        }
        assert_eq!(all(&[]).without_round_trip(&[]), None);
    }
}
