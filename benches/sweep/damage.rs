//! One value that no key opens, among all the others.

use serde_json::{Value, json};

use crate::common::sweep::key;
use crate::settings::Settings;
use crate::store::{Store, VALUE_BYTES};
use crate::sweeping;

pub async fn run(settings: &Settings, store: &mut Store) -> Value {
    let broken = key(settings.keys / 2);
    let mut value = b"k8s:enc:aescbc:v1:lost:".to_vec();
    value.resize(VALUE_BYTES, b'?');
    store.client.put(broken.clone(), value).await;
    let sweep = store.sweep();
    let outcome = sweeping::run(store, sweep).await.outcome;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert_eq!(outcome.number("/counts/rewritten"), settings.keys as u64 - 1);
    assert_eq!(outcome.report["left"].as_array().map(Vec::len), Some(1));
    let left = &outcome.report["left"][0];
    assert_eq!(left["etcdKey"], broken);
    println!(
        "One value of {} under a key that is lost: the other {} are rewritten, the report names `{broken}` and the key \
         `{}`, exit code 4.\n",
        settings.keys,
        settings.keys - 1,
        left["key"].as_str().expect("a name"),
    );
    json!({"rewritten": settings.keys - 1, "left": left, "exitCode": 4})
}
