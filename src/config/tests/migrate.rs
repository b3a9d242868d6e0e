//! Which rules `migrate` takes over, and under which name a plugin comes to stand in each.

use std::time::Duration;

use super::super::{
    Conflict, Draft, EncryptionConfiguration, KeyId, Kms, KmsApiVersion, Options, Provider, Target, parse,
};
use crate::types::KeyName;

const SECRET: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

fn config(entries: &[(&str, &str)]) -> EncryptionConfiguration {
    let entry =
        |(resources, providers): &(&str, &str)| format!("- {{resources: [{resources}], providers: [{providers}]}}\n");
    let entries: String = entries.iter().map(entry).collect();
    let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{entries}");
    parse(text.as_bytes(), Options { reload: true }).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn cbc(name: &str) -> String {
    format!("{{aescbc: {{keys: [{{name: {name}, secret: {SECRET}}}]}}}}")
}

fn listed(version: &str, name: &str, endpoint: &str) -> String {
    format!("{{kms: {{apiVersion: {version}, name: {name}, endpoint: 'unix:///{endpoint}'}}}}")
}

fn plugin(name: &str, endpoint: &str) -> Kms {
    Kms {
        api_version: KmsApiVersion::V2,
        name: KeyName::new(name),
        cache_size: None,
        endpoint: format!("unix:///{endpoint}"),
        timeout: Duration::from_secs(3),
    }
}

fn no_key(_: super::super::KeyType, _: &[KeyId]) -> KeyId {
    panic!("a plugin needs no key")
}

/// The document once `kms` is listed where it is to follow, promoted, and the old ones are out.
fn migrated(config: &EncryptionConfiguration, kms: &Kms) -> Vec<Vec<String>> {
    let found = Target::Kms(kms.clone()).migration(config, no_key).unwrap();
    let mut draft = Draft::of(config);
    for _ in 0..2 {
        // To be made again changes nothing.
        draft.introduce(&found.pairs, |id| {
            Some(Provider::Kms(Kms {
                name: id.name.clone(),
                ..kms.clone()
            }))
        });
    }
    let listed = parse(draft.render("").as_bytes(), Options { reload: true }).expect("valid as kube-apiserver has it");
    assert_eq!(listed.writing(), config.writing(), "it reads only");
    for (old, new) in &found.pairs {
        draft.promote(new, old);
    }
    let (old, new): (Vec<_>, Vec<_>) = found.pairs.into_iter().unzip();
    draft.remove(&old, &new);
    let shown = |provider: &Provider| match provider {
        Provider::Kms(kms) => kms.name.to_string(),
        Provider::Identity => "identity".to_owned(),
        other => other.key_ids().map(|id| id.name.to_string()).collect(),
    };
    let entries = draft.entries.iter();
    entries
        .map(|entry| entry.providers.iter().map(shown).collect())
        .collect()
}

#[test]
fn each_entry_has_the_plugin_under_a_name_of_its_own() {
    let (k, old) = (cbc("k"), cbc("old"));
    let all = config(&[
        ("secrets", &format!("{k}, {{identity: {{}}}}")),
        ("configmaps", &k),
        ("pods, services", &format!("{{identity: {{}}}}, {old}")),
        ("events", "{identity: {}}"),
        ("leases", &listed("v1", "other", "elsewhere")),
    ]);
    assert_eq!(
        migrated(&all, &plugin("new", "p")),
        [
            vec!["new", "identity"],
            vec!["new-2"],
            vec!["new-3", "old"],
            vec!["identity"],
            vec!["new-4"]
        ]
    );
    let found = Target::Kms(plugin("new", "p")).migration(&all, no_key).unwrap();
    assert_eq!(found.left, ["events"]);
}

#[test]
fn where_it_is_listed_it_takes_over_and_where_it_writes_it_stays() {
    let (k, reader, writer) = (cbc("k"), listed("v2", "new-7", "p"), listed("v2", "new", "p"));
    let all = config(&[
        ("secrets", &format!("{k}, {{identity: {{}}}}, {reader}")),
        ("configmaps", &format!("{writer}, {k}")),
    ]);
    assert_eq!(
        migrated(&all, &plugin("new", "p")),
        [vec!["new-7", "identity"], vec!["new", "k"]]
    );
}

#[test]
fn a_name_or_a_socket_that_stands_for_another_plugin_is_refused() {
    let all = config(&[("secrets", &format!("{}, {}", cbc("k"), listed("v1", "vault", "p")))]);
    let refused = |kms: &Kms| Target::Kms(kms.clone()).migration(&all, no_key).unwrap_err();
    assert!(matches!(refused(&plugin("vault", "q")), Conflict::Name(_)));
    assert!(matches!(refused(&plugin("vault", "p")), Conflict::Name(_)));
    assert!(matches!(refused(&plugin("other", "p")), Conflict::Version(_)));
}

#[test]
fn a_record_keeps_the_target_as_it_is() {
    let v1 = Kms {
        api_version: KmsApiVersion::V1,
        cache_size: Some(-1),
        ..plugin("a:b", "p")
    };
    for target in [Target::Identity, Target::Kms(plugin("n", "p")), Target::Kms(v1)] {
        target.check().unwrap();
        let text = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<Target>(&text).unwrap(), target, "{text}");
    }
    for wrong in [
        plugin("a:b", "p"),
        plugin("", "p"),
        Kms {
            timeout: Duration::ZERO,
            ..plugin("n", "p")
        },
    ] {
        Target::Kms(wrong).check().unwrap_err();
    }
}
