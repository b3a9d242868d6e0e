//! What is refused before any rule is looked at: bytes, syntax, types, names of fields.

use super::{super::*, HEAD, providers, refusal};

#[track_caller]
fn refused_bytes(bytes: &[u8]) -> String {
    parse(bytes, Options::default()).expect_err("is refused").to_string()
}

#[test]
fn bytes_that_are_no_document_are_refused() {
    assert_eq!(refused_bytes(b""), "the encryption provider configuration is empty");
    assert_eq!(refused_bytes(b"kind: \xff"), "1:7: not valid UTF-8");
    assert_eq!(
        refused_bytes(b"a: b\nc: \0\n"),
        "2:4: not valid YAML: control characters are not allowed"
    );
    let large = vec![b'\n'; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(
        refused_bytes(&large),
        "the encryption provider configuration has 1048577 bytes, more than the 1048576 allowed"
    );
    let missing = "1:1: Object 'Kind' is missing\n1:1: Object 'apiVersion' is missing";
    for nothing in [&b"\n"[..], b"# nothing\n", b"---\n---\nkind: x\n", b"null", b"{}", b"~"] {
        let text = refused_bytes(nothing);
        let messages: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(_, text)| text)
            .collect();
        assert_eq!(
            messages,
            ["Object 'Kind' is missing", "Object 'apiVersion' is missing"],
            "{text}"
        );
    }
    assert_eq!(refused_bytes(b"\n"), missing);
}

#[test]
fn other_documents_are_refused_by_their_type() {
    let expected = "expected kind \"EncryptionConfiguration\" of version \"apiserver.config.k8s.io/v1\"";
    for (head, message) in [
        (
            "kind: EncryptionConfiguration",
            "1:1: Object 'apiVersion' is missing".to_owned(),
        ),
        ("apiVersion: v1", "1:1: Object 'Kind' is missing".to_owned()),
        (
            "kind: EncryptionConfig\napiVersion: apiserver.config.k8s.io/v1",
            format!(
                "1:7: no kind \"EncryptionConfig\" is registered for version \"apiserver.config.k8s.io/v1\", {expected}"
            ),
        ),
        (
            "kind: EncryptionConfiguration\napiVersion: v1",
            format!("1:7: no kind \"EncryptionConfiguration\" is registered for version \"v1\", {expected}"),
        ),
        (
            "kind: Secret\napiVersion: v1\ndata: {a: b}",
            format!("1:7: no kind \"Secret\" is registered for version \"v1\", {expected}"),
        ),
        (
            "kind: 1\napiVersion: [v1]",
            "1:7: kind: expected a string, got a number\n2:13: apiVersion: expected a string, got a list".to_owned(),
        ),
        ("- kind", "1:1: expected an object, got a list".to_owned()),
        ("kind", "1:1: expected an object, got a string".to_owned()),
    ] {
        assert_eq!(refusal(head), message, "{head}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_refused_by_name_and_place() {
    for (rest, messages) in [
        (
            "Resources: []\nmetadata: {}\n",
            "3:1: unknown field \"Resources\"\n4:1: unknown field \"metadata\"",
        ),
        ("resources: []\nresources: []\n", "4:1: duplicate field \"resources\""),
        (
            "resources:\n- provider: {}\n  resources: [a]\n  \"resources\": [b]\n",
            "4:3: unknown field \"resources[0].provider\"\n6:3: duplicate field \"resources[0].resources\"",
        ),
        (
            "resources:\n- providers:\n  - identity: {a: b}\n  - aescbc: {name: x}\n  - kms: {cacheSize: 1, cachesize: 1}\n",
            "5:16: unknown field \"resources[0].providers[0].identity.a\"\n\
             6:14: unknown field \"resources[0].providers[1].aescbc.name\"\n\
             7:11: unknown field \"resources[0].providers[2].kms.cacheSize\"",
        ),
        (
            "resources:\n- providers:\n  - x: 1\n    x: 2\n",
            "5:5: unknown field \"resources[0].providers[0].x\"\n6:5: duplicate field \"resources[0].providers[0].x\"",
        ),
        (
            "1: a\nyes: b\nnull: c\n[x]: d\n? {y: z}\n: e\n",
            "3:1: expected names of fields to be strings, got a number\n\
             4:1: expected names of fields to be strings, got a boolean\n\
             5:1: expected names of fields to be strings, got null\n\
             6:1: expected names of fields to be strings, got a list\n\
             7:3: expected names of fields to be strings, got an object",
        ),
    ] {
        assert_eq!(refusal(&format!("{HEAD}{rest}")), messages, "{rest}");
    }
}

#[test]
fn values_of_another_type_are_refused_without_being_shown() {
    let place = "resources[0].providers[0]";
    for (list, expected, got) in [
        ("[identity: true]", ".identity: expected an object", "a boolean"),
        ("[identity: []]", ".identity: expected an object", "a list"),
        ("[identity: '']", ".identity: expected an object", "a string"),
        ("[aescbc: []]", ".aescbc: expected an object", "a list"),
        ("[aescbc: {keys: {a: b}}]", ".aescbc.keys: expected a list", "an object"),
        (
            "[aescbc: {keys: [abc]}]",
            ".aescbc.keys[0]: expected an object",
            "a string",
        ),
        (
            "[aescbc: {keys: [{name: 123}]}]",
            ".aescbc.keys[0].name: expected a string",
            "a number",
        ),
        (
            "[aescbc: {keys: [{name: 1.5}]}]",
            ".aescbc.keys[0].name: expected a string",
            "a number",
        ),
        (
            "[aescbc: {keys: [{name: on}]}]",
            ".aescbc.keys[0].name: expected a string",
            "a boolean",
        ),
        (
            "[aescbc: {keys: [{name: y}]}]",
            ".aescbc.keys[0].name: expected a string",
            "a boolean",
        ),
        (
            "[aescbc: {keys: [{secret: [abc]}]}]",
            ".aescbc.keys[0].secret: expected a string",
            "a list",
        ),
        ("[kms: {name: {}}]", ".kms.name: expected a string", "an object"),
        (
            "[kms: {cachesize: '1'}]",
            ".kms.cachesize: expected an integer of 32 bits",
            "a string",
        ),
        (
            "[kms: {cachesize: 1.5}]",
            ".kms.cachesize: expected an integer of 32 bits",
            "a number",
        ),
        (
            "[kms: {cachesize: 2147483648}]",
            ".kms.cachesize: expected an integer of 32 bits",
            "a number",
        ),
        ("[kms: {timeout: 3}]", ".kms.timeout: expected a string", "a number"),
        ("[kms: {timeout: [3s]}]", ".kms.timeout: expected a string", "a list"),
        ("[identity]", ": expected an object", "a string"),
    ] {
        let message = refusal(&providers(list));
        assert!(
            message.ends_with(&format!("{place}{expected}, got {got}")),
            "{list}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(
        refusal(&format!("{HEAD}resources: {{}}\n")),
        "3:12: resources: expected a list, got an object"
    );
    assert_eq!(
        refusal(&format!("{HEAD}resources: [{{resources: [no, 1, null]}}]\n")),
        "3:26: resources[0].resources[0]: expected a string, got a boolean\n\
         3:30: resources[0].resources[1]: expected a string, got a number"
    );
}

#[test]
fn timeouts_are_durations_of_go() {
    for (timeout, reason) in [
        ("''", "time: invalid duration \"\""),
        ("'3'", "time: missing unit in duration \"3\""),
        ("3 seconds", "time: unknown unit \" seconds\" in duration \"3 seconds\""),
        ("1d", "time: unknown unit \"d\" in duration \"1d\""),
    ] {
        assert_eq!(
            refusal(&providers(&format!("[kms: {{timeout: {timeout}}}]"))),
            format!("3:63: resources[0].providers[0].kms.timeout: {reason}")
        );
    }
}

#[test]
fn json_is_read_as_json_alone() {
    let json = |timeout: &str, cache_size: &str| {
        format!(
            "{{\"kind\":\"EncryptionConfiguration\",\"apiVersion\":\"apiserver.config.k8s.io/v1\",\"resources\":[\
             {{\"resources\":[\"secrets\"],\"providers\":[{{\"kms\":{{\"name\":\"k\",\"endpoint\":\"unix:///s\",\
             \"timeout\":{timeout},\"cachesize\":{cache_size}}}}}]}}]}}"
        )
    };
    super::accepted(&json("\"3s\"", "5"));
    let too_much = refusal(&json("\"3s\"", "5.0"));
    assert!(
        too_much.ends_with("kms.cachesize: expected an integer of 32 bits, got a number"),
        "{too_much}"
    );
    for not_json in [
        "{kind: EncryptionConfiguration}",
        "{\"kind\": 'x'}",
        "{\"kind\": \"x\",}",
        "{\"kind\": \"x\"} # comment",
        "{\"kind\": \"x\"}\n---\n{}",
        "{\"kind\": &a \"x\"}",
        "{\"kind\": \"\u{1}\"}",
        "{",
    ] {
        let message = refusal(not_json);
        assert!(message.contains(": not valid JSON: "), "{not_json}: {message}");
    }
    assert_eq!(refusal("\n {\"kind\": }"), "2:11: not valid JSON: expected value");
}

#[test]
fn yaml_that_is_none_is_refused_with_its_place() {
    for (rest, place) in [
        ("resources: [\n", "3:12"),
        ("resources: a: b\n", "3:13"),
        ("\tresources: []\n", "2:7"),
        ("resources: *unknown\n", "3:12"),
        ("resources: &a [*a]\n", "3:16"),
        ("resources: 'x\n", "4:1"),
        ("resources: @x\n", "3:12"),
    ] {
        let message = refusal(&format!("{HEAD}{rest}"));
        assert!(
            message.starts_with(&format!("{place}: ")) && message.lines().count() == 1,
            "{rest}: {message}"
        );
    }
    for (rest, message) in [
        ("resources: !!set {}\n", "3:12: only the tag !!map can stand here"),
        ("resources: !x []\n", "3:12: only the tag !!seq can stand here"),
        ("resources: !!binary YQ==\n", "3:12: only the tag !!str can stand here"),
    ] {
        let refused = refusal(&format!("{HEAD}{rest}"));
        assert_eq!(
            refused.split_once(": ").map(|(_, text)| text),
            message.split_once(": ").map(|(_, text)| text)
        );
    }
}

#[test]
fn merge_keys_neither_override_nor_hide() {
    for (rest, messages) in [
        (
            "resources:\n- <<: {resources: [a]}\n  resources: [b]\n",
            "5:3: duplicate field \"resources[0].resources\"",
        ),
        (
            "resources:\n- <<: 5\n",
            "4:7: resources[0]: expected objects to merge, got a number",
        ),
        (
            "resources:\n- <<: [5]\n",
            "4:8: resources[0]: expected an object, got a number",
        ),
        ("resources:\n- <<: {x: y}\n", "4:8: unknown field \"resources[0].x\""),
        (
            "resources:\n- \"<<\": {x: y}\n",
            "4:3: resources[0]: unknown field, expected only resources, providers",
        ),
    ] {
        assert_eq!(refusal(&format!("{HEAD}{rest}")), messages, "{rest}");
    }
}
