//! `recover`: values that no key of the configuration opens, put back into etcd as a restored snapshot does it, come under the key
//! that writes, with keys of the kept files or of one that is named; and what no file has a key for is named.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::SIZE;
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::rotation::{Shared, write_private};
use crate::common::sweep::{GCM, IDENTITY, K1, K2, document, fill, key, plaintext, sealed_with_k1};
use crate::common::tools::Version;

const COUNT: usize = 20;
const DONE: &str = "keys rotated, reencryption finished";

/// `k1` with other bytes.
const WRONG: &str = "{aescbc: {keys: [{name: k1, secret: MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=}]}}";

/// A file that is kept beside the configuration's, or one elsewhere.
fn kept(shared: &Shared, time: &str, provider: &str) -> PathBuf {
    let path = shared.path().with_file_name(format!("shared.yaml.{time}"));
    write_private(&path, &document(&[provider, IDENTITY]));
    path
}

fn gone(index: usize) -> String {
    format!("/registry/secrets/default/gone-{index:02}")
}

/// Values sealed with `k1`, as if they had been restored.
async fn restore(direct: &Client, count: usize) {
    for index in 0..count {
        direct
            .put(gone(index), sealed_with_k1(&gone(index), gone(index).as_bytes()))
            .await;
    }
}

async fn expect_readable(proxies: &[&Proxy], count: usize) {
    for proxy in proxies {
        let client = proxy.client().await;
        for index in 0..count {
            assert_eq!(client.value(&gone(index)).await, gone(index).as_bytes());
        }
    }
}

/// Every secret but those of `but` is under the only key that the configuration has.
async fn expect_under_the_only_key(direct: &Client, shared: &Shared, but: &[&str]) {
    let keys = shared.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let header = format!("k8s:enc:aescbc:v1:{}:", keys[0]);
    for kv in direct.everything().await {
        let name = String::from_utf8_lossy(&kv.key).into_owned();
        if name.starts_with("/registry/secrets/") && !but.contains(&&*name) {
            assert!(
                kv.value.starts_with(header.as_bytes()),
                "{name}: {}",
                kv.value.escape_ascii()
            );
        }
    }
}

async fn a_snapshot_of_before_two_rotations(version: Version) {
    let etcd = Etcd::start(version).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let client = all[0].client().await;
    let mut stored = Vec::new();
    let mut names = Vec::new();
    // Half of them as they were under the first key, half under the second.
    for first in [0, COUNT / 2] {
        for index in first..first + COUNT / 2 {
            client.put(gone(index), gone(index)).await;
            stored.push((gone(index), direct.value(&gone(index)).await));
        }
        // As it was written by hand, or by the rotation before.
        names.push(shared.keys().pop().unwrap_or_else(|| "k1".to_owned()));
        shared.succeed(&["rotate-keys", "--compact"], DONE).await;
    }
    let fine = shared.succeed(
        &["recover"],
        "nothing needs recovering: a key of the configuration opens every value that is stored",
    );
    fine.await;
    for (key, value) in stored {
        direct.put(key, value).await;
    }
    assert_ne!(
        all[0].client().await.get(gone(0)).await.expect("a value").value,
        gone(0).as_bytes()
    );

    let before = shared.text();
    let noted = direct.value("/etcd-encryption-proxy/rotation").await;
    let plan = shared.run(&["recover", "--dry-run"]).await;
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    for (name, first) in names.iter().zip([0, COUNT / 2]) {
        let values = format!(
            "10 values of secrets under aescbc key \"{name}\" (such as {}): ",
            gone(first)
        );
        assert!(
            plan.stdout.contains(&values) && plan.stdout.contains("shared.yaml.2"),
            "{plan:#?}"
        );
    }
    assert_eq!(shared.text(), before, "nothing is done");
    assert_eq!(direct.value("/etcd-encryption-proxy/rotation").await, noted);
    let counted = shared.run(&["status", "--count"]).await;
    assert!(
        counted.stdout.contains("Recoverable: 10 values of secrets") && counted.stdout.contains("Next: `recover`"),
        "{counted:#?}"
    );
    let counted = shared.run(&["status", "--count", "-ojson"]).await;
    let counted: Value = serde_json::from_str(&counted.stdout).expect("JSON");
    assert_eq!(counted["unopenable"][0]["fate"], "recoverable", "{counted:#}");
    // The member whose client has met one says so.
    let start = Instant::now();
    let told = loop {
        let status = shared.run(&["status"]).await.stdout;
        if status.contains("Unreadable: ") {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "{status}");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(told.contains("`secrets-encrypt recover --dry-run`"), "{told}");

    let done = shared.succeed(&["recover", "--compact"], "recovery finished").await;
    for name in &names {
        assert!(
            done.stdout.contains(&format!("recovered with aescbc key {name:?}")),
            "{done:#?}"
        );
    }
    expect_readable(&all, COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[]).await;
    assert!(!names.contains(&shared.keys()[0]));
    assert_eq!(shared.stage().await, "reencrypt_finished");
    // What it took the keys from may be gone; they are kept all the same.
    let folder = shared.path().parent().expect("a folder").to_owned();
    let texts = fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let texts: Vec<String> = texts.collect();
    assert!(
        names
            .iter()
            .all(|name| texts.iter().any(|text| text.contains(name.as_str())))
    );
    shared.succeed(&["rotate-keys", "--compact"], DONE).await;
    expect_readable(&all, COUNT).await;
}

#[tokio::test]
async fn a_snapshot_of_before_two_rotations_is_readable_again() {
    a_snapshot_of_before_two_rotations(Version::share()).await;
}

#[tokio::test]
async fn a_snapshot_of_before_two_rotations_is_readable_again_on_etcd_3_4() {
    a_snapshot_of_before_two_rotations(Version::V3_4).await;
}

#[tokio::test]
async fn a_name_says_too_little_and_what_no_file_has_a_key_for_is_named() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K2, IDENTITY]));
    let proxies = [shared.member("a"), shared.member("b")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    restore(&direct, COUNT).await;
    let lost = "/registry/secrets/default/lost";
    direct.put(lost, "k8s:enc:secretbox:v1:nowhere:rubbish").await;

    // No file has it, then one that has the name alone.
    let none = shared.run(&["recover"]).await;
    let named = "20 values of secrets under aescbc key \"k1\" (such as /registry/secrets/default/gone-00): no file";
    assert!(none.code == Some(7) && none.stderr.contains(named), "{none:#?}");
    assert_eq!(none.stdout, "nothing could be recovered\n");
    kept(&shared, "2026-01-02T00:00:00Z", WRONG);
    let wrong = shared.run(&["recover"]).await;
    assert!(wrong.code == Some(7) && wrong.stderr.contains(named), "{wrong:#?}");
    assert_eq!(shared.text(), document(&[K2, IDENTITY]), "nothing is done");

    // An older one has the right bytes.
    kept(&shared, "2026-01-01T00:00:00Z", K1);
    let found = shared.run(&["recover", "--compact"]).await;
    assert_eq!(found.code, Some(7), "{found:#?}");
    assert!(found.stdout.contains("recovered with aescbc key \"k1\""), "{found:#?}");
    let named = format!("1 value of secrets under secretbox key \"nowhere\" (such as {lost}): no file");
    assert!(
        found.stderr.contains(&named) && !found.stderr.contains("values of secrets"),
        "{found:#?}"
    );
    assert_eq!(shared.keys(), ["k2"]);
    expect_readable(&all, COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[lost]).await;
    direct.delete(lost).await;
    shared
        .succeed(
            &["recover"],
            "nothing needs recovering: a key of the configuration opens every value that is stored",
        )
        .await;
}

#[tokio::test]
async fn a_file_elsewhere_is_named() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K2, IDENTITY]));
    let member = shared.member("a");
    restore(&direct, COUNT).await;
    let elsewhere = kept(&shared, "elsewhere", K1);
    let other = kept(&shared, "other", GCM);
    assert_eq!(shared.run(&["recover"]).await.code, Some(7));
    let flags = [&other, &elsewhere].map(|path| format!("--from={}", path.display()));
    let done = ["recover", "--compact", &*flags[0], &*flags[1]];
    shared.succeed(&done, "recovery finished").await;
    expect_readable(&[&member], COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[]).await;
    // One that is no configuration, or is not there, is a mistake.
    fs::write(&elsewhere, "rubbish").expect("a file");
    let from = format!("--from={}", elsewhere.display());
    assert_eq!(shared.run(&["recover", &from]).await.code, Some(8));
}

#[tokio::test]
async fn a_name_that_stands_for_another_key_now_is_refused_with_the_way_on() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[WRONG, IDENTITY]));
    let member = shared.member("a");
    restore(&direct, COUNT).await;
    kept(&shared, "2026-01-01T00:00:00Z", K1);
    let refused = shared.run(&["recover"]).await;
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(
        refused
            .stderr
            .contains("the configuration has another one of that name"),
        "{refused:#?}"
    );
    // As it says.
    assert_eq!(shared.run(&["rotate-keys", "--compact"]).await.code, Some(7));
    shared.succeed(&["reencrypt", "--skip"], "reencryption started").await;
    let text = shared.text();
    let end = text.find("      - name: k1").expect("it is last");
    let rest = text[end..].find("  - identity").expect("identity");
    let without = format!("{}{}", &text[..end], &text[end + rest..]);
    crate::common::proxy::replace(&shared.path(), without);
    let start = Instant::now();
    while shared.status().await["hashmatch"] != Value::Bool(true) {
        assert!(start.elapsed() < PATIENCE, "it does not load it");
        sleep(Duration::from_millis(50)).await;
    }
    shared.succeed(&["recover", "--compact"], "recovery finished").await;
    expect_readable(&[&member], COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[]).await;
}

#[tokio::test]
async fn killed_anywhere_it_goes_on_and_others_are_refused_meanwhile() {
    const KEYS: usize = 1_500;
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K2, IDENTITY]));
    let proxies = [
        shared.setup("a").flag("--sweep=off").start(),
        shared.setup("b").flag("--sweep=off").start(),
    ];
    let all: Vec<&Proxy> = proxies.iter().collect();
    fill(&direct, KEYS, SIZE).await;
    restore(&direct, COUNT).await;
    kept(&shared, "2026-01-01T00:00:00Z", K1);
    let words = ["recover", "--compact", "--rate=2500"];
    let record = async || -> Value {
        let found = direct.get("/etcd-encryption-proxy/rotation").await;
        found.map_or(Value::Null, |kv| serde_json::from_slice(&kv.value).expect("JSON"))
    };
    let has_come = async |point: &str| match point {
        "its keys are noted" => record().await["recovered"].is_array(),
        "they are listed" => shared.keys() == ["k2", "k1"],
        "a value is rewritten" => direct.value(&gone(0)).await.starts_with(b"k8s:enc:aescbc:v1:k2:"),
        "it is proved" => record().await["proved"].is_object(),
        _ => unreachable!("no such point"),
    };
    let points = [
        "its keys are noted",
        "they are listed",
        "a value is rewritten",
        "it is proved",
    ];
    let mut kills = 0;
    for point in points {
        let mut process = shared.start(&words);
        let start = Instant::now();
        while process.is_running() && !has_come(point).await {
            assert!(
                start.elapsed() < 2 * PATIENCE,
                "not until {point}: {}",
                process.output()
            );
            sleep(Duration::from_millis(5)).await;
        }
        if !process.is_running() {
            break;
        }
        process.kill();
        kills += 1;
        if record().await["recovered"].is_array() {
            let refused = shared.run(&["rotate-keys"]).await;
            let is_told = refused.stderr.contains("`recover` goes on with what was begun");
            assert!(refused.code == Some(3) && is_told, "{refused:#?}");
        }
    }
    assert!(kills >= 3, "killed {kills} times");
    if record().await["recovered"].is_array() {
        shared.succeed(&words, "recovery finished").await;
    }
    let again = "nothing needs recovering: a key of the configuration opens every value that is stored";
    shared.succeed(&["recover"], again).await;
    expect_readable(&all, COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[]).await;
    let client = all[1].client().await;
    assert_eq!(client.value(&key(KEYS - 1)).await, plaintext(KEYS - 1, SIZE));
}

#[tokio::test]
async fn it_is_taken_back() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K2, IDENTITY]));
    let member = shared.member("a");
    restore(&direct, COUNT).await;
    kept(&shared, "2026-01-01T00:00:00Z", K1);
    // It waits for history to be compacted away, which nobody does.
    let held = shared.run(&["recover", "--timeout=1s"]).await;
    assert_eq!(held.code, Some(6), "{held:#?}");
    assert_eq!(shared.keys(), ["k2", "k1"]);
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(
        (shared.stage().await, shared.keys()),
        ("start".to_owned(), vec!["k2".to_owned()])
    );
    expect_readable(&[&member], COUNT).await;
    expect_under_the_only_key(&direct, &shared, &[]).await;
}

#[tokio::test]
async fn a_keyring_in_etcd_has_no_use_for_it() {
    let etcd = Etcd::start(Version::share()).await;
    let shared = Shared::managed(&etcd.endpoint());
    let refused = shared.run(&["recover"]).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(
        refused.stderr.contains("archive") && refused.stderr.trim().lines().count() == 1,
        "{refused:#?}"
    );
    assert_eq!(etcd.client().await.everything().await, []);
}
