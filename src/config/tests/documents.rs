//! Whole documents that kube-apiserver accepts, and what they say.

use std::time::Duration;

use super::{super::*, HEAD, SECRET_16, SECRET_32, accepted, providers};
use crate::types::{GroupResource, KeyName};

fn exact(group: &str, resource: &str) -> ResourceSelector {
    ResourceSelector::Exact(GroupResource::new(group, resource))
}

fn kms(fields: &str) -> Kms {
    let configuration = accepted(&providers(&format!(
        "[kms: {{name: k, endpoint: unix:///s, {fields}}}]"
    )));
    match configuration.entries.as_slice() {
        [entry] => match entry.providers.as_slice() {
            [Provider::Kms(kms)] => kms.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

const EVERYTHING: &str = r#"# The example of the Kubernetes documentation, and more.
---
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets, "configmaps", pandas.awesome.bears.example]
    providers:
      - identity: {} # plain text
      - aesgcm:
          keys:
            - name: key1
              secret: c2VjcmV0IGlzIHNlY3VyZQ==
            - name: "a:b"
              secret: |
                dGhpcyBpcyBwYXNz
                d29yZA==
      - aescbc: { keys: [ { name: key1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYX } ] }
      - secretbox:
          keys:
          - secret: 'YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY='
            name: key1
      - kms: {apiVersion: v2, name: two, endpoint: "unix:///two.sock", timeout: 1m30s}
  - resources:
    - '*.apps'
    - '*.'
    providers:
    - kms:
        name: one:with:colons
        endpoint: unix:///one.sock
        cachesize: -1
---
this is: [not looked at
"#;

#[test]
fn every_field_of_every_provider_is_read() {
    let configuration = accepted(EVERYTHING);
    assert_eq!(configuration.fingerprint, Fingerprint::of(EVERYTHING.as_bytes()));
    let [first, second] = configuration.entries.as_slice() else {
        panic!("{configuration:?}")
    };
    assert_eq!(
        first.resources,
        [
            exact("", "secrets"),
            exact("", "configmaps"),
            exact("awesome.bears.example", "pandas")
        ]
    );
    let keys = |keys: &[Key]| -> Vec<(String, Vec<u8>)> {
        keys.iter()
            .map(|key| (key.name.to_string(), key.secret.expose().to_vec()))
            .collect()
    };
    let [
        Provider::Identity,
        Provider::AesGcm { keys: gcm },
        Provider::AesCbc { keys: cbc },
        Provider::Secretbox { keys: boxed },
        Provider::Kms(two),
    ] = first.providers.as_slice()
    else {
        panic!("{:?}", first.providers)
    };
    assert_eq!(
        keys(gcm),
        [
            ("key1".to_owned(), b"secret is secure".to_vec()),
            ("a:b".to_owned(), b"this is password".to_vec())
        ]
    );
    assert_eq!(keys(cbc), [("key1".to_owned(), (0..24).collect())]);
    assert_eq!(
        keys(boxed),
        [("key1".to_owned(), b"abcdefghijklmnopqrstuvwxyz123456".to_vec())]
    );
    assert_eq!(
        *two,
        Kms {
            api_version: KmsApiVersion::V2,
            name: KeyName::new("two"),
            cache_size: None,
            endpoint: "unix:///two.sock".into(),
            timeout: Duration::from_secs(90),
        }
    );
    assert_eq!(
        second.resources,
        [
            ResourceSelector::Group("apps".into()),
            ResourceSelector::Group(String::new())
        ]
    );
    let [Provider::Kms(one)] = second.providers.as_slice() else {
        panic!("{:?}", second.providers)
    };
    assert_eq!(
        *one,
        Kms {
            api_version: KmsApiVersion::V1,
            name: KeyName::new("one:with:colons"),
            cache_size: Some(-1),
            endpoint: "unix:///one.sock".into(),
            timeout: Duration::from_secs(3),
        }
    );
}

#[test]
fn the_same_document_may_be_json() {
    let yaml = format!(
        "{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: \"k\\U0001F600/\"\n        secret: {SECRET_16}\n  - identity: {{}}\n"
    );
    let json = format!(
        "\n{{\"kind\":\"EncryptionConfiguration\",\"apiVersion\":\"apiserver.config.k8s.io\\/v1\",\n\t\"resources\"\n:[{{\"resources\":[\"secrets\"],\"providers\":[{{\"aescbc\":{{\"keys\":[{{\"name\":\"k\\ud83d\\ude00/\",\"secret\":\"{SECRET_16}\"}}]}},\"kms\":null}},{{\"identity\":{{}}}}]}}]}}\n"
    );
    assert_eq!(accepted(&yaml).entries, accepted(&json).entries);
}

#[test]
fn the_name_that_early_documentation_had_is_accepted() {
    let document = providers("[identity: {}]").replace(HEAD, "kind: EncryptionConfig\napiVersion: v1\n");
    assert_eq!(
        accepted(&document).entries,
        accepted(&providers("[identity: {}]")).entries
    );
}

#[test]
fn defaults_of_kms_follow_its_version() {
    let fields = |kms: Kms| (kms.api_version, kms.cache_size, kms.timeout);
    let three = Duration::from_secs(3);
    for (written, expected) in [
        ("", (KmsApiVersion::V1, Some(1000), three)),
        (
            "apiVersion: v1, cachesize: null, timeout: null",
            (KmsApiVersion::V1, Some(1000), three),
        ),
        ("apiVersion: '', cachesize: 7", (KmsApiVersion::V1, Some(7), three)),
        (
            "cachesize: 0x10, timeout: 300ms",
            (KmsApiVersion::V1, Some(16), Duration::from_millis(300)),
        ),
        (
            "cachesize: 1e2, timeout: +1.5h",
            (KmsApiVersion::V1, Some(100), Duration::from_secs(5400)),
        ),
        ("apiVersion: v2", (KmsApiVersion::V2, None, three)),
        (
            "apiVersion: v2, timeout: 1ns",
            (KmsApiVersion::V2, None, Duration::from_nanos(1)),
        ),
    ] {
        assert_eq!(fields(kms(written)), expected, "{written}");
    }
}

#[test]
fn endpoints_are_kept_as_they_are_written() {
    for endpoint in [
        "unix:///var/run/kms.sock",
        "UNIX:///s",
        "unix:///@abstract",
        "unix:relative",
    ] {
        let list = format!("[kms: {{name: k, endpoint: '{endpoint}'}}]");
        let configuration = accepted(&providers(&list));
        let found = configuration.entries.iter().flat_map(|entry| &entry.providers).next();
        assert!(
            matches!(found, Some(Provider::Kms(kms)) if kms.endpoint == endpoint),
            "{found:?}"
        );
    }
}

#[test]
fn anchors_aliases_and_merge_keys_are_followed() {
    let document = format!(
        "{HEAD}resources:
- resources: [secrets]
  providers: &all
  - aescbc: &keys
      keys: &list
      - &one {{name: one, secret: &secret {SECRET_16}}}
      - name: two
        secret: *secret
  - aesgcm: *keys
  - aesgcm: {{<<: *keys}}
  - aesgcm: {{keys: [<<: [*one]]}}
  - aescbc: {{keys: *list}}
- resources: [configmaps]
  providers: *all
"
    );
    let configuration = accepted(&document);
    let [first, second] = configuration.entries.as_slice() else {
        panic!("{configuration:?}")
    };
    assert_eq!(first.providers, second.providers);
    let names: Vec<String> = first
        .providers
        .iter()
        .map(|provider| match provider {
            Provider::AesCbc { keys } | Provider::AesGcm { keys } => keys
                .iter()
                .map(|key| key.name.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["one two", "one two", "one two", "one", "one two"]);
}

#[test]
fn base64_may_be_what_go_lets_pass() {
    for secret in [
        SECRET_32.to_owned(),
        format!("\"{SECRET_32}\\n\""),
        format!("|\n          {}\n          {}\n", &SECRET_32[..20], &SECRET_32[20..]),
        // The low bits of the last character carry nothing.
        SECRET_32.replace("4Q=", "4R="),
    ] {
        let document = format!(
            "{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - secretbox:\n      keys:\n      - name: k\n        secret: {secret}\n"
        );
        assert_eq!(
            accepted(&document).entries,
            accepted(&providers(&format!(
                "[secretbox: {{keys: [{{name: k, secret: {SECRET_32}}}]}}]"
            )))
            .entries,
            "{secret}"
        );
    }
}

#[test]
fn rules_join_the_entries_of_a_resource_in_order() {
    let kms = |name: &str| format!("kms: {{name: {name}, endpoint: unix:///{name}}}");
    let document = format!(
        "{HEAD}resources:\n\
         - resources: [secrets, configmaps]\n  providers: [{}, {}]\n\
         - resources: [pods, secrets.]\n  providers: [{}]\n\
         - resources: ['*.', '*.apps']\n  providers: [identity: {{}}]\n\
         - resources: ['*.*']\n  providers: [{}]\n",
        kms("a"),
        kms("b"),
        kms("c"),
        kms("d"),
    );
    let configuration = accepted(&document);
    let rules: Vec<String> = configuration
        .rules()
        .into_iter()
        .map(|(selector, providers)| {
            let names: Vec<&str> = providers
                .into_iter()
                .map(|provider| match provider {
                    Provider::Kms(kms) => kms.name.as_str(),
                    _ => "identity",
                })
                .collect();
            format!("{selector}={}", names.join(","))
        })
        .collect();
    assert_eq!(
        rules,
        [
            "secrets=a,b,c",
            "configmaps=a,b",
            "pods=c",
            "*.=identity",
            "*.apps=identity",
            "*.*=d"
        ]
    );
}

#[test]
fn providers_that_kube_apiserver_wrote_with_are_read() {
    let vectors = include_str!("../../../tests/vectors/k8s-0.36.4.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).expect("a list of vectors");
    let mut seen = 0;
    for vector in &vectors {
        let Some(provider) = vector.get("provider") else {
            continue;
        };
        seen += 1;
        let document = serde_json::json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [provider]}],
        });
        for text in [document.to_string(), format!("# YAML\n{document:#}")] {
            let configuration = accepted(&text);
            let [Entry { providers, .. }] = configuration.entries.as_slice() else {
                panic!("{configuration:?}")
            };
            let name = provider
                .as_object()
                .and_then(|object| object.keys().next())
                .expect("a provider");
            let read = match providers.as_slice() {
                [Provider::Identity] => "identity",
                [Provider::AesCbc { .. }] => "aescbc",
                [Provider::AesGcm { .. }] => "aesgcm",
                [Provider::Secretbox { .. }] => "secretbox",
                [Provider::Kms(_)] => "kms",
                other => panic!("{other:?}"),
            };
            assert_eq!(read, name);
        }
    }
    assert!(seen > 100, "{seen} vectors have a provider");
}
