//! Target: an `EncryptionConfiguration`. Whatever is accepted is sound, and no error shows any part of a secret.

use std::fmt::Write;

use etcd_encryption_proxy::{
    config::{EncryptionConfiguration, Error, Key, KmsApiVersion, Options, Provider, parse},
    keyring::{self, Keyring},
    keyspace::{EtcdPrefix, KeySpace},
    kms::Plugins,
    types::Fingerprint,
};

use super::source::Source;

/// Without anything in common with each other or with the rest of a document.
const SECRETS: [&str; 3] = [
    "A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=",
    "q7WmZ0tLx9RkVbN3yHs8Dg==",
    "T2fEuJc5hGpKdYoX1vQnMzAl6wSiB4rI",
];

/// As many characters of a secret in a row are a leak.
const LEAK: usize = 8;

/// Ways to break a document, at most this many at once. More of them could make of a secret what is no secret, a name.
const DAMAGES: usize = 4;

const YAML: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, '*.apps']
  providers:
  - aescbc:
      keys:
      - name: one
        secret: SECRET1
      - {name: two, secret: \"SECRET2\"}
  - kms: {name: k, endpoint: unix:///s, timeout: 3s}
- resources: &more
  - pods
  - widgets.example.com
  providers:
  - secretbox:
      keys:
      - secret: |
          SECRET0
        name: three
  - aesgcm: {keys: [{name: a, secret: SECRET1}, {secret: 'SECRET2', name: b}]}
  - kms: {apiVersion: v2, name: l, endpoint: 'unix:///t'}
  - identity: {}
- resources: ['*.*']
  providers: [{identity: {}}]
";

const JSON: &str = r#"{
  "kind": "EncryptionConfiguration",
  "apiVersion": "apiserver.config.k8s.io/v1",
  "resources": [
    {"resources": ["secrets"],
     "providers": [
      {"aescbc": {"keys": [{"name": "one", "secret": "SECRET1"}, {"name": "two", "secret": "SECRET2"}]}},
      {"secretbox": {"keys": [{"secret": "SECRET0", "name": "three"}]}},
      {"kms": {"name": "k", "endpoint": "unix:///s", "cachesize": 5, "timeout": "1m30s"}},
      {"identity": {}}]}]}
"#;

/// Any bytes; a sound document that is broken; a secret's base64; a duration.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(4) {
        0 => drop(read(source.rest())),
        1 => broken(source),
        2 => base64(source),
        _ => duration(source),
    }
}

fn read(document: &[u8]) -> Result<EncryptionConfiguration, Error> {
    let options = Options {
        reload: document.len() % 2 == 1,
    };
    let parsed = parse(document, options);
    match &parsed {
        Ok(config) => sound(config, document),
        Err(error) => {
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                let place = problem.location.as_ref();
                assert!(place.is_none_or(|place| place.line > 0 && place.column > 0));
                assert!(!problem.message.is_empty());
            }
        }
    }
    parsed
}

/// What `config` promises of an accepted document.
fn sound(config: &EncryptionConfiguration, document: &[u8]) {
    assert_eq!(config.fingerprint, Fingerprint::of(document));
    assert!(!config.entries.is_empty());
    let mut has_kms = false;
    for entry in &config.entries {
        assert!(!entry.resources.is_empty() && !entry.providers.is_empty());
        for provider in &entry.providers {
            match provider {
                Provider::Identity => {}
                Provider::AesCbc { keys } | Provider::AesGcm { keys } => keyed(keys, &[16, 24, 32]),
                Provider::Secretbox { keys } => keyed(keys, &[32]),
                Provider::Kms(kms) => {
                    has_kms = true;
                    assert!(!kms.name.as_str().is_empty() && !kms.timeout.is_zero());
                    assert_eq!(kms.cache_size.is_some(), kms.api_version == KmsApiVersion::V1);
                    assert_ne!(kms.cache_size, Some(0));
                    assert!(kms.api_version == KmsApiVersion::V1 || !kms.name.as_str().contains(':'));
                }
            }
        }
    }
    let prefix = EtcdPrefix::parse("/registry").expect("it is a prefix");
    let keyspace = KeySpace::new(vec![prefix]).expect("there is a prefix");
    match Keyring::compile(config, &keyspace, &Plugins::none()) {
        Ok(keyring) => assert!(!has_kms && !keyring.rules().is_empty()),
        Err(keyring::Error::Kms { .. }) => assert!(has_kms),
        Err(error) => panic!("a valid configuration makes no keyring: {error}"),
    }
}

fn keyed(keys: &[Key], sizes: &[usize]) {
    assert!(!keys.is_empty());
    for key in keys {
        assert!(!key.name.as_str().is_empty() && sizes.contains(&key.secret.len()));
    }
}

fn leaks(shown: &str) -> bool {
    SECRETS
        .iter()
        .any(|secret| (0..=secret.len() - LEAK).any(|start| shown.contains(&secret[start..start + LEAK])))
}

fn broken(mut source: Source<'_>) {
    let mut document = if source.flag() { YAML } else { JSON }.to_owned();
    for (index, secret) in SECRETS.iter().enumerate() {
        document = document.replace(&format!("SECRET{index}"), secret);
    }
    let mut characters: Vec<char> = document.chars().collect();
    for _ in 0..DAMAGES {
        if source.is_empty() {
            break;
        }
        damage(&mut characters, &mut source);
    }
    let document: String = characters.into_iter().collect();
    match read(document.as_bytes()) {
        Ok(config) => assert!(!leaks(&format!("{config:?}"))),
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!leaks(&shown), "{shown}\n{document}");
        }
    }
}

fn damage(document: &mut Vec<char>, source: &mut Source<'_>) {
    let place = usize::from(u16::from_le_bytes([source.byte(), source.byte()])) % (document.len() + 1);
    let end = document.len();
    match source.below(5) {
        0 => document.insert(place, character(source)),
        1 if place < end => document[place] = character(source),
        2 => drop(document.drain(place..(place + 1 + source.below(12)).min(end))),
        3 => document.truncate(place),
        _ => {
            let spaces = source.below(12);
            document.splice(place..place, std::iter::repeat_n(' ', spaces));
        }
    }
}

fn character(source: &mut Source<'_>) -> char {
    const TELLING: &[u8] = b"{}[]:,#&*!|>'\"%@`-?\n\t \\<~0aA=.\r\0";
    match source.below(8) {
        0 => char::from_u32(u32::from_le_bytes([
            source.byte(),
            source.byte(),
            source.byte() & 0x1f,
            0,
        ]))
        .unwrap_or('é'),
        1 => source.byte().into(),
        _ => (*source.pick(TELLING)).into(),
    }
}

/// A JSON document around `provider`.
fn around(provider: &str) -> String {
    format!(
        r#"{{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{{"resources":["secrets"],"providers":[{provider}]}}]}}"#
    )
}

/// The choices that are left as text of the given characters, escaped as JSON wants it.
fn text(source: Source<'_>, characters: &[char]) -> (String, String) {
    let text: String = source
        .rest()
        .iter()
        .map(|&byte| characters[usize::from(byte) % characters.len()])
        .collect();
    let mut escaped = String::new();
    for unit in text.encode_utf16() {
        write!(escaped, "\\u{unit:04x}").expect("a string takes any text");
    }
    (text, escaped)
}

/// Accepted just if a plain reading of Go's rules gives a key of the right size, and then with those bytes.
fn base64(mut source: Source<'_>) {
    let alphabet: Vec<char> = ALPHABET
        .iter()
        .map(|&byte| byte.into())
        .chain("=====\n\r -_é".chars())
        .collect();
    let padding = ["", "=", "==", "\n"][source.below(4)];
    let (text, escaped) = text(source, &alphabet);
    let escaped_padding = padding.replace('\n', "\\n");
    let provider = format!(r#"{{"aescbc":{{"keys":[{{"name":"k","secret":"{escaped}{escaped_padding}"}}]}}}}"#);
    let expected = decoded(&format!("{text}{padding}")).filter(|bytes| matches!(bytes.len(), 16 | 24 | 32));
    let found = read(around(&provider).as_bytes())
        .ok()
        .map(|config| match &config.entries[0].providers[0] {
            Provider::AesCbc { keys } => keys[0].secret.expose().to_vec(),
            other => panic!("{other:?}"),
        });
    assert_eq!(found, expected);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn decoded(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let padding = packed.iter().rev().take_while(|&&byte| byte == b'=').count();
    if !packed.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in &packed[..packed.len() - padding] {
        let digit = ALPHABET.iter().position(|one| one == byte)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// What is accepted is, within rounding, what the text says.
fn duration(source: Source<'_>) {
    let characters: Vec<char> = "0123456789019..+-hmsnuµμ".chars().collect();
    let (text, escaped) = text(source, &characters);
    let provider = format!(r#"{{"kms":{{"name":"k","endpoint":"unix:///s","timeout":"{escaped}"}}}}"#);
    let Ok(config) = read(around(&provider).as_bytes()) else {
        return;
    };
    let Provider::Kms(kms) = &config.entries[0].providers[0] else {
        panic!("it is a kms provider");
    };
    if text.is_empty() {
        return;
    }
    let said = seconds(&text).unwrap_or_else(|| panic!("{text:?} was read as {:?}", kms.timeout));
    let found = kms.timeout.as_secs_f64();
    assert!(
        (said - found).abs() <= 1e-8 + said * 1e-9,
        "{text:?} was read as {found} s"
    );
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, behind) = rest.split_at(unit);
        let next = behind
            .find(|one: char| one.is_ascii_digit() || one == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(next);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = behind;
    }
    Some(total)
}

/// Both documents, whole and broken; base64 and durations as they mostly are.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        [
            &[0],
            YAML.replace("SECRET1", SECRETS[1])
                .replace("SECRET2", SECRETS[2])
                .as_bytes(),
        ]
        .concat(),
        [
            &[0],
            JSON.replace("SECRET1", SECRETS[1])
                .replace("SECRET2", SECRETS[2])
                .as_bytes(),
        ]
        .concat(),
        [&[0], YAML.replace("SECRET", "").as_bytes()].concat(),
        [&[0][..], b"- &a [*a, !!str x, ? {<<: *a}]"].concat(),
        vec![1, 0],
        vec![1, 1],
    ];
    for salt in 0..40u8 {
        let mut seed = vec![1, salt];
        seed.extend((0..24u8).map(|at| at.wrapping_mul(salt * 2 + 29).wrapping_add(salt.wrapping_mul(13))));
        seeds.push(seed);
    }
    for size in [0, 21, 22, 31, 32, 42, 43] {
        for padding in 0..4u8 {
            seeds.push([vec![2, padding], (0..size).collect()].concat());
        }
    }
    // 3s, 1h30m, 1.5s, 0.1us, -1s, and a number that is too large.
    for text in [
        &[3, 18][..],
        &[1, 16, 3, 0, 17],
        &[1, 13, 5, 18],
        &[0, 13, 1, 20, 18],
        &[15, 1, 18],
        &[9; 20],
    ] {
        seeds.push([&[3], text].concat());
    }
    seeds
}
