//! What a step from one configuration to the next makes unreadable. Goes by what each resource's values can have been
//! stored with, whichever rule covered it before and covers it now.

use super::doubts::listed;
use super::finding::Finding;
use super::rules::{keys, kind};
use crate::config::{EncryptionConfiguration, Key, Kms, KmsApiVersion, Provider, ResourceSelector};

/// Every resource either configuration names, with what reads its values before and after.
pub(super) fn between(previous: &EncryptionConfiguration, next: &EncryptionConfiguration) -> Vec<Finding> {
    let (old, new) = (previous.rules(), next.rules());
    let mut selectors: Vec<&ResourceSelector> = Vec::new();
    for (selector, _) in old.iter().chain(&new) {
        if !selectors.contains(selector) {
            selectors.push(selector);
        }
    }
    let mut changes = Changes::default();
    for selector in selectors {
        match (covering(&old, selector), covering(&new, selector)) {
            (Some(old), Some(new)) => compare(selector, old, new, &mut changes),
            (Some(old), None) if old.iter().any(|provider| **provider != Provider::Identity) => changes.add(
                selector,
                "dropped-rule",
                "no rule covers it any more, so what is stored encrypted is handed out as it is stored; keep the rule, with \
                 identity first, until every value is rewritten",
            ),
            (None, Some(new)) if !new.contains(&&Provider::Identity) => changes.add(
                selector,
                "unreadable-plaintext",
                "no rule covered it before, so its values are stored in the clear and can't be read without identity as \
                 the last provider",
            ),
            _ => {}
        }
    }
    changes.findings()
}

type Rules<'c> = [(&'c ResourceSelector, Vec<&'c Provider>)];

/// What reads the values of `selector`: its own rule, or its group's, or the one for everything.
fn covering<'r, 'c>(rules: &'r Rules<'c>, selector: &ResourceSelector) -> Option<&'r [&'c Provider]> {
    let group = match selector {
        ResourceSelector::Exact(resource) => Some(ResourceSelector::Group(resource.group.clone())),
        ResourceSelector::Group(_) | ResourceSelector::All => None,
    };
    let of = |wanted: &ResourceSelector| rules.iter().find(|(selector, _)| *selector == wanted);
    let found = of(selector)
        .or_else(|| of(&group?))
        .or_else(|| of(&ResourceSelector::All));
    found.map(|(_, providers)| providers.as_slice())
}

fn compare(selector: &ResourceSelector, old: &[&Provider], new: &[&Provider], changes: &mut Changes) {
    for provider in old {
        match provider {
            Provider::Identity if !new.contains(&&Provider::Identity) => changes.add(
                selector,
                "dropped-identity",
                "identity is no longer listed: values that were never rewritten since encryption began can't be read",
            ),
            Provider::Identity => {}
            Provider::Kms(kms) => compare_kms(selector, kms, new, changes),
            _ => {
                for key in keys(provider) {
                    compare_key(selector, (kind(provider), key), (old, new), changes);
                }
            }
        }
    }
    if let Some(writer) = new.first() {
        new_writer(selector, writer, old, changes);
    }
}

fn compare_key(
    selector: &ResourceSelector,
    (of, key): (&'static str, &Key),
    (old, new): (&[&Provider], &[&Provider]),
    changes: &mut Changes,
) {
    let now = || {
        new.iter()
            .filter(|provider| kind(provider) == of)
            .flat_map(|provider| keys(provider))
    };
    let name = key.name.as_str();
    if now().any(|other| other == key) {
        return;
    }
    // Where the name is kept too, it is the bytes that changed; what they are called besides is no help to old values.
    let is_known = |other: &Key| {
        let before = old.iter().filter(|provider| kind(provider) == of);
        before.flat_map(|provider| keys(provider)).any(|before| before == other)
    };
    if now().any(|other| other.name == key.name && !is_known(other)) {
        let or_both = if of == "aescbc" {
            String::new()
        } else {
            format!(", or list the old bytes too, in a second {of} provider with a key of the same name")
        };
        changes.add(
            selector,
            "changed-key",
            format!(
                "{of} key {name:?} has other bytes under the same name: what it sealed can't be read, and a proxy that has loaded \
                 the configuration so far refuses this one; give the new key a new name and list the old one behind it{or_both}"
            ),
        );
    } else if let Some(other) = now().find(|other| other.secret == key.secret) {
        changes.add(
            selector,
            "renamed-key",
            format!(
                "{of} key {name:?} is now called {:?}: values name the key that sealed them, so those under the old name \
                 can't be read; list the same secret under both names until every value is rewritten",
                other.name.as_str()
            ),
        );
    } else {
        changes.add(
            selector,
            "dropped-key",
            format!(
                "{of} key {name:?} is gone: values that it sealed can't be read unless every one has been rewritten"
            ),
        );
    }
}

fn compare_kms(selector: &ResourceSelector, kms: &Kms, new: &[&Provider], changes: &mut Changes) {
    let mut now = new.iter().filter_map(|provider| match provider {
        Provider::Kms(other) if other.name == kms.name && other.api_version == kms.api_version => Some(other),
        _ => None,
    });
    let name = described(kms);
    match now.next() {
        None => changes.add(
            selector,
            "dropped-provider",
            format!("{name} is gone: values that it sealed can't be read unless every one has been rewritten"),
        ),
        Some(other) if other.endpoint != kms.endpoint => changes.add(
            selector,
            "moved-provider",
            format!(
                "{name} is at another endpoint: its values can be read only if the plugin there holds the same keys"
            ),
        ),
        Some(_) => {}
    }
}

/// A key that writes from now on and that nobody could read with before.
fn new_writer(selector: &ResourceSelector, writer: &Provider, old: &[&Provider], changes: &mut Changes) {
    let known = match writer {
        Provider::Identity => return,
        Provider::Kms(kms) => old.iter().any(|provider| {
            matches!(provider, Provider::Kms(other) if other.name == kms.name && other.api_version == kms.api_version)
        }),
        _ => {
            let of_its_kind = || old.iter().filter(|provider| kind(provider) == kind(writer));
            keys(writer).first().is_none_or(|key| of_its_kind().any(|provider| keys(provider).contains(key)))
        }
    };
    if known {
        return;
    }
    let name = match (writer, keys(writer).first()) {
        (Provider::Kms(kms), _) => described(kms),
        (_, Some(key)) => format!("{} key {:?}", kind(writer), key.name.as_str()),
        _ => return,
    };
    changes.add(
        selector,
        "new-writer",
        format!(
            "{name} writes and was not there to read before: where several API servers or proxies run, one that has not \
             loaded this yet can't read what another writes; list it second first, load that everywhere, then make it first"
        ),
    );
}

fn described(kms: &Kms) -> String {
    let version = match kms.api_version {
        KmsApiVersion::V1 => "v1",
        KmsApiVersion::V2 => "v2",
    };
    format!("kms {version} {:?}", kms.name.as_str())
}

/// Changes found so far; one that several resources have in common is told once.
#[derive(Default)]
struct Changes(Vec<(&'static str, String, Vec<ResourceSelector>)>);

impl Changes {
    fn add(&mut self, selector: &ResourceSelector, check: &'static str, message: impl Into<String>) {
        let message = message.into();
        match self.0.iter_mut().find(|(_, earlier, _)| *earlier == message) {
            Some((_, _, selectors)) => selectors.push(selector.clone()),
            None => self.0.push((check, message, vec![selector.clone()])),
        }
    }

    fn findings(self) -> Vec<Finding> {
        let finding = |(check, message, selectors): (_, String, Vec<_>)| {
            let make = match check {
                "new-writer" | "moved-provider" => Finding::note,
                "changed-key" => Finding::error,
                _ => Finding::warning,
            };
            make(check, Vec::new(), format!("{}: {message}", listed(&selectors)))
        };
        self.0.into_iter().map(finding).collect()
    }
}
