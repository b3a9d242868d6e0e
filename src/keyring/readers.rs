//! What each rule can read with, by name, so that one configuration can be held against the next: values under a key
//! that a reload takes away are lost to every reader, and this is how people lose data.
//!
//! Keeps no key: whether two keys of one name are the same is told by a keyed hash under a secret of this process, which
//! says nothing to anybody else.

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use rand::RngExt as _;

use crate::config::{EncryptionConfiguration, Key, KmsApiVersion, Provider, ResourceSelector};
use crate::types::KeyName;

/// What the tags of keys are made with. Never leaves the process.
static TAGS: LazyLock<hmac::Key> =
    LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &rand::rng().random::<[u8; 32]>()));

/// One thing that a rule reads with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Values in the clear.
    Identity,
    /// A named key of a provider.
    Key {
        provider: &'static str,
        name: KeyName,
        tag: Tag,
    },
    /// A KMS plugin. Which keys it holds is not known here.
    Kms { version: &'static str, name: KeyName },
}

/// Tells keys apart, within this process only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 32]);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag")
    }
}

impl Tag {
    fn of(key: &Key) -> Self {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&TAGS, key.secret.expose()).as_ref());
        Self(tag)
    }
}

impl Reader {
    /// The same to an operator, whatever the bytes of the key.
    fn has_name_of(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Key { provider, name, .. },
                Self::Key {
                    provider: others,
                    name: other,
                    ..
                },
            ) => (provider, name) == (others, other),
            _ => self == other,
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity (values in the clear)"),
            Self::Key { provider, name, .. } => write!(f, "{provider} key {:?}", name.as_str()),
            Self::Kms { version, name } => write!(f, "kms {version} provider {:?}", name.as_str()),
        }
    }
}

/// Something that could be read and no longer can.
///
/// Displayed for an operator, names only: `secrets: aescbc key "key1" is gone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    selector: ResourceSelector,
    reader: Reader,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The rule does without it.
    Gone,
    /// There is a key of that name and it is another one.
    OtherBytes,
    /// No rule is left.
    NoRule,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ", self.selector, self.reader)?;
        f.write_str(match self.how {
            How::Gone => "is gone",
            How::OtherBytes => "has other bytes under the same name",
            How::NoRule => "is gone, as is every rule for these resources",
        })
    }
}

/// The readers of every rule of a configuration.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<(ResourceSelector, Vec<Reader>)>);

impl Readers {
    pub(super) fn of(config: &EncryptionConfiguration) -> Self {
        let rules = config.rules().into_iter();
        Self(
            rules
                .map(|(selector, providers)| (selector.clone(), providers.into_iter().flat_map(of_provider).collect()))
                .collect(),
        )
    }

    /// What can be read with these and not with `newer`.
    pub(super) fn lost(&self, newer: &Self) -> Vec<Lost> {
        // A rule that is new may cover resources that an older, wider one covered.
        let selectors = self
            .0
            .iter()
            .chain(newer.0.iter().filter(|(selector, _)| !self.has(selector)));
        let mut lost = Vec::new();
        for (selector, _) in selectors {
            let now = newer.covering(selector);
            for reader in self.covering(selector).unwrap_or_default() {
                let how = match now {
                    // Without a rule all values pass as they are, those in the clear among them.
                    None if *reader == Reader::Identity => continue,
                    None => How::NoRule,
                    Some(now) if now.contains(reader) => continue,
                    Some(now) if now.iter().any(|other| other.has_name_of(reader)) => How::OtherBytes,
                    Some(_) => How::Gone,
                };
                lost.push(Lost {
                    selector: selector.clone(),
                    reader: reader.clone(),
                    how,
                });
            }
        }
        lost
    }

    fn has(&self, wanted: &ResourceSelector) -> bool {
        self.0.iter().any(|(selector, _)| selector == wanted)
    }

    /// The readers of the rule that holds for what `selector` names: the most specific one.
    fn covering(&self, selector: &ResourceSelector) -> Option<&[Reader]> {
        let group = match selector {
            ResourceSelector::Exact(resource) => Some(ResourceSelector::Group(resource.group.clone())),
            ResourceSelector::Group(_) | ResourceSelector::All => None,
        };
        let candidates = [Some(selector), group.as_ref(), Some(&ResourceSelector::All)];
        let found = |wanted| self.0.iter().find(|(selector, _)| selector == wanted);
        let (_, readers) = candidates.into_iter().flatten().find_map(found)?;
        Some(readers)
    }
}

fn of_provider(provider: &Provider) -> Vec<Reader> {
    let named = |kind, keys: &[Key]| -> Vec<Reader> {
        let reader = |key: &Key| Reader::Key {
            provider: kind,
            name: key.name.clone(),
            tag: Tag::of(key),
        };
        keys.iter().map(reader).collect()
    };
    match provider {
        Provider::Identity => vec![Reader::Identity],
        Provider::AesCbc { keys } => named("aescbc", keys),
        Provider::AesGcm { keys } => named("aesgcm", keys),
        Provider::Secretbox { keys } => named("secretbox", keys),
        Provider::Kms(kms) => vec![Reader::Kms {
            version: match kms.api_version {
                KmsApiVersion::V1 => "v1",
                KmsApiVersion::V2 => "v2",
            },
            name: kms.name.clone(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, parse};

    const A: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
    const B: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

    /// Each rule as its selector and the providers, as flow YAML.
    fn readers(rules: &[(&str, &str)]) -> Readers {
        let rule =
            |(selector, providers): &(&str, &str)| format!("- resources: ['{selector}']\n  providers: [{providers}]\n");
        let rules: String = rules.iter().map(rule).collect();
        let text =
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}");
        Readers::of(&parse(text.as_bytes(), Options { reload: true }).unwrap())
    }

    fn key(provider: &str, name: &str, secret: &str) -> String {
        format!("{{{provider}: {{keys: [{{name: {name}, secret: {secret}}}]}}}}")
    }

    fn lost(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
        let lost = readers(before).lost(&readers(after));
        lost.iter().map(ToString::to_string).collect()
    }

    const NONE: &[&str] = &[];

    #[test]
    fn a_key_is_lost_where_no_reader_is_the_same_key() {
        let (one, two, renamed) = (
            key("aescbc", "one", A),
            key("aescbc", "two", B),
            key("aescbc", "one", B),
        );
        let both = format!("{two}, {one}, {{identity: {{}}}}");
        assert_eq!(lost(&[("secrets", &one)], &[("secrets", &both)]), NONE);
        assert_eq!(
            lost(&[("secrets", &both)], &[("secrets", &one)]),
            [
                "secrets: aescbc key \"two\" is gone",
                "secrets: identity (values in the clear) is gone"
            ]
        );
        assert_eq!(
            lost(&[("secrets", &one)], &[("secrets", &renamed)]),
            ["secrets: aescbc key \"one\" has other bytes under the same name"]
        );
        assert_eq!(
            lost(&[("secrets", &one)], &[("secrets", &key("aesgcm", "one", A))]),
            ["secrets: aescbc key \"one\" is gone"]
        );
    }

    #[test]
    fn rules_are_compared_by_what_they_cover() {
        let (one, two) = (key("aescbc", "one", A), key("aescbc", "two", B));
        assert_eq!(lost(&[("secrets", &one)], &[("*.", &one)]), NONE);
        assert_eq!(lost(&[("secrets", &one)], &[("*.*", &one)]), NONE);
        assert_eq!(
            lost(&[("*.", &one)], &[("secrets", &one)]),
            ["*.: aescbc key \"one\" is gone, as is every rule for these resources"]
        );
        // A new rule takes secrets away from one that could read them.
        assert_eq!(
            lost(&[("*.*", &one)], &[("secrets", &two), ("*.*", &one)]),
            ["secrets: aescbc key \"one\" is gone"]
        );
        assert_eq!(lost(&[("secrets", "{identity: {}}")], &[("configmaps", &one)]), NONE);
    }

    #[test]
    fn kms_providers_are_told_apart_by_version_and_name() {
        let kms = |version, name| format!("{{kms: {{apiVersion: {version}, name: {name}, endpoint: 'unix:///p'}}}}");
        assert_eq!(
            lost(&[("secrets", &kms("v2", "a"))], &[("secrets", &kms("v2", "b"))]),
            ["secrets: kms v2 provider \"a\" is gone"]
        );
        assert_eq!(
            lost(&[("secrets", &kms("v1", "a"))], &[("secrets", &kms("v1", "a"))]),
            NONE
        );
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let readers = readers(&[("secrets", &key("aescbc", "one", A))]);
        assert!(format!("{readers:?}").contains("tag: Tag"));
    }
}
