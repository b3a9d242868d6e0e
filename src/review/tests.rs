//! Which documents, and which steps between two, are found doubtful, and for what.

use std::fmt::Write as _;

use super::{Finding, Severity, findings};
use crate::config::{EncryptionConfiguration, Options, parse};
use crate::keyspace::{EtcdPrefix, KeySpace};

/// Keys that nothing is wrong with.
const A: &str = "A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=";
const B: &str = "yu+ApV5zFMnih7hdq1Mw9Zt0SxhddivM4ZqUHUuwLQs=";
const TEXT: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

const IDENTITY: &str = "identity: {}";

fn keyed(kind: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}"))
        .collect();
    format!("{kind}: {{keys: [{}]}}", keys.join(", "))
}

fn kms(version: &str, name: &str, socket: &str) -> String {
    format!("kms: {{apiVersion: {version}, name: {name}, endpoint: 'unix://{socket}'}}")
}

fn secretbox(keys: &[(&str, &str)]) -> String {
    keyed("secretbox", keys)
}

/// Entries of a document, each its resources and its providers.
type Entries<'a> = &'a [(&'a str, &'a [&'a str])];

/// A document of these entries.
fn config(entries: Entries<'_>) -> EncryptionConfiguration {
    let mut document = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
    for (resources, providers) in entries {
        let providers: Vec<_> = providers.iter().map(|provider| format!("{{{provider}}}")).collect();
        let _ = writeln!(
            document,
            "- {{resources: [{resources}], providers: [{}]}}",
            providers.join(", ")
        );
    }
    parse(document.as_bytes(), Options { reload: false }).unwrap_or_else(|error| panic!("{error}\n{document}"))
}

fn all(config: &EncryptionConfiguration, previous: Option<&EncryptionConfiguration>) -> Vec<Finding> {
    let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
    findings(config, previous, &keyspace)
}

/// What is found, by check and place, without what any sound rule for `secrets` brings along.
fn found(entries: Entries<'_>) -> Vec<String> {
    let found = all(&config(entries), None);
    found
        .iter()
        .map(|finding| format!("{} {}", finding.check, finding.at.join(" ")))
        .collect()
}

/// What a step is found to do.
fn step(from: Entries<'_>, to: Entries<'_>) -> Vec<String> {
    let (from, to) = (config(from), config(to));
    let (before, after) = (all(&to, None), all(&to, Some(&from)));
    let new = after.iter().skip(before.len());
    new.map(|finding| format!("{} {}", finding.check, finding.message.split(':').next().unwrap()))
        .collect()
}

#[test]
fn nothing_is_wrong_with_a_drawn_key_and_identity_behind_it() {
    assert_eq!(
        found(&[("secrets", &[&secretbox(&[("a", A), ("b", B)]), IDENTITY])]),
        Vec::<String>::new()
    );
    assert_eq!(
        found(&[("secrets", &[&kms("v2", "vault", "/s"), IDENTITY])]),
        Vec::<String>::new()
    );
}

#[test]
fn each_doubt_is_found_where_it_is() {
    let good = &secretbox(&[("a", A)]);
    let table: [(Entries<'_>, &[&str]); 12] = [
        (&[("secret", &[good, IDENTITY])], &["idle-rule resources[0].resources"]),
        (&[("pandas.bears.example", &[good, IDENTITY])], &[]),
        (
            &[("secrets", &[IDENTITY, good])],
            &["identity-writes resources[0].providers[0]"],
        ),
        (
            &[("events", &[IDENTITY]), ("'*.*'", &[good, IDENTITY])],
            &["not-encrypted resources[0].providers[0]"],
        ),
        (&[("secrets", &[good])], &["no-identity "]),
        (
            &[("secrets", &[&keyed("aesgcm", &[("a", A)]), IDENTITY])],
            &["aesgcm-rotation resources[0].providers[0].aesgcm.keys[0]"],
        ),
        // Only what writes wears out.
        (&[("secrets", &[good, &keyed("aesgcm", &[("b", B)]), IDENTITY])], &[]),
        (
            &[("secrets", &[&keyed("aescbc", &[("a", A)]), IDENTITY])],
            &["aescbc-unauthenticated resources[0].providers[0]"],
        ),
        (
            &[("secrets", &[&kms("v1", "azure", "/s"), IDENTITY])],
            &["kms-v1 resources[0].providers[0]"],
        ),
        (
            &[("secrets", &[&secretbox(&[("a", TEXT)]), IDENTITY])],
            &["weak-key resources[0].providers[0].secretbox.keys[0]"],
        ),
        (
            &[("secrets", &[good]), ("secrets", &[&secretbox(&[("b", B)]), IDENTITY])],
            &["several-entries resources[0] resources[1]"],
        ),
        // Entries may share a key, by its name.
        (
            &[("secrets", &[good, IDENTITY]), ("configmaps", &[good, IDENTITY])],
            &[],
        ),
    ];
    for (entries, expected) in table {
        assert_eq!(found(entries), expected, "{entries:?}");
    }
}

#[test]
fn keys_that_share_what_they_should_not_are_found_once() {
    let box_of = "resources[0].providers[0].secretbox.keys";
    let twice = secretbox(&[("a", A), ("b", A)]);
    assert_eq!(
        found(&[("secrets", &[&twice, IDENTITY]), ("configmaps", &[&twice, IDENTITY])]),
        [format!("same-key-twice {box_of}[0] {box_of}[1]")]
    );
    assert_eq!(
        found(&[(
            "secrets",
            &[&secretbox(&[("a", A)]), &keyed("aescbc", &[("a", A)]), IDENTITY]
        )]),
        [format!(
            "same-key-twice {box_of}[0] resources[0].providers[1].aescbc.keys[0]"
        )]
    );
    assert_eq!(
        found(&[("secrets", &[&secretbox(&[("a", A), ("a", B)]), IDENTITY])]),
        [format!("same-name-twice {box_of}[0] {box_of}[1]")]
    );
}

#[test]
fn a_sound_rotation_is_no_step_to_warn_of() {
    let [a, ab, ba, b] = [
        &[("a", A)][..],
        &[("a", A), ("b", B)],
        &[("b", B), ("a", A)],
        &[("b", B)],
    ]
    .map(secretbox);
    assert_eq!(
        step(&[("secrets", &[&a])], &[("secrets", &[&ab])]),
        Vec::<String>::new()
    );
    assert_eq!(
        step(&[("secrets", &[&ab])], &[("secrets", &[&ba])]),
        Vec::<String>::new()
    );
    assert_eq!(
        step(&[("secrets", &[&ba])], &[("secrets", &[&b])]),
        ["dropped-key secrets"]
    );
    assert_eq!(
        step(&[("secrets", &[&a])], &[("secrets", &[&ba])]),
        ["new-writer secrets"]
    );
}

#[test]
fn what_a_step_makes_unreadable_is_found() {
    let a = &secretbox(&[("a", A)]);
    let table: [(Entries<'_>, Entries<'_>, &[&str]); 12] = [
        // Another name for the same bytes, and the other way round.
        (
            &[("secrets", &[a])],
            &[("secrets", &[&secretbox(&[("z", A)])])],
            &["renamed-key secrets", "new-writer secrets"],
        ),
        (
            &[("secrets", &[a])],
            &[("secrets", &[&secretbox(&[("a", B)])])],
            &["changed-key secrets", "new-writer secrets"],
        ),
        (
            &[("secrets", &[a])],
            &[("secrets", &[&secretbox(&[("z", A), ("a", A)])])],
            &["new-writer secrets"],
        ),
        (
            &[("secrets", &[a, IDENTITY])],
            &[("secrets", &[a])],
            &["dropped-identity secrets"],
        ),
        (
            &[("secrets", &[a])],
            &[("configmaps", &[a, IDENTITY])],
            &["dropped-rule secrets"],
        ),
        (&[("secrets", &[IDENTITY])], &[("configmaps", &[a, IDENTITY])], &[]),
        (
            &[("secrets", &[a])],
            &[("secrets, configmaps", &[a])],
            &["unreadable-plaintext configmaps"],
        ),
        // The rule for everything stands in for the one that is gone; one of its own takes over from it.
        (&[("secrets", &[a])], &[("'*.*'", &[a, IDENTITY])], &[]),
        (
            &[("'*.*'", &[a])],
            &[("secrets", &[&secretbox(&[("b", B)])]), ("'*.*'", &[a])],
            &["dropped-key secrets", "new-writer secrets"],
        ),
        (
            &[("'*.apps'", &[a])],
            &[
                ("deployments.apps", &[&secretbox(&[("b", B), ("a", A)])]),
                ("'*.apps'", &[a]),
            ],
            &["new-writer deployments.apps"],
        ),
        (
            &[("secrets", &[&kms("v2", "k", "/s")])],
            &[("secrets", &[&kms("v2", "k", "/other")])],
            &["moved-provider secrets"],
        ),
        (
            &[("secrets", &[&kms("v1", "k", "/s")])],
            &[("secrets", &[&kms("v2", "k", "/s")])],
            &["dropped-provider secrets", "new-writer secrets"],
        ),
    ];
    for (from, to, expected) in table {
        assert_eq!(step(from, to), expected, "{from:?} to {to:?}");
    }
}

#[test]
fn one_change_of_many_resources_is_told_once() {
    let resources: Vec<_> = (0..12).map(|number| format!("r{number}.bears.example")).collect();
    let resources = resources.join(", ");
    let [from, to] = [A, B].map(|secret| config(&[(&resources, &[&secretbox(&[("a", secret)]), IDENTITY])]));
    let found = all(&to, Some(&from));
    let changed: Vec<_> = found.iter().filter(|finding| finding.check == "changed-key").collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].severity, Severity::Error);
    assert!(
        changed[0].message.contains("r7.bears.example and 4 more: "),
        "{}",
        changed[0].message
    );
}

#[test]
fn nothing_that_is_found_holds_a_key() {
    let config = config(&[
        (
            "secrets",
            &[&keyed("aesgcm", &[("a", A), ("b", A), ("a", B)]), &kms("v1", "k", "/s")],
        ),
        ("secret", &[&secretbox(&[("a", TEXT), ("b", TEXT)])]),
    ]);
    let found = all(&config, Some(&config));
    assert!(found.len() > 5);
    let shown = format!("{found:?}");
    let raw = "ABCDEFGH";
    assert!(
        ![A, B, TEXT, raw].iter().any(|secret| shown.contains(&secret[..8])),
        "{shown}"
    );
}

#[test]
fn a_rule_for_what_this_version_does_not_know_is_told_with_how_far_it_reaches() {
    let sound = secretbox(&[("a", A)]);
    let told = |resources: &str| {
        let found = all(&config(&[(resources, &[&sound, IDENTITY])]), None);
        let found = found.into_iter().filter(|finding| finding.check == "unknown-path");
        found
            .map(|finding| {
                assert_eq!(finding.severity, Severity::Note);
                finding.message
            })
            .collect::<Vec<_>>()
    };
    for known in [
        "secrets",
        "evictions.lifecycle.k8s.io",
        "pandas.bears.example",
        "'*.*'",
        "'*.apps'",
    ] {
        assert_eq!(told(known), Vec::<String>::new(), "{known}");
    }
    for (unknown, part) in [
        ("widgets.future.k8s.io", "covers both /widgets/"),
        ("secrets.future.k8s.io", "covers /future.k8s.io/secrets/ alone"),
        ("'*.future.k8s.io'", "covered once it is named"),
    ] {
        let told = told(unknown);
        assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
    }
}

/// The first entry writes, and the second one's providers only read behind it.
#[test]
fn of_a_resource_that_is_listed_twice_the_first_entry_is_said_to_write() {
    let twice = config(&[
        ("secrets", &[&keyed("aescbc", &[("a", A)])]),
        ("secrets, configmaps", &[IDENTITY]),
    ]);
    let said = all(&twice, None);
    let clear: Vec<_> = said
        .iter()
        .filter(|finding| finding.message.contains("in the clear"))
        .collect();
    assert_eq!(clear.len(), 1, "{said:?}");
    assert!(clear[0].message.starts_with("configmaps: "), "{said:?}");
    let only = config(&[("secrets", &[&keyed("aescbc", &[("a", A)])]), ("secrets", &[IDENTITY])]);
    assert!(
        all(&only, None)
            .iter()
            .all(|finding| !finding.message.contains("in the clear"))
    );
}
