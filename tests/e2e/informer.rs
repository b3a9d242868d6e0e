//! What client-go calls an informer: lists, watches from the list's resource version on, resumes wherever a watch ends,
//! and keeps a copy of everything. It notes all that it was told, for the test to judge.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::timeout;

use crate::common::process::PATIENCE;
use crate::rest::{Api, name, version};

/// Objects by name.
pub type Store = BTreeMap<String, Value>;

/// What an informer was told.
#[derive(Debug)]
pub struct Told {
    /// What its list gave.
    pub start: Store,
    /// `ADDED`, `MODIFIED` or `DELETED`, and the object.
    pub events: Vec<(String, Value)>,
}

/// Follows all Secrets from a list of them on until the one called `until` is added. Each watch takes `seconds`, and is
/// resumed where it ended.
pub async fn follow(api: Api, list: Value, until: &str, seconds: u32) -> Told {
    let mut told = Told {
        start: store(&list),
        events: Vec::new(),
    };
    let mut at = version(&list);
    loop {
        let mut watch = api.watch(&at.to_string(), seconds).await;
        while let Some(event) = timeout(PATIENCE, watch.next()).await.expect("an event") {
            let (kind, object) = (event["type"].as_str().expect("a type"), &event["object"]);
            assert_ne!(kind, "ERROR", "{event}");
            let before = at;
            at = version(object);
            if kind == "BOOKMARK" {
                assert!(at >= before, "a bookmark for {at} after {before}");
                continue;
            }
            assert!(at > before, "{event} after {before}");
            if name(object) == until {
                return told;
            }
            told.events.push((kind.to_owned(), object.clone()));
        }
    }
}

/// The objects of a list.
pub fn store(list: &Value) -> Store {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| (name(item), item_of(item))).collect()
}

/// As an event shows it: items of a list do not say what they are.
fn item_of(item: &Value) -> Value {
    let mut object = item.clone();
    object["kind"] = "Secret".into();
    object["apiVersion"] = "v1".into();
    object
}

/// Everything but its version.
pub fn content(object: &Value) -> Value {
    let mut content = object.clone();
    content["metadata"]["resourceVersion"] = Value::Null;
    content
}
