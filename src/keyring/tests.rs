//! Which rule covers which key, and that no range with a covered key is thought to have none.

use std::time::Duration;

use proptest::prelude::*;

use super::{Error, Keyring, Rule};
use crate::config::{self, EncryptionConfiguration, Entry, Key, Kms, KmsApiVersion, ResourceSelector};
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::types::{Fingerprint, GroupResource, KeyName, KeyRange, SecretBytes, StorageKey};
use crate::value::{Deks, OpenError};

/// Selectors as the configuration writes them.
fn selector(text: &str) -> ResourceSelector {
    match text.split_once('.') {
        Some(("*", "*")) => ResourceSelector::All,
        Some(("*", group)) => ResourceSelector::Group(group.to_owned()),
        Some((resource, group)) => ResourceSelector::Exact(GroupResource::new(group, resource)),
        None => ResourceSelector::Exact(GroupResource::new("", text)),
    }
}

/// aescbc with keys of the given names.
fn aescbc(names: &[&str]) -> config::Provider {
    let key = |name: &&str| Key {
        name: KeyName::new(*name),
        secret: SecretBytes::new(name.bytes().cycle().take(32).collect()),
    };
    config::Provider::AesCbc {
        keys: names.iter().map(key).collect(),
    }
}

fn compile(entries: &[(&[&str], &[config::Provider])], prefixes: &[&str]) -> Result<Keyring, Error> {
    compile_with(entries, prefixes, &Plugins::none())
}

fn compile_with(
    entries: &[(&[&str], &[config::Provider])],
    prefixes: &[&str],
    plugins: &Plugins,
) -> Result<Keyring, Error> {
    let entries = entries.iter().map(|(resources, providers)| Entry {
        resources: resources.iter().map(|text| selector(text)).collect(),
        providers: providers.to_vec(),
    });
    let config = EncryptionConfiguration {
        entries: entries.collect(),
        fingerprint: Fingerprint::of(b"the document"),
        retired: config::Retired::default(),
    };
    let prefixes = prefixes.iter().map(|prefix| EtcdPrefix::parse(prefix).unwrap());
    Keyring::compile(&config, &KeySpace::new(prefixes.collect()).unwrap(), plugins)
}

/// The name of the key that writes `key`, if any does.
fn writer<'a>(keyring: &'a Keyring, key: &str) -> Option<&'a str> {
    keyring.chain(key.as_bytes())?.writer().key.map(KeyName::as_str)
}

#[test]
fn the_most_specific_rule_counts_wherever_it_stands() {
    let keyring = compile(
        &[
            (&["*.*"], &[aescbc(&["all"])]),
            (&["*.apps", "*."], &[aescbc(&["group"])]),
            (
                &["secrets", "deployments.apps", "pandas.bears.example"],
                &[aescbc(&["exact"])],
            ),
        ],
        &["/registry"],
    )
    .unwrap();
    for (key, expected) in [
        ("/registry/secrets/default/a", Some("exact")),
        ("/registry/deployments/default/a", Some("exact")),
        ("/registry/bears.example/pandas/a", Some("exact")),
        ("/registry/configmaps/default/a", Some("group")),
        ("/registry/daemonsets/default/a", Some("group")),
        ("/registry/bears.example/koalas/a", Some("all")),
        ("/registry/jobs/default/a", Some("all")),
        ("/registry/neverheardof/a", Some("all")),
        ("/registry/masterleases/10.0.0.1", None),
        ("/elsewhere/secrets/a", None),
    ] {
        assert_eq!(writer(&keyring, key), expected, "{key}");
    }
}

#[test]
fn without_a_rule_for_everything_what_is_unlisted_passes() {
    let keyring = compile(&[(&["*.", "*.apps"], &[aescbc(&["group"])])], &["/registry"]).unwrap();
    assert_eq!(writer(&keyring, "/registry/neverheardof/a"), None);
    assert_eq!(writer(&keyring, "/registry/apps/a"), None);
    assert_eq!(writer(&keyring, "/registry/leases/a"), None);
}

#[test]
fn a_resource_in_several_entries_gets_all_their_providers_in_document_order() {
    let keyring = compile(
        &[
            (&["secrets", "configmaps"], &[aescbc(&["new", "newer"])]),
            (&["pods"], &[aescbc(&["other"])]),
            (&["secrets"], &[aescbc(&["old"]), config::Provider::Identity]),
        ],
        &["/registry"],
    )
    .unwrap();
    let lines: Vec<_> = keyring.rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"secrets: writes aescbc key "new"; reads aescbc "new","newer", aescbc "old", identity"#,
            r#"configmaps: writes aescbc key "new"; reads aescbc "new","newer""#,
            r#"pods: writes aescbc key "other"; reads aescbc "other""#,
        ]
    );
    let mut sealed_by_old = Vec::new();
    let old = compile(&[(&["pods"], &[aescbc(&["old"])])], &["/registry"]).unwrap();
    old.chain(b"/registry/pods/a")
        .unwrap()
        .to_storage(StorageKey(b"k"), b"value", &Deks::default(), &mut sealed_by_old)
        .unwrap();
    let mut out = Vec::new();
    let secrets = keyring.chain(b"/registry/secrets/default/a").unwrap();
    assert!(
        secrets
            .from_storage(StorageKey(b"k"), &sealed_by_old, &Deks::default(), &mut out)
            .unwrap()
            .stale
    );
    assert_eq!(out, b"value");
    let configmaps = keyring.chain(b"/registry/configmaps/default/a").unwrap();
    assert!(matches!(
        configmaps.from_storage(StorageKey(b"k"), &sealed_by_old, &Deks::default(), &mut out),
        Err(OpenError::NoMatchingKey(_))
    ));
}

fn kms(name: &str) -> config::Provider {
    config::Provider::Kms(Kms {
        api_version: KmsApiVersion::V2,
        name: KeyName::new(name),
        cache_size: None,
        endpoint: "unix:///nobody/listens/here.sock".into(),
        timeout: Duration::from_secs(3),
    })
}

#[test]
fn a_kms_provider_is_refused_by_name_and_place_where_there_are_none() {
    let error = compile(
        &[
            (&["pods"], &[config::Provider::Identity]),
            (&["secrets"], &[aescbc(&["a"]), kms("vault")]),
        ],
        &["/registry"],
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "resources[1].providers[1]: kms provider \"vault\" could not be set up"
    );
}

#[tokio::test]
async fn plugins_live_as_long_as_a_keyring_that_lists_them_and_are_found_by_the_next() {
    let plugins = Plugins::new(tokio::runtime::Handle::current(), crate::kms::Config::default());
    let keyring = |names: &[&str]| {
        let providers: Vec<_> = names.iter().map(|name| kms(name)).collect();
        compile_with(
            &[(&["secrets", "pods"], &providers), (&["jobs.batch"], &providers)],
            &["/registry"],
            &plugins,
        )
        .unwrap()
    };
    let first = keyring(&["a", "b"]);
    let second = keyring(&["b", "c"]);
    let names = |keyring: &Keyring| {
        keyring
            .plugins()
            .iter()
            .map(|plugin| plugin.name().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["a".into(), "b".into()], vec!["b".into(), "c".into()])
    );
    assert!(first.plugins()[1].is(&second.plugins()[0]));
    let shown = second.rules()[0].chain().to_string();
    assert_eq!(shown, r#"writes kms v2 key "b"; reads kms v2 "b", kms v2 "c""#);
}

#[test]
fn a_rule_that_no_key_can_have_is_known() {
    let keyring = compile(&[(&["secret", "secrets"], &[aescbc(&["a"])])], &["/registry"]).unwrap();
    assert_eq!(
        keyring.rules().iter().map(Rule::is_idle).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn ranges_beside_a_rule_are_not_covered() {
    let keyring = compile(&[(&["secrets"], &[aescbc(&["a"])])], &["/registry"]).unwrap();
    for (key, range_end, expected) in [
        ("/registry/secrets/", "/registry/secrets0", true),
        ("/registry/secrets/default/a", "", true),
        ("/registry/", "/registry0", true),
        ("\0", "\0", true),
        ("/registry/pods/", "\0", true),
        ("/registry/configmaps/", "/registry/configmaps0", false),
        ("/registry/secretsfoo", "", false),
        ("/registry/secrets0", "\0", false),
        ("/registry/secrets/b", "/registry/secrets/a", false),
        ("compact_rev_key", "", false),
    ] {
        let range = KeyRange::new(key.as_bytes(), range_end.as_bytes());
        assert_eq!(keyring.may_cover(&range), expected, "{key:?} to {range_end:?}");
    }
}

#[test]
fn a_rule_for_everything_below_the_root_covers_all_but_kube_apiservers_own_records() {
    let keyring = compile(&[(&["*.*"], &[aescbc(&["a"])])], &["/"]).unwrap();
    for key in [
        "/",
        "/a",
        "//",
        "/registry/secrets/default/a",
        "/secrets/a",
        "/b.c/d",
        "/ranges",
        "/health/x",
    ] {
        assert_eq!(writer(&keyring, key), Some("a"), "{key}");
    }
    for key in [
        "/health",
        "/ranges/serviceips",
        "/masterleases/x",
        "a",
        "compact_rev_key",
        "",
    ] {
        assert_eq!(writer(&keyring, key), None, "{key}");
    }
}

fn any_selectors() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec![
        "secrets",
        "services",
        "ingresses.networking.k8s.io",
        "p.a.b",
        "*.",
        "*.apps",
        "*.a.b",
        "*.*",
    ];
    proptest::sample::subsequence(all.clone(), 1..all.len())
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(vec![
        "/registry",
        "/secrets",
        "/services",
        "/specs",
        "/ingress",
        "/a.b",
        "/p",
        "/",
        "0",
        "\0",
        "/pods",
        "/ranges",
    ]);
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn a_range_with_a_covered_key_may_be_covered(
        selectors in any_selectors(), root: bool, key in any_key(), from in any_key(), to in any_key(),
    ) {
        let prefixes: &[&str] = if root { &["/", "/registry"] } else { &["/registry"] };
        let keyring = compile(&[(&selectors, &[aescbc(&["a"])])], prefixes).unwrap();
        for range in [KeyRange::new(&from, &to), KeyRange::From(&from), KeyRange::One(&key)] {
            if range.contains(&key) && keyring.chain(&key).is_some() {
                prop_assert!(keyring.may_cover(&range));
            }
        }
    }

    /// Whatever was asked for before.
    #[test]
    fn a_lookup_of_one_key_after_the_other_finds_what_each_has_alone(
        selectors in any_selectors(), root: bool, keys in proptest::collection::vec(any_key(), 0..20),
    ) {
        let prefixes: &[&str] = if root { &["/", "/registry"] } else { &["/registry", "/registry/secrets/x"] };
        let keyring = compile(&[(&selectors, &[aescbc(&["a"])])], prefixes).unwrap();
        let mut lookup = keyring.lookup();
        for key in &keys {
            let (found, alone) = (lookup.chain(key), keyring.chain(key));
            prop_assert_eq!(found.is_some(), alone.is_some());
            prop_assert!(found.zip(alone).is_none_or(|(found, alone)| found.is_same(&alone)));
        }
    }

    /// With one prefix and no rule for everything, the answer for a single key is exact.
    #[test]
    fn a_single_key_without_a_rule_is_not_covered(selectors in any_selectors(), key in any_key()) {
        prop_assume!(!selectors.contains(&"*.*"));
        let keyring = compile(&[(&selectors, &[aescbc(&["a"])])], &["/registry"]).unwrap();
        prop_assume!(!key.starts_with(b"/registry/a.b"));
        prop_assert_eq!(keyring.may_cover(&KeyRange::One(&key)), keyring.chain(&key).is_some());
    }
}

/// By Kubernetes' own lists of where which resource lies.
#[test]
fn every_resource_of_kubernetes_is_sealed_by_the_key_of_its_own_rule() {
    for list in [
        include_str!("../../tests/keyspace/kubernetes-1.20.15.tsv"),
        include_str!("../../tests/keyspace/kubernetes-1.31.14.tsv"),
        include_str!("../../tests/keyspace/kubernetes-1.37.2.tsv"),
    ] {
        let facts: Vec<(String, &str)> = list
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let columns: Vec<_> = line.split('\t').collect();
                (GroupResource::new(columns[2], columns[1]).to_string(), columns[3])
            })
            .collect();
        let rules: Vec<_> = facts
            .iter()
            .map(|(name, _)| ([name.as_str()], [aescbc(&[name.as_str()])]))
            .collect();
        let entries: Vec<(&[&str], &[config::Provider])> =
            rules.iter().map(|(names, keys)| (&names[..], &keys[..])).collect();
        let keyring = compile(&entries, &["/registry"]).unwrap();
        for (name, key) in &facts {
            assert_eq!(writer(&keyring, key), Some(name.as_str()), "{key}");
        }
    }
}
