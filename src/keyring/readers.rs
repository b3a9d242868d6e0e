//! What each rule can read with, by name, so that one configuration can be held against the next: values under a key
//! that a reload takes away are lost to every reader, and this is how people lose data.
//!
//! Keeps no key: whether two keys of one name are the same is told by their fingerprints.

use std::fmt;

use crate::config::{EncryptionConfiguration, Key, KmsApiVersion, Provider, ResourceSelector};
use crate::types::{KeyName, KeyPrint};

/// One thing that a rule reads with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Values in the clear.
    Identity,
    /// A named key of a provider.
    Key {
        /// Its provider, as a configuration names it.
        provider: &'static str,
        /// Its name there.
        name: KeyName,
        /// Tells its bytes from others.
        print: KeyPrint,
    },
    /// A KMS plugin. Which keys it holds is not known here.
    Kms {
        /// `v1` or `v2`.
        version: &'static str,
        /// The plugin's name.
        name: KeyName,
    },
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
    /// The rule does without it, and goes on with another key of its name that it had before.
    OneOfName,
    /// A new key has taken its name.
    OtherBytes,
    /// A new key has its name too, and the cipher cannot tell which of the two sealed a value.
    Shared,
    /// No rule is left.
    NoRule,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ", self.selector, self.reader)?;
        f.write_str(match self.how {
            How::Gone => "is gone",
            How::OneOfName => "is gone; another key of the same name stays",
            How::OtherBytes => "has other bytes under the same name",
            How::Shared => {
                "has other bytes under the same name, beside the old ones: aescbc has no authentication, and opens about one \
                 value in 256 of the other key to rubbish"
            }
            How::NoRule => "is gone, as is every rule for these resources",
        })
    }
}

impl Lost {
    /// Whether the key's name now stands for other bytes, alone or, under aescbc, at all. Values name the key that sealed them and nothing else, so nobody
    /// could tell from then on which of the two a value needs: that is never what is meant.
    pub fn is_replaced(&self) -> bool {
        matches!(self.how, How::OtherBytes | How::Shared)
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
                    Some(now) if now.contains(reader) => {
                        if !self.is_shared(reader, newer) {
                            continue;
                        }
                        How::Shared
                    }
                    // Wherever the name stands now: a value says nothing of the rule that it was written by.
                    _ if self.is_replaced(reader, newer) => How::OtherBytes,
                    Some(now) if now.iter().any(|other| other.has_name_of(reader)) => {
                        match self.covering(selector) {
                            // Both were listed, and everything may have been rewritten under the other one.
                            Some(before)
                                if now
                                    .iter()
                                    .all(|other| !other.has_name_of(reader) || before.contains(other)) =>
                            {
                                How::OneOfName
                            }
                            _ => How::OtherBytes,
                        }
                    }
                    None => How::NoRule,
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

    /// Whether the key is nowhere any more, and its name stands for bytes that it did not stand for before.
    fn is_replaced(&self, reader: &Reader, newer: &Self) -> bool {
        !newer.all().any(|other| other == reader) && self.has_new_of_name(reader, newer)
    }

    /// Whether the name stands for other bytes beside these, and nothing but the padding tells values of the one from those
    /// of the other: right by chance once in 256.
    fn is_shared(&self, reader: &Reader, newer: &Self) -> bool {
        let is_unauthenticated = matches!(reader, Reader::Key { provider: "aescbc", .. });
        is_unauthenticated && self.has_new_of_name(reader, newer)
    }

    /// Whether the reader's name stands for bytes in `newer` that are nowhere in these.
    fn has_new_of_name(&self, reader: &Reader, newer: &Self) -> bool {
        let is_new = |other: &Reader| other.has_name_of(reader) && !self.all().any(|before| before == other);
        newer.all().any(is_new)
    }

    fn all(&self) -> impl Iterator<Item = &Reader> {
        self.0.iter().flat_map(|(_, readers)| readers)
    }

    /// Those of the rule for `selector`, in the order of the document.
    pub(super) fn of_rule(&self, selector: &ResourceSelector) -> &[Reader] {
        let found = self.0.iter().find(|(own, _)| own == selector);
        found.map_or(&[], |(_, readers)| readers)
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
            print: KeyPrint::of(kind, &key.name, &key.secret),
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
    fn a_key_is_replaced_where_its_name_stands_for_bytes_that_it_did_not_stand_for() {
        let (old, new, other) = (
            key("secretbox", "one", A),
            key("secretbox", "one", B),
            key("secretbox", "two", B),
        );
        let replaced = |before: &[(&str, &str)], after: &[(&str, &str)]| -> Vec<bool> {
            let lost = readers(before).lost(&readers(after));
            lost.iter().map(Lost::is_replaced).collect()
        };
        let both = format!("{new}, {old}");
        assert_eq!(replaced(&[("secrets", &old)], &[("secrets", &new)]), [true]);
        // The old bytes are listed too; then, when everything is rewritten, they go.
        assert_eq!(lost(&[("secrets", &old)], &[("secrets", &both)]), NONE);
        assert_eq!(
            lost(&[("secrets", &both)], &[("secrets", &new)]),
            ["secrets: secretbox key \"one\" is gone; another key of the same name stays"]
        );
        assert_eq!(replaced(&[("secrets", &both)], &[("secrets", &new)]), [false]);
        // Unless the cipher cannot tell the two apart.
        let (old_cbc, new_cbc) = (key("aescbc", "one", A), key("aescbc", "one", B));
        let both_cbc = format!("{new_cbc}, {old_cbc}");
        assert_eq!(replaced(&[("secrets", &old_cbc)], &[("secrets", &both_cbc)]), [true]);
        assert_eq!(
            replaced(&[("secrets", &both_cbc)], &[("secrets", &both_cbc)]),
            [false; 0]
        );
        // Under another rule, where the old rule is no more, or reads with something else now.
        assert_eq!(replaced(&[("secrets", &old)], &[("configmaps", &new)]), [true]);
        assert_eq!(replaced(&[("secrets", &old)], &[("*.", &new)]), [true]);
        assert_eq!(replaced(&[("*.*", &old)], &[("secrets", &new), ("*.*", &old)]), [true]);
        assert_eq!(
            replaced(&[("secrets", &old)], &[("secrets", &other), ("configmaps", &new)]),
            [true]
        );
        // Another name, another type, another rule beside it: none of that takes a name from a key.
        assert_eq!(replaced(&[("secrets", &old)], &[("secrets", &other)]), [false]);
        assert_eq!(
            replaced(&[("secrets", &old)], &[("secrets", &key("aesgcm", "one", B))]),
            [false]
        );
        assert_eq!(
            replaced(&[("secrets", &old)], &[("secrets", &old), ("configmaps", &new)]),
            [false; 0]
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
        let shown = format!("{readers:?}");
        assert!(
            shown.contains("print: ") && !shown.contains(&A[..8]) && !shown.contains("ABCDEFGH"),
            "{shown}"
        );
    }
}
