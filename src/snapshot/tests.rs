//! Stores of known content, written as etcd writes them, and what is said of them.

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::report::Finding;
use super::tally::State;
use crate::config::ResourceSelector;
use crate::keyring::Keyring;
use crate::types::{GroupResource, KeyName, StorageKey};
use crate::value::paper_plugin::PaperPlugin;
use crate::value::{Chain, Deks, Provider};
use world::{AES_1, AES_2, IDENTITY, Store, aescbc, document, scope, sealed, source};

const OBJECT: &[u8] = b"k8s\0a secret";

/// A bit of everything: what is stored, what was, what is gone, and what nobody opens.
fn store() -> Store {
    let mut store = Store::default();
    let key = |name: &str| format!("/registry/secrets/default/{name}");
    let k1 = |name: &str| sealed(&aescbc("k1", AES_1), &key(name), OBJECT);
    let k2 = |name: &str| sealed(&aescbc("k2", AES_2), &key(name), OBJECT);
    for name in ["a", "b", "c"] {
        store.put(&key(name), OBJECT);
        store.put(&key(name), &k1(name));
    }
    store.put(&key("b"), &k2("b"));
    store.put(&key("gone"), &k1("gone"));
    store.delete(&key("gone"));
    store.put(&key("again"), &k1("again"));
    store.delete(&key("again"));
    store.put(&key("again"), &k2("again"));
    store.put(&key("lost"), &sealed(&aescbc("k0", AES_2), &key("lost"), OBJECT));
    store.put(&key("lost-too"), &k1("lost-too"));
    store.put(&key("lost-too"), b"k8s:enc:secretbox:v1:box\x1b:");
    let mut broken = k1("broken");
    broken.pop();
    store.put(&key("broken"), &broken);
    store.put("/registry/configmaps/default/a", OBJECT);
    store.put(
        "/registry/configmaps/default/sealed",
        &sealed(&aescbc("k1", AES_1), "/registry/configmaps/default/sealed", OBJECT),
    );
    store.put("/registry/masterleases/10.0.0.1", b"k8s\0a lease");
    store.put("/other/key", b"value");
    store.put("/other/sealed", b"k8s:enc:aescbc:v1:k1:rubbish");
    store.put(
        "/etcd-encryption-proxy/sweep/checkpoint",
        b"k8s:enc:not to be looked at",
    );
    store
}

#[tokio::test]
async fn the_report_says_what_there_is() {
    let scope = scope(&[
        ("new.yaml", &document(&[&aescbc("k2", AES_2), IDENTITY])),
        ("old.yaml", &document(&[&aescbc("k1", AES_1)])),
        ("unused.yaml", &document(&[&aescbc("k3", AES_1), IDENTITY])),
    ]);
    let report = store().inspect(&scope).await;
    insta::assert_snapshot!("table", report.to_string());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report).unwrap());
}

#[tokio::test]
async fn what_it_comes_to_is_the_worst_of_what_counts() {
    let key = "/registry/secrets/default/a";
    let (old, new) = (aescbc("k1", AES_1), aescbc("k2", AES_2));
    let (in_old, in_new) = (sealed(&old, key, OBJECT), sealed(&new, key, OBJECT));
    let finding = async |values: &[&[u8]], providers: &[&str]| {
        let mut store = Store::default();
        for value in values {
            store.put(key, value);
        }
        store.inspect(&scope(&[("c", &document(providers))])).await.finding
    };
    assert_eq!(finding(&[], &[&new]).await, Finding::Opens);
    assert_eq!(finding(&[&in_old, &in_new], &[&new, &old]).await, Finding::Opens);
    assert_eq!(finding(&[&in_old, &in_new], &[&new]).await, Finding::History);
    assert_eq!(finding(&[&in_new, &in_old], &[&new]).await, Finding::Missing);
    assert_eq!(finding(&[OBJECT], &[&new]).await, Finding::Missing);
    assert_eq!(finding(&[OBJECT], &[&new, IDENTITY]).await, Finding::Opens);
    // Deleted since.
    let mut store = Store::default();
    store.put(key, &in_old);
    store.delete(key);
    let report = store.inspect(&scope(&[("c", &document(&[&new]))])).await;
    assert_eq!((report.finding, report.counts.keys), (Finding::History, 0));
}

/// Many configurations call their key `key1`, as the documentation of Kubernetes does.
#[tokio::test]
async fn a_key_of_the_right_name_and_other_bytes_is_not_taken_for_the_right_one() {
    const OBJECTS: u64 = 2_000;
    let right = scope(&[("c", &document(&[&aescbc("key1", AES_1)]))]);
    let mut store = Store::default();
    for index in 0..OBJECTS {
        let key = format!("/registry/secrets/default/{index}");
        store.put(&key, &world::sealed_by(&right, &key, OBJECT));
    }
    let wrong = document(&[&aescbc("key1", AES_2)]);
    let report = store.inspect(&scope(&[("wrong", &wrong)])).await;
    let objects = |state: State| -> u64 {
        let lines = report.inventory.iter().filter(|line| line.state == state);
        lines.map(|line| line.count.objects).sum()
    };
    assert_eq!(report.finding, Finding::Missing);
    assert_eq!(objects(State::Missing), 0, "its name is at hand");
    assert!(objects(State::Doubtful) > 0, "the padding of some comes out right");
    // Short text by chance.
    assert!(objects(State::Opens) <= 3, "{report}");
    let both = scope(&[("wrong", &wrong), ("right", &document(&[&aescbc("key1", AES_1)]))]);
    let report = store.inspect(&both).await;
    assert_eq!(report.finding, Finding::Opens, "{report}");
}

/// With a rule for everything there are as many rows as resources and keys. Old keys come last, since the newest values are met
/// first.
#[tokio::test]
async fn a_key_that_opens_something_is_never_said_to_be_idle_however_many_rows_there_are() {
    const RESOURCES: u64 = 1_100;
    let (old, new) = (aescbc("k1", AES_1), aescbc("k2", AES_2));
    let by = |provider: &str| scope(&[("c", &world::rule("*.*", &[provider]))]);
    let (by_old, by_new) = (by(&old), by(&new));
    let mut store = Store::default();
    let key = |index: u64| format!("/registry/example.com/r{index}/default/a");
    store.put(&key(0), &world::sealed_by(&by_old, &key(0), OBJECT));
    for index in 1..RESOURCES {
        store.put(&key(index), &world::sealed_by(&by_new, &key(index), OBJECT));
    }
    let both = scope(&[("c", &world::rule("*.*", &[&new, &old, &aescbc("k3", AES_1)]))]);
    let report = store.inspect(&both).await;
    assert!(report.inventory.iter().any(|line| line.resource == "(others)"));
    let keys: Vec<_> = report
        .keys
        .iter()
        .map(|key| (key.under.key.as_str(), key.count.objects, key.is_idle))
        .collect();
    assert_eq!(keys, [("k1", 1, false), ("k2", RESOURCES - 1, false), ("k3", 0, true)]);
    let text = report.to_string();
    assert!(!text.contains("behind the first"), "{text}");
}

fn kms(plugin: &Arc<PaperPlugin>) -> Keyring {
    let provider = Provider::kms_v2(KeyName::new("paper"), Arc::clone(plugin) as _);
    let secrets = ResourceSelector::Exact(GroupResource::new("", "secrets"));
    Keyring::of_chain(secrets, Chain::new(vec![provider]).unwrap(), world::keyspace())
}

#[tokio::test]
async fn a_kms_is_asked_and_one_that_is_silent_is_not_asked_for_ever() {
    const OBJECTS: u64 = 5_000;
    let plugin = PaperPlugin::new();
    let keyring = kms(&plugin);
    let mut store = Store::default();
    for index in 0..OBJECTS {
        if index == OBJECTS / 2 {
            plugin.rotate("kek-2");
        }
        let key = format!("/registry/secrets/default/{index}");
        let chain = keyring.rules()[0].chain();
        let mut stored = Vec::new();
        chain
            .to_storage(StorageKey(key.as_bytes()), OBJECT, &Deks::default(), &mut stored)
            .unwrap();
        store.put(&key, &stored);
    }
    let scope = source("kms", keyring);
    plugin.forget();
    let report = store.inspect(&scope).await;
    let lines: Vec<_> = report
        .inventory
        .iter()
        .map(|line| (line.state, line.key_id.as_deref(), line.count.objects))
        .collect();
    assert_eq!(
        lines,
        [
            (State::Opens, Some("kek-1"), OBJECTS / 2),
            (State::Opens, Some("kek-2"), OBJECTS / 2)
        ]
    );

    plugin.forget();
    plugin.is_down.store(true, Relaxed);
    plugin.unwrapped.store(0, Relaxed);
    let report = store.inspect(&scope).await;
    assert_eq!(report.finding, Finding::Unasked);
    assert_eq!(report.needs.iter().map(|need| need.count.objects).sum::<u64>(), OBJECTS);
    assert!(
        report
            .to_string()
            .contains("kms v2 key \"paper\", key ID \"kek-1\": could not be asked"),
        "{report}"
    );
    assert!(!report.keys[0].is_idle, "it may open all of it: nobody could ask");
    assert!(
        plugin.unwrapped.load(Relaxed) <= 6,
        "{}",
        plugin.unwrapped.load(Relaxed)
    );

    plugin.is_final.store(true, Relaxed);
    assert_eq!(store.inspect(&scope).await.finding, Finding::Missing);
}

#[tokio::test]
async fn a_store_that_is_not_etcds_is_told() {
    let empty = scope(&[("c", &document(&[IDENTITY]))]);
    let error = async |store: &Store| store.try_inspect(&empty).await.unwrap_err().to_string();
    let mut store = Store::default();
    store.entries.push((b"no revision".to_vec(), Vec::new()));
    assert!(
        error(&store)
            .await
            .contains("element 0 of page 3 is under a key that is no revision")
    );
    for (value, what) in [
        (&b"\x0a\x05ab"[..], "no mvccpb.KeyValue: it ends within a field"),
        (b"\x08\x05", "no mvccpb.KeyValue: field 1 has the wrong wire type"),
        (b"", "a mvccpb.KeyValue without a key"),
    ] {
        let mut store = Store::default();
        store.put("/a", b"b");
        store.entries[0].1 = value.to_vec();
        let error = error(&store).await;
        assert!(error.contains(what), "{error}");
    }
    let store = Store {
        bucket: "keys",
        ..Store::default()
    };
    assert!(error(&store).await.contains("has no bucket \"key\""));
}
