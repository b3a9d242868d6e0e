//! `abort` where the file is not the one that the rotation left: etcd was restored from a snapshot of an earlier stage, or somebody
//! has put a key first by hand. It takes away what the rotation brought, and no key writes again that the rotation did not replace.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{SIZE, expect_all_under};
use crate::common::config::KEY_2;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, replace};
use crate::common::rotation::{Outcome, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

const COUNT: usize = 40;
const ROTATED: &str = "keys rotated, reencryption finished";

/// The secret of a key, in a file as commands write it.
fn secret_of(text: &str, name: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let is_name = |line: &str| line.strip_prefix("- name: ").map(|name| name.trim_matches('"')) == Some(name);
    lines.find(|line| is_name(line)).expect("the key");
    let secret = lines.next().and_then(|line| line.strip_prefix("secret: "));
    secret.expect("its secret").trim_matches('"').to_owned()
}

/// A file that somebody has written by hand: aescbc keys, of which the first writes.
fn by_hand(keys: &[(&str, String)]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|(name, secret)| format!("{{name: \"{name}\", secret: {secret}}}"))
        .collect();
    document(&[&format!("{{aescbc: {{keys: [{}]}}}}", keys.join(", ")), IDENTITY])
}

/// Runs it, and again while a member has not loaded the file yet: code 4, as it says itself.
async fn once_loaded(shared: &Shared, words: &[&str]) -> Outcome {
    let start = Instant::now();
    loop {
        let outcome = shared.run(words).await;
        if outcome.code != Some(4) || start.elapsed() > PATIENCE {
            return outcome;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// What everything is stored under once `abort` is done, and what the file holds then; and a rotation can be had again.
async fn expect_taken_back(shared: &Shared, proxy: &Proxy, etcd: &Etcd, writes: &str) {
    let aborted = once_loaded(shared, &["abort", "--compact"]).await;
    assert_eq!(
        (aborted.code, aborted.stdout.lines().next()),
        (Some(0), Some("rotation aborted")),
        "{aborted:#?}"
    );
    // k1 is no key of the rotation's making: it stays, and reads.
    assert_eq!(shared.keys(), [writes, "k1"], "{}", shared.text());
    let status = shared.status().await;
    assert_eq!(status["stage"], "start", "{status:#}");
    assert_eq!(status["activekey"], format!("AES-CBC {writes}"), "{status:#}");
    let direct = etcd.client().await;
    expect_all_under(&direct, &[proxy], COUNT, writes).await;
    let client = proxy.client().await;
    client.put("/registry/secrets/default/later", "later").await;
    let stored = direct.value("/registry/secrets/default/later").await;
    let under = format!("k8s:enc:aescbc:v1:{writes}:");
    assert!(stored.starts_with(under.as_bytes()), "{}", stored.escape_ascii());

    let nothing = shared.run(&["abort"]).await;
    assert_eq!(nothing.code, Some(3), "{nothing:#?}");
    shared.succeed(&["rotate-keys", "--compact"], ROTATED).await;
    let keys = shared.keys();
    assert!(![writes, "k1"].contains(&&*keys[0]), "{keys:?}");
    expect_all_under(&direct, &[proxy], COUNT, &keys[0]).await;
}

/// A snapshot of the stage `prepare` is put back two rotations later: its record says that k1 writes, and is to be replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_retired_does_not_write_again_by_an_older_record() {
    let mut etcd = Etcd::start(Version::share()).await;
    fill(&etcd.client().await, COUNT, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxy = shared.member("a");
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    let prepared = shared.text();
    let fresh = shared.keys()[1].clone();
    etcd.kill_or_stop();
    etcd.back_up();
    etcd.spawn();
    etcd.ready().await;
    let rotated: [(&[&str], &str); 3] = [
        (&["rotate"], "rotate completed successfully"),
        (&["reencrypt", "--compact"], "reencryption started"),
        (&["rotate-keys", "--compact"], ROTATED),
    ];
    for (words, line) in rotated {
        let rotated = once_loaded(&shared, words).await;
        assert_eq!(
            (rotated.code, rotated.stdout.lines().next()),
            (Some(0), Some(line)),
            "{rotated:#?}"
        );
    }
    let now = shared.keys()[0].clone();
    assert!(now != fresh && shared.keys().len() == 1, "{:?}", shared.keys());

    etcd.kill_or_stop();
    etcd.restore();
    etcd.spawn();
    etcd.ready().await;
    // What the snapshot needs is listed again, behind the key that writes now.
    let file = by_hand(&[
        (&now, secret_of(&shared.text(), &now)),
        ("k1", secret_of(&prepared, "k1")),
        (&fresh, secret_of(&prepared, &fresh)),
    ]);
    replace(&shared.path(), &file);
    expect_taken_back(&shared, &proxy, &etcd, &now).await;
}

/// k1 has leaked while a rotation was prepared: birch is put first by hand, and all values are stored under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_leaked_does_not_write_again_in_place_of_the_one_put_first_by_hand() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, COUNT, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    // It sweeps when it has loaded something else than what the last sweep was of.
    let proxy = shared.member("a");
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    let prepared = shared.text();
    let fresh = shared.keys()[1].clone();
    let file = by_hand(&[
        ("birch", KEY_2.to_owned()),
        ("k1", secret_of(&prepared, "k1")),
        (&fresh, secret_of(&prepared, &fresh)),
    ]);
    replace(&shared.path(), &file);
    let start = Instant::now();
    let is_under_birch = |value: &Vec<u8>| value.starts_with(b"k8s:enc:aescbc:v1:birch:");
    while !super::secrets(&direct).await.iter().all(is_under_birch) {
        assert!(start.elapsed() < PATIENCE, "it is not swept:\n{}", proxy.output());
        sleep(Duration::from_millis(50)).await;
    }
    expect_taken_back(&shared, &proxy, &etcd, "birch").await;
}
