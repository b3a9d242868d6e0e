//! What no key opens is counted once, with the key that really opens it; a name alone is worth nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::interleavings::Silent;
use super::model::Model;
use super::world::{KEY_NEW, KEY_OLD, aescbc, aesgcm, scope, sealed};
use crate::config::{Options as Parse, parse};
use crate::sweep::{Limits, Options, Scope, Spare, Unopenable, unopenable};
use crate::types::StorageKey;
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

/// The keys of `providers`, to be tried.
fn spares(providers: &[&str]) -> Vec<Spare> {
    let document = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{}]\n",
        providers.join(", ")
    );
    let config = parse(document.as_bytes(), Parse::default()).unwrap();
    let providers = config.entries.iter().flat_map(|entry| &entry.providers);
    let keys = providers.flat_map(|provider| provider.key_ids().zip(provider.keys().unwrap().1));
    keys.map(|(id, key)| Spare::new(&id, key).unwrap()).collect()
}

async fn found(model: &Model, scope: &Scope, spares: &[Spare]) -> Unopenable {
    let (_stop, stops) = watch::channel(false);
    let found = unopenable(&model, scope, spares, &OPTIONS, Arc::new(Silent), stops).await;
    found.expect("it comes to its end")
}

/// Resource, whether a rule covers it, what it is under, which spare opens it, how many.
fn rows(found: &Unopenable) -> Vec<(String, bool, String, Option<usize>, u64)> {
    let row = |(need, objects, _): &(crate::sweep::Need, u64, String)| {
        let under = need.under.to_string();
        (need.resource.clone(), need.rule.is_some(), under, need.opener, *objects)
    };
    found.rows.iter().map(row).collect()
}

fn row(
    resource: &str,
    rule: bool,
    under: &str,
    opener: Option<usize>,
    objects: u64,
) -> (String, bool, String, Option<usize>, u64) {
    (resource.to_owned(), rule, under.to_owned(), opener, objects)
}

/// What the rule of `providers` makes of a value under any key.
fn anywhere(providers: &[&str], key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let scope = scope(providers);
    let chain = scope.keyring.rules()[0].chain();
    chain
        .to_storage(StorageKey(key), b"value", &Deks::default(), &mut stored)
        .unwrap();
    stored
}

#[tokio::test(start_paused = true)]
async fn a_key_counts_where_it_has_opened_a_value() {
    let (now, right, wrong) = (aescbc("new", KEY_NEW), aesgcm("k", KEY_OLD), aesgcm("k", KEY_NEW));
    let model = Model::new(1, &[&now]);
    let put = |key: &str, by: &str| model.put(key.as_bytes(), &anywhere(&[by], key.as_bytes()), 0);
    put("/registry/secrets/default/fine", &now);
    for name in ["a", "b"] {
        put(&format!("/registry/secrets/default/{name}"), &right);
        put(&format!("/registry/configmaps/default/{name}"), &right);
    }
    put("/registry/secrets/default/gone", &aesgcm("gone", KEY_OLD));
    put("/elsewhere/ours", &right);
    // Another cluster's, and a KMS's without a rule: nothing is known of either.
    put("/elsewhere/theirs", &aesgcm("theirs", KEY_OLD));
    model.put(b"/registry/configmaps/default/kms", b"k8s:enc:kms:v2:vault:x", 0);
    model.put(b"/registry/configmaps/default/plain", b"plain", 0);
    put("/etcd-encryption-proxy/x", &right);
    let scope = scope(&[&now]);
    let found = found(&model, &scope, &spares(&[&wrong, &right])).await;
    assert_eq!(
        rows(&found),
        [
            row("/elsewhere/", false, "aesgcm key \"k\"", Some(1), 1),
            row("configmaps", false, "aesgcm key \"k\"", Some(1), 2),
            row("secrets", true, "aesgcm key \"gone\"", None, 1),
            row("secrets", true, "aesgcm key \"k\"", Some(1), 2),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_wrong_key_opens_by_chance_is_not_opened_by_it() {
    let (right, wrong) = (aescbc("k", KEY_OLD), aescbc("k", KEY_NEW));
    let now = aescbc("new", KEY_NEW);
    let model = Model::new(2, &[&now]);
    for index in 0..2_000 {
        let key = format!("/registry/secrets/default/{index:04}");
        let value = format!("{{\"kind\":\"Secret\",\"name\":\"a-secret-with-number-{index}\"}}");
        model.put(key.as_bytes(), &sealed(&[&right], key.as_bytes(), value.as_bytes()), 0);
    }
    let scope = scope(&[&now]);
    let both = found(&model, &scope, &spares(&[&wrong, &right])).await;
    assert_eq!(rows(&both), [row("secrets", true, "aescbc key \"k\"", Some(1), 2_000)]);
    let one = found(&model, &scope, &spares(&[&wrong])).await;
    assert_eq!(rows(&one), [row("secrets", true, "aescbc key \"k\"", None, 2_000)]);
}
