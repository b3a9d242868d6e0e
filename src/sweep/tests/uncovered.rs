//! What no rule covers is found wherever it lies, in a store that fails, compacts and forbids; and nothing else is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::interleavings::Silent;
use super::model::Model;
use super::world::{KEY_NEW, KEY_OLD, aescbc, aesgcm, scope, sealed_by};
use crate::config::{KeyId, KeyType};
use crate::sweep::{Error, Limits, Options, Scope, Uncovered, Wanted, uncovered};
use crate::types::{KeyName, StorageKey};
use crate::value::Deks;

const OPTIONS: Options = Options {
    limits: Limits {
        concurrency: 1,
        is_adaptive: false,
        keys_per_second: None,
        bytes_per_second: None,
    },
    max_wait: Duration::from_secs(600),
    restart: false,
    dry_run: false,
};

fn key(provider: KeyType, name: &str) -> KeyId {
    KeyId {
        provider: provider.into(),
        name: KeyName::new(name),
    }
}

fn cbc(name: &str) -> Wanted {
    Wanted {
        keys: vec![key(KeyType::AesCbc, name)],
        others: false,
    }
}

async fn look(model: &Model, scope: &Scope, wanted: Wanted) -> Result<Uncovered, Error> {
    let (_stop, stops) = watch::channel(false);
    uncovered(&model, scope, wanted, &OPTIONS, Arc::new(Silent), stops).await
}

async fn found(model: &Model, scope: &Scope, wanted: Wanted) -> Uncovered {
    look(model, scope, wanted).await.expect("it comes to its end")
}

/// Resource, cover, provider, key, whether it opens, and how many.
fn rows(found: &Uncovered) -> Vec<Value> {
    let json = serde_json::to_value(found).unwrap();
    let row = |row: &Value| {
        let fields = ["resource", "cover", "provider", "key", "opens", "objects"];
        Value::from(fields.map(|field| row[field].clone()).to_vec())
    };
    json["rows"].as_array().unwrap().iter().map(row).collect()
}

/// What the only rule of `scope` makes of `value` under any key.
fn sealed_anywhere(scope: &Scope, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let chain = scope.keyring.rules()[0].chain();
    chain
        .to_storage(StorageKey(key), value, &Deks::default(), &mut stored)
        .unwrap();
    stored
}

#[tokio::test(start_paused = true)]
async fn whatever_bears_the_key_is_found_wherever_it_lies() {
    let (old, new) = (aescbc("old", KEY_OLD), aescbc("new", KEY_NEW));
    let (former, now) = (scope(&[&old]), scope(&[&new, &old]));
    for seed in 0..12 {
        let model = Model::new(seed, &[&new, &old]);
        let put = |key: &str| model.put(key.as_bytes(), &sealed_anywhere(&former, key.as_bytes(), b"value"), 0);
        for index in 0..40 {
            put(&format!("/registry/configmaps/default/{index:02}"));
            put(&format!("/elsewhere/deep/down/{index:02}"));
            let fresh = format!("/registry/secrets/default/{index:02}");
            model.put(fresh.as_bytes(), &sealed_by(&now, fresh.as_bytes(), b"value"), 0);
            model.put(format!("/registry/pods/default/{index:02}").as_bytes(), b"plain", 0);
        }
        // The first and the last keys that there can be, one below no folder, one of a custom resource, and the proxy's own.
        let ends = [&b"\0"[..], b"\xff\xff\xff", b"alone", b"/registry/example.com/bears/b"];
        for key in ends.into_iter().chain([&b"/etcd-encryption-proxy/x"[..]]) {
            model.put(key, &sealed_anywhere(&former, key, b"value"), 0);
        }
        model.trouble.set(20);
        model.latency.set(5);
        let compacting = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                model.put(b"/registry/pods/default/busy", b"plain", 0);
                model.compact();
            }
        };
        let (found, ()) = tokio::join!(found(&model, &now, cbc("old")), compacting);
        assert_eq!(
            rows(&found),
            [
                json!(["(unlisted)", "outside", "aescbc", "old", true, 3]),
                json!(["/elsewhere/deep/", "outside", "aescbc", "old", true, 40]),
                json!(["bears.example.com", "none", "aescbc", "old", true, 1]),
                json!(["configmaps", "none", "aescbc", "old", true, 40]),
            ],
            "seed {seed}"
        );
        let text = found.in_the_way().expect("all of it").to_string();
        let maps = "40 values of configmaps under aescbc key \"old\" (such as /registry/configmaps/default/00, \
                    /registry/configmaps/default/01, /registry/configmaps/default/02)";
        assert!(text.contains(maps), "{text}");
        assert!(found.way_on().contains("Put a rule") && found.way_on().contains("--etcd-prefix"));
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_rule_what_is_as_it_writes_is_not_in_the_way_and_anything_else_is() {
    // One name begins with another: values of the one that stays bear the header of the one that goes.
    let (stays, goes) = (aescbc("k:2", KEY_NEW), aescbc("k", KEY_OLD));
    let model = Model::new(1, &[&stays, &goes]);
    let (now, former) = (scope(&[&stays, &goes]), scope(&[&goes]));
    let fresh = b"/registry/secrets/default/fresh";
    model.put(fresh, &sealed_by(&now, fresh, b"value"), 0);
    assert_eq!(found(&model, &now, cbc("k")).await.in_the_way(), None);
    // The sweep did not look here, or somebody has written since.
    let late = b"/registry/secrets/default/late";
    model.put(late, &sealed_by(&former, late, b"value"), 0);
    let found = found(&model, &now, cbc("k")).await.in_the_way().expect("one is late");
    assert_eq!(rows(&found), [json!(["secrets", "rule", "aescbc", "k", true, 1])]);
    assert!(found.is_covered());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_others_use_too_is_in_the_way_below_the_prefix_alone() {
    let (ours, theirs) = (aesgcm("key1", KEY_OLD), aesgcm("key1", KEY_NEW));
    let model = Model::new(2, &[&ours]);
    let scope_now = scope(&[&aesgcm("new", KEY_NEW), &ours]);
    let wanted = |others| Wanted {
        keys: vec![key(KeyType::AesGcm, "key1")],
        others,
    };
    // Another cluster's in the same etcd, under a key of the same name.
    let away = b"/other-cluster/secrets/default/a";
    model.put(away, &sealed_anywhere(&scope(&[&theirs]), away, b"value"), 0);
    assert_eq!(found(&model, &scope_now, wanted(false)).await.in_the_way(), None);
    let listed = found(&model, &scope_now, wanted(true)).await;
    assert_eq!(
        rows(&listed),
        [json!([
            "/other-cluster/secrets/",
            "outside",
            "aesgcm",
            "key1",
            false,
            1
        ])]
    );
    assert_eq!(listed.in_the_way(), None);
    // Nobody else is at work below the prefix: what bears the name there needs it until somebody says otherwise.
    let below = b"/registry/configmaps/default/a";
    model.put(below, &sealed_anywhere(&scope(&[&theirs]), below, b"value"), 0);
    let found = found(&model, &scope_now, wanted(false)).await.in_the_way();
    assert_eq!(
        rows(&found.expect("it bears the name")),
        [json!(["configmaps", "none", "aesgcm", "key1", false, 1])]
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_fills_etcd_with_names_does_not_fill_the_memory() {
    let model = Model::new(3, &[&aescbc("old", KEY_OLD)]);
    let old = scope(&[&aescbc("old", KEY_OLD)]);
    for index in 0..500 {
        let key = format!("/registry/group-{index}.example.com/bears/{}", "b".repeat(600));
        model.put(key.as_bytes(), format!("k8s:enc:aescbc:v1:key-{index}:x").as_bytes(), 0);
    }
    let wanted = Wanted {
        keys: Vec::new(),
        others: true,
    };
    let found = found(&model, &old, wanted).await;
    let json = serde_json::to_value(&found).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert!(rows.len() <= 101, "{}", rows.len());
    let objects: u64 = rows.iter().map(|row| row["objects"].as_u64().unwrap()).sum();
    assert_eq!(objects, 500);
    assert!(json.to_string().len() < 400 * 1024);
    assert!(found.to_string().len() < 10_000);
}

#[tokio::test(start_paused = true)]
async fn where_only_the_prefix_may_be_read_that_is_looked_at_and_said() {
    let old = aescbc("old", KEY_OLD);
    let model = Model::new(4, &[&old]);
    let former = scope(&[&old]);
    for key in [&b"/registry/configmaps/default/a"[..], b"/elsewhere/a"] {
        model.put(key, &sealed_anywhere(&former, key, b"value"), 0);
    }
    model.only.replace(Some(b"/registry/".to_vec()));
    let now = scope(&[&aescbc("new", KEY_NEW), &old]);
    let found = found(&model, &now, cbc("old")).await;
    assert_eq!(rows(&found), [json!(["configmaps", "none", "aescbc", "old", true, 1])]);
    assert_eq!(serde_json::to_value(&found).unwrap()["isWhole"], false);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_it_is_told_to_and_when_etcd_stays_away() {
    let model = Model::new(5, &[&aescbc("old", KEY_OLD)]);
    let scope = scope(&[&aescbc("old", KEY_OLD)]);
    let (_stop, stops) = watch::channel(true);
    let ended = uncovered(&&model, &scope, cbc("old"), &OPTIONS, Arc::new(Silent), stops).await;
    assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
    model.trouble.set(1_000);
    let ended = look(&model, &scope, cbc("old")).await;
    assert!(matches!(ended, Err(Error::GaveUp { .. })), "{ended:?}");
}
