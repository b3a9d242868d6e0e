//! `--key-type`: the algorithm changes, with writers beside it, and is taken back.

use super::{SIZE, Writer, expect_all_sealed};
use crate::common::etcd::Etcd;
use crate::common::proxy::Proxy;
use crate::common::rotation::Shared;
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

const BOX: &str = "{secretbox: {keys: [{name: s1, secret: emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=}]}}";

#[tokio::test]
async fn the_algorithm_changes_while_clients_write() {
    const KEYS: usize = 300;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    // A provider of the type that is wanted is there already, to read with: it stays, and stays where it is.
    let shared = Shared::new(&etcd, &document(&[K1, BOX, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let writer = Writer::start(&all).await;
    let plan = shared.run(&["rotate-keys", "--key-type=secretbox", "--dry-run"]).await;
    let first = "1. add a secretbox provider with a new key behind that of aescbc key \"k1\" in ";
    assert!(plan.stdout.contains(first), "{plan:#?}");
    shared
        .succeed(
            &["rotate-keys", "--key-type=secretbox", "--compact"],
            "keys rotated, reencryption finished",
        )
        .await;
    let count = writer.end().await;
    assert!(count > 10, "{count} writes");
    let keys = shared.keys();
    assert!(
        keys.len() == 2 && keys[0].starts_with("secretboxkey-2") && keys[1] == "s1",
        "{keys:?}"
    );
    assert_eq!(shared.providers(), ["secretbox", "secretbox", "identity"]);
    expect_all_sealed(&direct, &all, KEYS, &format!("secretbox:v1:{}", keys[0])).await;
    let status = shared.status().await;
    assert_eq!(status["activekey"], format!("XSalsa20-POLY1305 {}", keys[0]));
}

#[tokio::test]
async fn a_change_of_algorithm_is_taken_back_and_the_document_says_what_it_said() {
    const KEYS: usize = 100;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, BOX, IDENTITY]));
    let proxy = shared.member("a");
    let lines = |text: &str| -> Vec<String> { text.lines().skip(1).map(str::to_owned).collect() };
    shared
        .succeed(&["prepare", "--key-type=aesgcm"], "prepare completed successfully")
        .await;
    assert_eq!(shared.providers(), ["aescbc", "aesgcm", "secretbox", "identity"]);
    shared.succeed(&["rotate"], "rotate completed successfully").await;
    assert_eq!(shared.providers(), ["aesgcm", "aescbc", "secretbox", "identity"]);
    proxy.client().await.put("/registry/secrets/default/x", "x").await;
    let stored = direct.value("/registry/secrets/default/x").await;
    assert!(
        stored.starts_with(b"k8s:enc:aesgcm:v1:aesgcmkey-2"),
        "{}",
        stored.escape_ascii()
    );
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(shared.keys(), ["k1", "s1"]);
    assert_eq!(shared.providers(), ["aescbc", "secretbox", "identity"]);
    expect_all_sealed(&direct, &[&proxy], KEYS, "aescbc:v1:k1").await;
    let taken_back = lines(&shared.text());
    // What was begun for one type does not go on for another.
    let stopped = shared.run(&["rotate-keys", "--key-type=aesgcm", "--wait=false"]).await;
    assert_eq!(stopped.code, Some(6), "{stopped:#?}");
    let other = shared.run(&["rotate-keys", "--key-type=secretbox"]).await;
    assert_eq!(other.code, Some(3), "{other:#?}");
    assert!(
        other
            .stderr
            .contains("is to take over in the rotation that is under way"),
        "{other:#?}"
    );
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(lines(&shared.text()), taken_back);
}
