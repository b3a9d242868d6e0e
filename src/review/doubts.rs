//! What is doubtful about one configuration by itself.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::finding::Finding;
use super::rules::{Placed, Rule, is_idle, keys, kind, merged, placed};
use super::weak::weakness;
use crate::config::{EncryptionConfiguration, Key, KmsApiVersion, Provider, ResourceSelector};
use crate::keyring;
use crate::keyspace::KeySpace;

/// Every check, over `config`.
pub(super) fn doubts(config: &EncryptionConfiguration, keyspace: &KeySpace) -> Vec<Finding> {
    let rules = merged(config);
    let entries = config.entries.iter().enumerate();
    let providers: Vec<_> = entries.flat_map(|(entry, of)| placed(entry, of)).collect();
    let mut found = Vec::new();
    found.extend(idle_rules(&rules, keyspace));
    found.extend(guesses(&rules, keyspace));
    found.extend(writers(config, &rules));
    found.extend(chains(&rules));
    found.extend(several_entries(&rules));
    found.extend(kms_v1(&providers));
    found.extend(keys_by_themselves(&providers));
    found.extend(keys_together(&providers));
    found
}

fn idle_rules(rules: &[Rule<'_>], keyspace: &KeySpace) -> Vec<Finding> {
    let idle = rules.iter().filter(|rule| is_idle(rule.selector, keyspace)).map(|rule| {
        let at = rule.entries.iter().map(|entry| format!("resources[{entry}].resources")).collect();
        let selector = rule.selector;
        Finding::warning(
            "idle-rule",
            at,
            format!("{selector} is no resource that Kubernetes has or could have, so nothing is encrypted by this rule; is it misspelt? Where a newer Kubernetes has it, --resource-path says where it lies"),
        )
    });
    idle.collect()
}

/// How far rules reach that are about built-in resources which this version does not know.
fn guesses(rules: &[Rule<'_>], keyspace: &KeySpace) -> Vec<Finding> {
    let guess = |rule: &Rule<'_>| {
        let told = keyring::guess(rule.selector, keyspace)?;
        let at = rule.entries.iter().map(|entry| format!("resources[{entry}].resources"));
        let selector = rule.selector;
        Some(Finding::note(
            "unknown-path",
            at.collect(),
            format!("{selector}: {told}"),
        ))
    };
    rules.iter().filter_map(guess).collect()
}

/// What the first provider of each entry is, for the resources that it writes: those that an earlier entry lists too are written
/// by that one's.
fn writers(config: &EncryptionConfiguration, rules: &[Rule<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (entry, of) in config.entries.iter().enumerate() {
        let Some(first) = placed(entry, of).next() else {
            continue;
        };
        let written = rules.iter().filter(|rule| rule.entries.first() == Some(&entry));
        let written: Vec<_> = written.map(|rule| rule.selector.clone()).collect();
        if written.is_empty() {
            continue;
        }
        let resources = listed(&written);
        match first.provider {
            Provider::Identity if of.providers.len() == 1 => found.push(Finding::note(
                "not-encrypted",
                vec![first.at()],
                format!("{resources}: stored in the clear, as identity is the only provider"),
            )),
            Provider::Identity => found.push(Finding::warning(
                "identity-writes",
                vec![first.at()],
                format!("{resources}: new values are stored in the clear, as identity is the first provider"),
            )),
            Provider::AesGcm { keys } => found.push(Finding::warning(
                "aesgcm-rotation",
                vec![first.at_key(0)],
                format!(
                    "{resources}: an aesgcm key wears out by random nonces; rotate {} before it has written 200,000 \
                     values, or write with secretbox or a KMS",
                    names(keys.first())
                ),
            )),
            Provider::AesCbc { .. } => found.push(Finding::note(
                "aescbc-unauthenticated",
                vec![first.at()],
                format!(
                    "{resources}: aescbc does not notice values that were tampered with, and is open to padding-oracle \
                     attacks by whoever can write to etcd; secretbox, aesgcm and a KMS are not"
                ),
            )),
            Provider::Secretbox { .. } | Provider::Kms(_) => {}
        }
    }
    found
}

/// Rules under which plaintext can't be read.
fn chains(rules: &[Rule<'_>]) -> Vec<Finding> {
    let closed = rules.iter().filter(|rule| !reads_plaintext(rule));
    let closed: Vec<_> = closed.map(|rule| rule.selector.clone()).collect();
    if closed.is_empty() {
        return Vec::new();
    }
    vec![Finding::note(
        "no-identity",
        Vec::new(),
        format!(
            "{}: if etcd still holds values that were stored before encryption, they can't be read; `sweep --dry-run` counts \
             them, and identity as the last provider reads them",
            listed(&closed)
        ),
    )]
}

pub(super) fn reads_plaintext(rule: &Rule<'_>) -> bool {
    rule.providers
        .iter()
        .any(|placed| *placed.provider == Provider::Identity)
}

fn several_entries(rules: &[Rule<'_>]) -> Vec<Finding> {
    let several = rules.iter().filter(|rule| rule.entries.len() > 1).map(|rule| {
        let at = rule.entries.iter().map(|entry| format!("resources[{entry}]")).collect();
        let writer = rule.providers.first().map(Placed::at).unwrap_or_default();
        Finding::note(
            "several-entries",
            at,
            format!(
                "{}: listed in {} entries, whose providers are put one after the other: {writer} writes, all read",
                rule.selector,
                rule.entries.len()
            ),
        )
    });
    several.collect()
}

fn kms_v1(providers: &[Placed<'_>]) -> Vec<Finding> {
    let v1 = providers.iter().filter_map(|placed| match placed.provider {
        Provider::Kms(kms) if kms.api_version == KmsApiVersion::V1 => Some(Finding::warning(
            "kms-v1",
            vec![placed.at()],
            format!(
                "kms {:?} speaks v1, which is deprecated, calls the plugin for every write, and is off in kube-apiserver \
                 since 1.29 unless --feature-gates=KMSv1=true; use v2",
                kms.name.as_str()
            ),
        )),
        _ => None,
    });
    v1.collect()
}

fn keys_by_themselves(providers: &[Placed<'_>]) -> Vec<Finding> {
    let weak = every_key(providers).into_iter().filter_map(|(placed, index, key)| {
        let why = weakness(key.secret.expose())?;
        let name = names(Some(key));
        Some(Finding::warning(
            "weak-key",
            vec![placed.at_key(index)],
            format!(
                "{} key {name} is not random: {why}; `config key` makes one that is",
                kind(placed.provider)
            ),
        ))
    });
    weak.collect()
}

/// Pairs of keys that have their bytes or their name in common, each pair once.
fn keys_together(providers: &[Placed<'_>]) -> Vec<Finding> {
    let all = every_key(providers);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for (nth, (one, one_index, key)) in all.iter().enumerate() {
        for (two, two_index, other) in all.iter().skip(nth + 1) {
            let (kind, other_kind) = (kind(one.provider), kind(two.provider));
            let (name, other_name) = (names(Some(key)), names(Some(other)));
            let (check, message) = match (key.secret == other.secret, kind == other_kind, key.name == other.name) {
                (true, false, _) => (
                    "same-key-twice",
                    format!(
                        "{kind} key {name} and {other_kind} key {other_name} are the same bytes: a key belongs to one cipher"
                    ),
                ),
                (true, true, false) => (
                    "same-key-twice",
                    format!(
                        "{kind} keys {name} and {other_name} are the same bytes: to rotate from one to the other changes \
                         nothing"
                    ),
                ),
                (false, true, true) if matches!(one.provider, Provider::AesCbc { .. }) => (
                    "same-name-twice",
                    format!(
                        "two aescbc keys are called {name}: which of them sealed a value can't be seen, and as aescbc has no \
                         authentication, about one value in 256 of the one opens to rubbish under the other; rewrite \
                         everything under a key with another name"
                    ),
                ),
                (false, true, true) => (
                    "same-name-twice",
                    format!(
                        "two {kind} keys are called {name}: which of them sealed a value can't be seen, so both are tried"
                    ),
                ),
                _ => continue,
            };
            // Entries that repeat one list of keys repeat its problems.
            let mut pair = [(kind, &key.name), (other_kind, &other.name)];
            pair.sort_unstable();
            if seen.insert((check, pair)) {
                let at = vec![one.at_key(*one_index), two.at_key(*two_index)];
                found.push(Finding::warning(check, at, message));
            }
        }
    }
    found
}

fn every_key<'c>(providers: &[Placed<'c>]) -> Vec<(Placed<'c>, usize, &'c Key)> {
    let every = providers.iter().flat_map(|placed| {
        keys(placed.provider)
            .iter()
            .enumerate()
            .map(|(index, key)| (*placed, index, key))
    });
    every.collect()
}

fn names(key: Option<&Key>) -> String {
    key.map_or_else(String::new, |key| format!("{:?}", key.name.as_str()))
}

/// The first few of `selectors`, and how many more there are.
pub(super) fn listed(selectors: &[ResourceSelector]) -> String {
    const SHOWN: usize = 8;
    let mut text = selectors
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if selectors.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {} more", selectors.len() - SHOWN);
    }
    text
}
