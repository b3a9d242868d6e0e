//! What a rotation does to a configuration: whatever the document was, the edited one is valid, says what was meant, keeps
//! all else, and reads what the old one read.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{HEAD, SECRET_32, accepted};
use crate::types::{Fingerprint, GroupResource, KeyName, SecretBytes};

fn rendered(draft: &Draft) -> EncryptionConfiguration {
    let text = draft.render("a\nb: é");
    assert!(text.is_ascii());
    assert_eq!(text.capacity(), text.len(), "one allocation, of the right size");
    let read = |text: &str| match parse(text.as_bytes(), Options { reload: true }) {
        Ok(config) => config,
        Err(error) => panic!("{error}\n{text}"),
    };
    let config = read(&text);
    let json = draft.render_as(Syntax::Json, "a\nb: é");
    assert!(json.is_ascii());
    assert_eq!(json.capacity(), json.len(), "one allocation, of the right size");
    assert_eq!(
        (Syntax::of(json.as_bytes()), Syntax::of(text.as_bytes())),
        (Syntax::Json, Syntax::Yaml)
    );
    assert_eq!(read(&json).entries, config.entries, "the same in both syntaxes");
    config
}

/// What k3s reads it as, and that nothing but white space tells two that say the same apart.
#[test]
fn json_is_what_k3s_reads_and_each_comment_makes_another_fingerprint() {
    let draft = Draft::of(&accepted(&format!(
        "{HEAD}resources:
- resources: [secrets]
  providers: [{{aescbc: {{keys: [{{name: 'aescbckey-2026-01-01T00:00:00Z', secret: {SECRET_32}}}]}}}}, {{identity: {{}}}}]
"
    )));
    let [one, other] = ["one", "other"].map(|comment| draft.render_as(Syntax::Json, comment));
    let expected = format!(
        "{{\"kind\":\"EncryptionConfiguration\",\"apiVersion\":\"apiserver.config.k8s.io/v1\",\"resources\":[{{\"resources\":\
         [\"secrets\"],\"providers\":[{{\"aescbc\":{{\"keys\":[{{\"name\":\"aescbckey-2026-01-01T00:00:00Z\",\"secret\":\
         \"{SECRET_32}\"}}]}}}},{{\"identity\":{{}}}}]}}]}}"
    );
    assert_eq!(
        (one.trim_ascii(), other.trim_ascii()),
        (expected.as_str(), expected.as_str())
    );
    assert_ne!(Fingerprint::of(one.as_bytes()), Fingerprint::of(other.as_bytes()));
    assert_eq!(*one, *draft.render_as(Syntax::Json, "one"));
}

fn key(name: &str, byte: u8) -> Key {
    Key {
        name: KeyName::new(name),
        secret: SecretBytes::new(vec![byte; 32]),
    }
}

fn id(provider: KeyType, name: &str) -> KeyId {
    KeyId {
        provider: provider.into(),
        name: KeyName::new(name),
    }
}

/// Everything that could open a value, by entry: a key with its bytes, a plugin, or identity.
fn readers(config: &EncryptionConfiguration) -> Vec<(usize, String)> {
    let mut readers = Vec::new();
    for (index, entry) in config.entries.iter().enumerate() {
        for provider in &entry.providers {
            match provider.keys() {
                Some((of, keys)) => readers.extend(keys.iter().map(|key| {
                    let bytes = hex::encode(key.secret.expose());
                    (index, format!("{of} {} {bytes}", key.name))
                })),
                None => readers.push((index, format!("{provider:?}"))),
            }
        }
    }
    readers.sort();
    readers
}

#[test]
fn a_key_goes_through_its_whole_life() {
    let config = accepted(&format!(
        "{HEAD}resources:
- resources: [secrets]
  providers: [{{aescbc: {{keys: [{{name: old, secret: {SECRET_32}}}, {{name: older, secret: {SECRET_32}}}]}}}}, {{identity: {{}}}}]
- resources: [configmaps]
  providers: [{{secretbox: {{keys: [{{name: old, secret: {SECRET_32}}}]}}}}]
- resources: [events, secrets]
  providers: [{{identity: {{}}}}, {{aescbc: {{keys: [{{name: old, secret: {SECRET_32}}}]}}}}]
"
    ));
    let (old, new) = (id(KeyType::AesCbc, "old"), id(KeyType::AesCbc, "new:1"));
    assert_eq!(
        config.writers(),
        [
            Writer::Key(old.clone()),
            Writer::Key(id(KeyType::Secretbox, "old")),
            Writer::Identity
        ]
    );
    let names = |config: &EncryptionConfiguration| -> Vec<Vec<String>> {
        let of = |entry: &Entry| {
            let ids = entry.providers.iter().flat_map(Provider::key_ids);
            ids.map(|id| id.name.as_str().to_owned()).collect()
        };
        config.entries.iter().map(of).collect()
    };
    let mut draft = Draft::of(&config);
    draft.append(&old, KeyType::AesCbc, &key("new:1", 7));
    let prepared = rendered(&draft);
    assert_eq!(names(&prepared), [&["old", "older", "new:1"][..], &["old"], &["old"]]);
    assert!(prepared.has_key(&new) && !prepared.leads(&new, &old));
    assert!(prepared.is_beside(&old, std::slice::from_ref(&new)));

    draft.promote(&new, &old);
    let rotated = rendered(&draft);
    assert_eq!(names(&rotated), [&["new:1", "old", "older"][..], &["old"], &["old"]]);
    assert!(rotated.leads(&new, &old) && rotated.writers().contains(&Writer::Key(new.clone())));

    let mut back = draft.clone();
    back.promote(&old, &new);
    back.remove(std::slice::from_ref(&new), std::slice::from_ref(&old));
    assert_eq!(rendered(&back).entries, config.entries);

    draft.remove(&[old.clone(), new.clone()], std::slice::from_ref(&new));
    let dropped = rendered(&draft);
    // The same name in an entry where nothing was rotated is another matter.
    assert_eq!(names(&dropped), [&["new:1", "older"][..], &["old"], &["old"]]);
    assert!(!dropped.is_beside(&old, &[new]));
}

#[test]
fn a_key_of_another_type_brings_a_provider_of_its_own() {
    let config = accepted(&format!(
        "{HEAD}resources:
- resources: [secrets]
  providers: [{{aescbc: {{keys: [{{name: old, secret: {SECRET_32}}}]}}}}, {{secretbox: {{keys: [{{name: s, secret: {SECRET_32}}}]}}}}, {{identity: {{}}}}]
"
    ));
    let shape = |draft: &Draft| -> Vec<String> {
        let entry = rendered(draft).entries.remove(0);
        let providers = entry.providers.iter();
        providers
            .map(|provider| match provider.keys() {
                Some((of, keys)) => keys
                    .iter()
                    .fold(of.to_string(), |text, key| format!("{text} {}", key.name)),
                None => "identity".to_owned(),
            })
            .collect()
    };
    let (old, new) = (id(KeyType::AesCbc, "old"), id(KeyType::Secretbox, "new"));
    let mut draft = Draft::of(&config);
    draft.append(&old, KeyType::Secretbox, &key("new", 1));
    assert_eq!(
        shape(&draft),
        ["aescbc old", "secretbox new", "secretbox s", "identity"]
    );
    let mut back = draft.clone();
    back.remove(std::slice::from_ref(&new), std::slice::from_ref(&old));
    assert_eq!(rendered(&back).entries, config.entries);
    draft.promote(&new, &old);
    assert_eq!(
        shape(&draft),
        ["secretbox new", "aescbc old", "secretbox s", "identity"]
    );
    draft.remove(&[old], &[new]);
    assert_eq!(shape(&draft), ["secretbox new", "secretbox s", "identity"]);
}

#[test]
fn encryption_is_taken_off_and_put_on_again() {
    let config = accepted(&format!(
        "{HEAD}resources:
- resources: [secrets]
  providers: [{{aescbc: {{keys: [{{name: a, secret: {SECRET_32}}}]}}}}, {{aesgcm: {{keys: [{{name: b, secret: {SECRET_32}}}]}}}}]
- resources: [pods]
  providers: [{{identity: {{}}}}]
"
    ));
    let mut draft = Draft::of(&config);
    draft.add_identity();
    assert_eq!(rendered(&draft).entries[0].providers[2], Provider::Identity);
    draft.identity_first();
    assert_eq!(rendered(&draft).writers(), [Writer::Identity]);
    draft.identity_last();
    let on = rendered(&draft);
    assert_eq!(on.writers()[0], Writer::Key(id(KeyType::AesCbc, "a")));
    assert_eq!(on.entries[1], config.entries[1], "nothing but identity is left alone");
    draft.add_provider(KeyType::Secretbox, &key("new", 1));
    assert_eq!(rendered(&draft).entries[1].providers.len(), 2);
    assert_eq!(rendered(&draft).entries[0], on.entries[0]);
}

#[test]
fn what_is_written_is_yaml_that_people_can_read() {
    let mut draft = Draft::of(&accepted(&format!(
        "{{\"apiVersion\": \"apiserver.config.k8s.io/v1\", \"kind\": \"EncryptionConfiguration\", \"resources\": [
           {{\"resources\": [\"secrets\", \"*.apps\", \"on\"], \"providers\": [
             {{\"aescbc\": {{\"keys\": [{{\"name\": \"a\\u0007\\\"\\ud83d\\ude00\", \"secret\": \"{SECRET_32}\"}}]}}}},
             {{\"kms\": {{\"name\": \"one:two\", \"endpoint\": \"unix:///s\", \"timeout\": \"1m30s\"}}}},
             {{\"identity\": {{}}}}]}}]}}"
    )));
    draft.append(
        &id(KeyType::AesCbc, "a\u{7}\"\u{1f600}"),
        KeyType::AesCbc,
        &key("aescbckey-2026-01-31T12:00:00Z", 0),
    );
    insta::assert_snapshot!(draft.render("Made by a test.").as_str(), @r#"
    # Made by a test.
    apiVersion: apiserver.config.k8s.io/v1
    kind: EncryptionConfiguration
    resources:
    - resources:
      - secrets
      - "*.apps"
      - "on"
      providers:
      - aescbc:
          keys:
          - name: "a\u0007\"\U0001f600"
            secret: "A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q="
          - name: "aescbckey-2026-01-31T12:00:00Z"
            secret: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
      - kms:
          apiVersion: v1
          name: "one:two"
          cachesize: 1000
          endpoint: "unix:///s"
          timeout: "1m30s"
      - identity: {}
    "#);
}

fn a_key() -> impl Strategy<Value = Key> {
    (prop_oneof!["[ab]", "[a-c]:[0-9]", ".{1,4}"], any::<u8>()).prop_map(|(name, byte)| key(&name, byte))
}

fn provider() -> impl Strategy<Value = Provider> {
    let keys = || prop::collection::vec(a_key(), 1..4);
    let kms = (any::<bool>(), any::<u32>(), 1..100_000_000_u64).prop_map(|(is_v1, name, micros)| {
        let (api_version, cache_size) = if is_v1 {
            (KmsApiVersion::V1, Some(7))
        } else {
            (KmsApiVersion::V2, None)
        };
        Provider::Kms(Kms {
            api_version,
            name: KeyName::new(format!("kms{name}")),
            cache_size,
            endpoint: "unix:///some where/ü.sock".to_owned(),
            timeout: Duration::from_micros(micros),
        })
    });
    prop_oneof![
        2 => Just(Provider::Identity),
        4 => keys().prop_map(|keys| Provider::AesCbc { keys }),
        2 => keys().prop_map(|keys| Provider::AesGcm { keys }),
        2 => keys().prop_map(|keys| Provider::Secretbox { keys }),
        1 => kms,
    ]
}

fn key_type() -> impl Strategy<Value = KeyType> {
    prop::sample::select(vec![KeyType::AesCbc, KeyType::AesGcm, KeyType::Secretbox])
}

fn draft() -> impl Strategy<Value = Draft> {
    let resources = prop::collection::btree_set(
        prop_oneof![
            Just("secrets"),
            Just("pods"),
            Just("true"),
            Just("configmaps"),
            Just("events")
        ],
        1..4,
    );
    let entry = (resources, prop::collection::vec(provider(), 1..4)).prop_map(|(resources, providers)| Entry {
        resources: resources
            .into_iter()
            .map(|name| ResourceSelector::Exact(GroupResource::new("", name)))
            .collect(),
        providers,
    });
    prop::collection::vec(entry, 1..4)
        .prop_map(|entries| Draft { entries })
        .prop_filter("plugins have names of their own", |draft| {
            let mut names = BTreeSet::new();
            let all = draft.entries.iter().flat_map(|entry| &entry.providers);
            all.filter_map(|provider| match provider {
                Provider::Kms(kms) => Some(kms.name.as_str()),
                _ => None,
            })
            .all(|name| names.insert(name))
        })
}

proptest! {
    #[test]
    fn a_document_says_what_was_rendered(draft in draft()) {
        prop_assert_eq!(rendered(&draft).entries, draft.entries);
    }

    #[test]
    fn nothing_but_a_removal_makes_anything_unreadable(draft in draft(), steps in prop::collection::vec((0..6, key_type()), 1..6)) {
        let mut draft = draft;
        for (step, of) in steps {
            let before = rendered(&draft);
            let ids = before.key_ids();
            match step {
                0 => for writer in before.writing_keys() {
                    draft.append(&writer, of, &key("new", 9));
                },
                1 => for (id, over) in ids.iter().zip(ids.iter().rev()).filter(|(id, over)| id != over) {
                    draft.promote(id, over);
                    prop_assert!(rendered(&draft).leads(id, over));
                },
                2 => draft.add_identity(),
                3 => draft.identity_first(),
                4 => draft.identity_last(),
                _ => draft.add_provider(of, &key("new", 9)),
            }
            let after = rendered(&draft);
            for ((before, after), entry) in before.entries.iter().zip(&after.entries).zip(0..) {
                prop_assert_eq!(&before.resources, &after.resources, "entry {}", entry);
            }
            let now = readers(&after);
            for reader in readers(&before) {
                // Identity twice in one entry reads no more than once.
                prop_assert!(now.contains(&reader), "{:?} after step {}", reader, step);
            }
        }
    }

    #[test]
    fn new_keys_take_over_and_there_is_a_way_back(draft in draft(), types in prop::collection::vec(key_type(), 3)) {
        let before = rendered(&draft);
        let pairs: Vec<(KeyId, KeyId)> = before
            .writing_keys()
            .into_iter()
            .zip(types)
            .enumerate()
            .map(|(index, (old, of))| (old, id(of, &format!("fresh {index}"))))
            .collect();
        let (old, new): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
        let follows = |writer: &Writer| match pairs.iter().find(|(old, _)| *writer == Writer::Key(old.clone())) {
            Some((_, new)) => Writer::Key(new.clone()),
            None => writer.clone(),
        };
        let mut draft = draft;
        for (old, new) in &pairs {
            draft.append(old, new.key_type().unwrap(), &key(new.name.as_str(), 9));
        }
        prop_assert_eq!(rendered(&draft).writers(), before.writers(), "they only read");
        for (old, new) in &pairs {
            draft.promote(new, old);
        }
        let rotated = rendered(&draft);
        prop_assert_eq!(rotated.writers(), before.writers().iter().map(follows).collect::<Vec<_>>());
        prop_assert!(pairs.iter().all(|(old, new)| rotated.leads(new, old) && !rotated.leads(old, new)));

        let mut back = draft.clone();
        for (old, new) in &pairs {
            back.promote(old, new);
        }
        prop_assert_eq!(rendered(&back).writers(), before.writers());
        back.remove(&new, &old);
        prop_assert_eq!(&rendered(&back).entries, &before.entries, "as it was");

        draft.remove(&old, &new);
        let after = rendered(&draft);
        prop_assert_eq!(after.writers(), rotated.writers());
        let now = readers(&after);
        for (index, reader) in readers(&rotated) {
            let named = reader.rsplit_once(' ').map(|(named, _)| named.to_owned());
            let is_old = old.iter().any(|id| named == Some(format!("{} {}", id.provider, id.name)));
            let is_rotated = rotated.entries[index].lists_any(&new);
            prop_assert_eq!(now.contains(&(index, reader)), !(is_old && is_rotated), "the old keys, and nothing else");
        }
    }

    #[test]
    fn a_removal_takes_what_was_named_and_never_the_last_key(draft in draft()) {
        let before = rendered(&draft);
        let (gone, beside) = before.key_ids().into_iter().fold((Vec::new(), Vec::new()), |(mut gone, mut beside), id| {
            if gone.len() > beside.len() { beside.push(id) } else { gone.push(id) }
            (gone, beside)
        });
        let mut draft = draft;
        draft.remove(&gone, &beside);
        let after = rendered(&draft);
        let now = readers(&after);
        for key in &gone {
            prop_assert!(!after.is_beside(key, &beside));
        }
        let is_gone = |reader: &str| gone.iter().any(|id| reader.starts_with(&format!("{} {} ", id.provider, id.name)));
        for (entry, reader) in readers(&before) {
            prop_assert!(now.contains(&(entry, reader.clone())) || is_gone(&reader), "{}", reader);
        }
        prop_assert_eq!(before.entries.len(), after.entries.len());
    }
}

#[test]
fn a_key_that_is_listed_to_read_for_one_rule_is_taken_out_again_and_never_writes() {
    let document = |rules: &str| accepted(&format!("{HEAD}resources:\n{rules}"));
    let cbc = format!("{{aescbc: {{keys: [{{name: w, secret: {SECRET_32}}}]}}}}");
    let config = document(&format!(
        "- {{resources: [secrets], providers: [{cbc}, {{identity: {{}}}}]}}\n- {{resources: [configmaps], providers: [{{identity: \
         {{}}}}]}}\n"
    ));
    let selector = |index: usize| config.entries[index].resources[0].clone();
    let ids = |draft: &Draft, index: usize| -> Vec<String> {
        let providers = draft.entries[index].providers.iter();
        providers
            .map(|provider| match provider {
                Provider::Identity => "identity".to_owned(),
                _ => provider
                    .key_ids()
                    .map(|id| id.to_string())
                    .collect::<Vec<_>>()
                    .join(" "),
            })
            .collect()
    };
    let mut draft = Draft::of(&config);
    for _ in 0..2 {
        draft.read_with(&selector(0), KeyType::AesCbc, &key("k", 1));
        draft.read_with(&selector(0), KeyType::Secretbox, &key("s", 2));
        draft.read_with(&selector(1), KeyType::AesGcm, &key("g", 3));
    }
    let cbc_keys = "aescbc key \"w\" aescbc key \"k\"";
    assert_eq!(ids(&draft, 0), [cbc_keys, "secretbox key \"s\"", "identity"]);
    assert_eq!(ids(&draft, 1), ["identity", "aesgcm key \"g\""]);
    assert_eq!(rendered(&draft).writers(), config.writers());
    let mut listed = rendered(&draft).key_ids();
    // What writes stays, though it is asked to go.
    assert!(listed.iter().any(|id| id.name.as_str() == "w"));
    draft.remove_readers(&listed);
    assert_eq!(draft.entries, config.entries);
    listed.clear();
    draft.remove_readers(&listed);
    assert!(!draft.differs_from(&config));
}
