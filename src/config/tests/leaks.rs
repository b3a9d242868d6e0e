//! No part of a secret is in any error, however the document is broken.

use proptest::{prelude::*, sample::Index};

use super::{super::*, HEAD, SECRET_16, SECRET_32, providers};

/// Secrets without anything in common with each other or with the rest of a document.
const SECRETS: [&str; 3] = [
    SECRET_32,
    "q7WmZ0tLx9RkVbN3yHs8Dg==",
    "T2fEuJc5hGpKdYoX1vQnMzAl6wSiB4rI",
];

/// Whether `text` has any eight characters of a secret in a row.
fn leaks(text: &str) -> bool {
    SECRETS
        .iter()
        .any(|secret| (0..=secret.len() - 8).any(|start| text.contains(&secret[start..start + 8])))
}

fn block() -> String {
    format!(
        "{HEAD}resources:
- resources: [secrets, '*.apps']
  providers:
  - aescbc:
      keys:
      - name: one
        secret: {}
      - {{name: two, secret: \"{}\"}}
  - kms: {{name: k, endpoint: unix:///s, timeout: 3s}}
- resources:
  - pods
  providers:
  - secretbox:
      keys:
      - secret: {}
        name: three
  - aesgcm: {{keys: [{{name: a, secret: {}}}, {{secret: '{}', name: b}}]}}
  - identity: {{}}
",
        SECRETS[1], SECRETS[2], SECRETS[0], SECRETS[1], SECRETS[2]
    )
}

fn json() -> String {
    format!(
        "{{\n  \"kind\": \"EncryptionConfiguration\",\n  \"apiVersion\": \"apiserver.config.k8s.io/v1\",\n  \"resources\": [\n    \
         {{\"resources\": [\"secrets\"],\n     \"providers\": [\n      {{\"aescbc\": {{\"keys\": [{{\"name\": \"one\", \
         \"secret\": \"{}\"}},\n        {{\"name\": \"two\", \"secret\": \"{}\"}}]}}}},\n      {{\"identity\": {{}}}}]}}]}}\n",
        SECRETS[1], SECRETS[2]
    )
}

#[test]
fn both_documents_are_sound_before_they_are_broken() {
    super::accepted(&block());
    super::accepted(&json());
    assert!(leaks(SECRET_32) && !leaks(SECRET_16));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let secret = SECRETS[2];
    for keys in [
        format!("[{{name: a, secret: [{secret}]}}]"),
        format!("[{{name: a, secret: {{{secret}: b}}}}]"),
        format!("[{{name: a, secret: {secret}, secret: {secret}}}]"),
        format!("[{{name: a, secret: {secret}x}}]"),
        format!("[{{name: a, secret: '{secret}' x}}]"),
        format!("[{{name: a, secret: '{secret}]}}"),
        format!("[{{name: a, secret: \"{secret}\\q\"}}]"),
        format!("[{{name: a, secret: !foo {secret}}}]"),
        format!("[{{name: a, secret: *{secret}}}]"),
        format!("[{{name: a, secret: &{secret} [x]}}]"),
        format!("[{{name: a, secret: !{secret} x}}]"),
        format!("[{{name: a, secret, {secret}}}]"),
        format!("[{{name: a, {secret}}}]"),
        format!("[{{name: a, {}: x}}]", &secret[..20]),
        format!("[{{name: {secret}, secret: x}}]"),
        format!("[{{name: [{secret}], secret: x}}]"),
        format!("[{secret}]"),
        secret.to_owned(),
        format!("{{{secret}: x}}"),
        format!("{{a: {secret}}}"),
        format!("[{{a: {secret}}}]"),
        format!("[{{name: a, secret: {secret}: x}}]"),
    ] {
        let error = parse(
            providers(&format!("[aescbc: {{keys: {keys}}}]")).as_bytes(),
            Options::default(),
        )
        .expect_err("is refused");
        assert!(
            !leaks(&error.to_string()) && !leaks(&format!("{error:?}")),
            "{keys}: {error}"
        );
    }
    for list in [
        format!("[aescbc: {secret}]"),
        format!("[aescbc: {{{secret}: x}}]"),
        format!("[aescbc: {{{secret}}}]"),
        format!("[{secret}]"),
        format!("[{{{secret}: x}}]"),
    ] {
        let error = parse(providers(&list).as_bytes(), Options::default()).expect_err("is refused");
        assert!(!leaks(&error.to_string()), "{list}: {error}");
    }
}

#[test]
fn a_configuration_is_printed_without_its_secrets() {
    assert!(!leaks(&format!("{:?}", super::accepted(&block()))));
}

/// One way of breaking a document.
#[derive(Clone, Debug)]
enum Damage {
    Insert(Index, char),
    Replace(Index, char),
    Remove(Index, Index),
    Truncate(Index),
    RepeatLine(Index, Index),
    RemoveLine(Index),
    Indent(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling = prop_oneof![
        proptest::sample::select(
            "{}[]:,#&*!|>'\"%@`-?\n\t \\<~0aA=.é\u{0}\u{85}\u{feff}"
                .chars()
                .collect::<Vec<_>>()
        ),
        any::<char>(),
    ];
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), telling.clone()).prop_map(|(place, character)| Damage::Insert(place, character)),
        4 => (index(), telling).prop_map(|(place, character)| Damage::Replace(place, character)),
        2 => (index(), index()).prop_map(|(from, to)| Damage::Remove(from, to)),
        1 => index().prop_map(Damage::Truncate),
        1 => (index(), index()).prop_map(|(from, to)| Damage::RepeatLine(from, to)),
        1 => index().prop_map(Damage::RemoveLine),
        2 => (index(), 0..12usize).prop_map(|(line, spaces)| Damage::Indent(line, spaces)),
    ]
}

impl Damage {
    fn apply(&self, document: &str) -> String {
        let mut characters: Vec<char> = document.chars().collect();
        let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
        if characters.is_empty() || lines.is_empty() {
            return document.to_owned();
        }
        match self {
            Self::Insert(place, character) => characters.insert(place.index(characters.len()), *character),
            Self::Replace(place, character) => {
                let place = place.index(characters.len());
                characters[place] = *character;
            }
            Self::Remove(from, to) => {
                let from = from.index(characters.len());
                let to = (from + 1 + to.index(12)).min(characters.len());
                characters.drain(from..to);
            }
            Self::Truncate(at) => characters.truncate(at.index(characters.len())),
            Self::RepeatLine(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
                return lines.join("\n");
            }
            Self::RemoveLine(at) => {
                lines.remove(at.index(lines.len()));
                return lines.join("\n");
            }
            Self::Indent(at, spaces) => {
                let at = at.index(lines.len());
                lines[at] = format!("{}{}", " ".repeat(*spaces), lines[at].trim_start());
                return lines.join("\n");
            }
        }
        characters.into_iter().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_damage_to_a_document_shows_a_secret(json_instead: bool, damages in proptest::collection::vec(damage(), 1..4)) {
        let mut document = if json_instead { json() } else { block() };
        for damage in damages {
            document = damage.apply(&document);
        }
        if let Err(error) = parse(document.as_bytes(), Options { reload: true }) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!leaks(&error.to_string()), "{error}\n{document}");
            let debug = format!("{error:?}");
            prop_assert!(!leaks(&debug));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, Options::default());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-{}\\[\\]:,#&*!|>'\"%@a-c0-9 \n]{0,120}") {
        let _ = parse(text.as_bytes(), Options::default());
        let _ = parse(format!("{HEAD}resources:\n{text}").as_bytes(), Options::default());
    }
}
