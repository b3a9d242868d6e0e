//! kube-apiserver's rules for entries, providers, keys and KMS, message by message, each with its place.

use super::{super::Options, HEAD, SECRET_16, SECRET_32, accepted, providers, refusal, refusal_with};

/// Column of the providers in what `providers` makes, where line 3 holds them all.
const COLUMN: usize = "resources: [{resources: [secrets], providers: ".len() + 1;

/// The refusal of a list of providers, its columns counted from the start of the list.
#[track_caller]
fn refused(list: &str) -> Vec<String> {
    relative(&refusal(&providers(list)))
}

#[track_caller]
fn relative(messages: &str) -> Vec<String> {
    messages
        .lines()
        .map(|line| {
            let rest = line.strip_prefix("3:").expect("every problem has a line");
            let (column, message) = rest.split_once(": ").expect("and a column");
            let column: usize = column.parse().expect("which is a number");
            format!("{}: {message}", column + 1 - COLUMN)
        })
        .collect()
}

#[test]
fn entries_need_resources_and_providers() {
    for (rest, message) in [
        ("", "1:1: resources: Required value: at least one resources is required"),
        (
            "resources:\n",
            "3:10: resources: Required value: at least one resources is required",
        ),
        (
            "resources: []\n",
            "3:12: resources: Required value: at least one resources is required",
        ),
        (
            "resources:\n- {}\n",
            "4:3: resources[0].resources: Required value: at least one resources[0].resources is required\n\
             4:3: resources[0].providers: Required value: at least one resources[0].providers is required",
        ),
        (
            "resources:\n- null\n",
            "4:3: resources[0].resources: Required value: at least one resources[0].resources is required\n\
             4:3: resources[0].providers: Required value: at least one resources[0].providers is required",
        ),
        (
            "resources:\n- resources: [secrets]\n  providers: [identity: {}]\n- resources: []\n  providers: []\n",
            "6:14: resources[1].resources: Required value: at least one resources[1].resources is required\n\
             7:14: resources[1].providers: Required value: at least one resources[1].providers is required",
        ),
    ] {
        assert_eq!(refusal(&format!("{HEAD}{rest}")), message, "{rest}");
    }
}

#[test]
fn an_element_has_exactly_one_provider() {
    let none = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
    let several = "more than one provider specified in a single element, should split into different list elements";
    for list in ["[{}]", "[null]", "[{identity: }]", "[{identity: null, kms: ~}]"] {
        assert_eq!(
            refused(list),
            [format!("2: resources[0].providers[0]: Invalid value: {{}}: {none}")],
            "{list}"
        );
    }
    assert_eq!(
        refused("[{identity: {}}, {identity: {}, kms: {name: k, endpoint: unix:///s}}]"),
        [format!(
            "18: resources[0].providers[1]: Invalid value: {{kms, identity}}: {several}"
        )]
    );
    // Of several providers kube-apiserver then checks one: KMS, AES-GCM, AES-CBC and secretbox, in this order.
    assert_eq!(
        refused("[{secretbox: {}, aescbc: {}, aesgcm: {}}]"),
        [
            format!("2: resources[0].providers[0]: Invalid value: {{aesgcm, aescbc, secretbox}}: {several}"),
            "38: resources[0].providers[0].aesgcm.keys: Required value: at least one keys is required".into(),
        ]
    );
}

#[test]
fn keys_need_a_name_and_a_secret_of_the_right_length() {
    let place = "resources[0].providers[0].aescbc.keys";
    let of_16 = "c2VjcmV0IGlzIHNlY3VyZQ==";
    let of_24 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    for (keys, messages) in [
        (
            "[]",
            vec![format!("18: {place}: Required value: at least one keys is required")],
        ),
        (
            "null",
            vec![format!("18: {place}: Required value: at least one keys is required")],
        ),
        (
            "[{}, null]",
            vec![
                format!("19: {place}[0].name: Required value: name is a mandatory field for a key"),
                format!("19: {place}[0].secret: Required value: secret is a mandatory field for a key"),
                format!("23: {place}[1].name: Required value: name is a mandatory field for a key"),
                format!("23: {place}[1].secret: Required value: secret is a mandatory field for a key"),
            ],
        ),
        (
            "[{name: '', secret: P@ssword}]",
            vec![
                format!("26: {place}[0].name: Required value: name is a mandatory field for a key"),
                format!("38: {place}[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"),
            ],
        ),
        (
            "[{name: k, secret: YQ}]",
            vec![format!(
                "37: {place}[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"
            )],
        ),
        (
            "[{name: k, secret: cGFzc3dvcmQK}]",
            vec![format!(
                "37: {place}[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 9, \
                 expected one of [16 24 32]"
            )],
        ),
        (
            "[{name: k, secret: \"\\n\"}]",
            vec![format!(
                "37: {place}[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 0, \
                 expected one of [16 24 32]"
            )],
        ),
    ] {
        assert_eq!(refused(&format!("[{{aescbc: {{keys: {keys}}}}}]")), messages, "{keys}");
    }
    for secret in [of_16, of_24, SECRET_32] {
        for provider in ["aescbc", "aesgcm"] {
            accepted(&providers(&format!(
                "[{provider}: {{keys: [{{name: k, secret: {secret}}}]}}]"
            )));
        }
    }
    for (secret, length) in [(of_16, 16), (of_24, 24)] {
        assert_eq!(
            refused(&format!("[secretbox: {{keys: [{{name: k, secret: {secret}}}]}}]")),
            [format!(
                "39: resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of \
                 the expected length, got {length}, expected one of [32]"
            )]
        );
    }
}

#[test]
fn kms_fields_follow_the_rules_of_their_version() {
    let place = "resources[0].providers[0].kms";
    for (fields, message) in [
        (
            "endpoint: unix:///s",
            "7: {}.name: Required value: name is a mandatory field for a provider",
        ),
        (
            "apiVersion: v2, endpoint: unix:///s, name: 'a:b'",
            "51: {}.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':'",
        ),
        (
            "name: k, endpoint: unix:///s, timeout: 0s",
            "47: {}.timeout: Invalid value: 0s: timeout should be a positive value",
        ),
        (
            "name: k, endpoint: unix:///s, timeout: -1m",
            "47: {}.timeout: Invalid value: -1m0s: timeout should be a positive value",
        ),
        (
            "name: k",
            "7: {}.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms",
        ),
        (
            "name: k, endpoint: 'https://www.foo.com'",
            "27: {}.endpoint: Invalid value: \"https://www.foo.com\": unsupported scheme \"https\" for KMS provider, only \
             unix is supported",
        ),
        (
            "name: k, endpoint: /s",
            "27: {}.endpoint: Invalid value: \"/s\": unsupported scheme \"\" for KMS provider, only unix is supported",
        ),
        (
            "name: k, endpoint: \"unix:///foo\\n.socket\"",
            "27: {}.endpoint: Invalid value: \"unix:///foo\\n.socket\": invalid endpoint for kms provider, error: parse \
             \"unix:///foo\\n.socket\": net/url: invalid control character in URL",
        ),
        (
            "name: k, endpoint: unix:///s, cachesize: 0",
            "49: {}.cachesize: Invalid value: 0: cachesize should be a positive value, or negative to disable",
        ),
        (
            "apiVersion: v2, name: k, endpoint: unix:///s, cachesize: 5",
            "65: {}.cachesize: Invalid value: 5: cachesize is not supported in v2",
        ),
        (
            "apiVersion: v2, name: k, endpoint: unix:///s, cachesize: 0",
            "65: {}.cachesize: Invalid value: 0: cachesize is not supported in v2",
        ),
        (
            "apiVersion: v3, name: k, endpoint: unix:///s",
            "20: {}.apiVersion: Invalid value: \"v3\": unsupported apiVersion apiVersion for KMS provider, only v1 and v2 \
             are supported",
        ),
    ] {
        assert_eq!(
            refused(&format!("[kms: {{{fields}}}]")),
            [message.replace("{}", place)],
            "{fields}"
        );
    }
}

#[test]
fn all_problems_are_reported_in_the_order_of_kube_apiserver() {
    let messages = refusal(&format!(
        "{HEAD}resources:
- resources: [Secrets]
  providers:
  - kms: {{apiVersion: v3, name: 'a:b', timeout: 0s, cachesize: 1}}
- providers:
  - aesgcm: {{keys: [{{name: k, secret: {SECRET_16}}}, {{name: l, secret: cGFzc3dvcmQK}}]}}
  - {{}}
"
    ));
    let places: Vec<&str> = messages
        .lines()
        .map(|line| line.split(" value").next().expect("a first part"))
        .collect();
    assert_eq!(
        places,
        [
            "4:15: resources[0].resources[0]: Invalid",
            "6:33: resources[0].providers[0].kms.name: Invalid",
            "6:49: resources[0].providers[0].kms.timeout: Invalid",
            "6:10: resources[0].providers[0].kms.endpoint: Invalid",
            "6:64: resources[0].providers[0].kms.cachesize: Invalid",
            "6:23: resources[0].providers[0].kms.apiVersion: Invalid",
            "7:3: resources[1].resources: Required",
            "8:84: resources[1].providers[0].aesgcm.keys[1].secret: Invalid",
            "9:5: resources[1].providers[1]: Invalid",
        ]
    );
}

/// Two providers of one name: their versions, whether the configuration is reloaded, and whether that is refused.
#[test]
fn names_of_kms_providers_are_unique_as_far_as_kube_apiserver_looks() {
    for (first, second, reload, refused) in [
        ("v1", "v1", false, false),
        ("v1", "v2", false, true),
        ("v2", "v1", false, false),
        ("v2", "v2", false, true),
        ("v1", "v1", true, true),
        ("v1", "v2", true, true),
        ("v2", "v1", true, true),
        ("v2", "v2", true, true),
    ] {
        let kms = |version: &str| format!("kms: {{apiVersion: {version}, name: foo, endpoint: unix:///s}}");
        let in_one = (
            providers(&format!("[{}, {}]", kms(first), kms(second))),
            "resources[0].providers[1]",
        );
        let in_two = (
            format!(
                "{HEAD}resources: [{{resources: [secrets], providers: [{}]}}, {{resources: [pods], providers: [{}]}}]\n",
                kms(first),
                kms(second)
            ),
            "resources[1].providers[0]",
        );
        for (document, place) in [in_one, in_two] {
            let options = Options { reload };
            if refused {
                let message = refusal_with(&document, options);
                let expected = format!(
                    "{place}.kms.name: Invalid value: \"foo\": duplicate KMS provider name foo, names must be unique"
                );
                assert!(
                    message.ends_with(&expected) && message.lines().count() == 1,
                    "{message}"
                );
            } else {
                assert!(
                    super::parse(document.as_bytes(), options).is_ok(),
                    "{first} {second} {reload}"
                );
            }
        }
    }
}

#[test]
fn names_that_are_missing_are_duplicates_too() {
    let messages = refused("[kms: {apiVersion: v2, endpoint: unix:a}, kms: {apiVersion: v2, endpoint: unix:b}]");
    assert_eq!(
        messages,
        [
            "7: resources[0].providers[0].kms.name: Required value: name is a mandatory field for a provider",
            "48: resources[0].providers[1].kms.name: Required value: name is a mandatory field for a provider",
            "48: resources[0].providers[1].kms.name: Invalid value: \"\": duplicate KMS provider name , names must be \
             unique",
        ]
    );
}
