//! What is aimed at the wrong place: a proxy in etcd's place, another state prefix than the proxies', a prefix below which nothing
//! lies. Refused before anything is changed, with words that name the flag.

use std::fs;
use std::time::Instant;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::rotation::{Outcome, Shared};
use crate::common::sweep::{self, IDENTITY, K1, Sweep};
use crate::common::tools::Version;

const MISPLACED: Option<i32> = Some(9);

/// A configuration that some verb is given, no proxy's own.
fn copy_at(endpoints: &str) -> Shared {
    Shared::on(endpoints, &sweep::document(&[K1, IDENTITY]))
}

/// Everything in `etcd`, with revisions.
async fn stored(etcd: &Etcd) -> Vec<(Vec<u8>, i64)> {
    let mut all = etcd.client().await.everything().await;
    // Those come and go by themselves.
    all.retain(|kv| !kv.key.starts_with(b"/etcd-encryption-proxy/"));
    all.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect()
}

/// Fails unless `outcome` is a refusal that says all of `words`, and nothing was changed.
async fn refused(outcome: &Outcome, words: &[&str], shared: &Shared, etcd: &Etcd, before: &[(Vec<u8>, i64)]) {
    assert_eq!(outcome.code, MISPLACED, "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?}: {outcome:#?}");
    }
    assert_eq!(shared.text(), sweep::document(&[K1, IDENTITY]), "{outcome:#?}");
    let folder = shared.path().parent().unwrap().to_owned();
    let kept = fs::read_dir(folder).unwrap().count();
    assert_eq!(kept, 1, "a copy of the file was kept, so it was changed: {outcome:#?}");
    assert_eq!(stored(etcd).await, before, "{outcome:#?}");
}

async fn put(client: &Client, count: usize) {
    for index in 0..count {
        client.put(format!("/registry/secrets/default/{index}"), "plain").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_etcd_s_place_is_found_before_anything_is_written() {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Setup::new(etcd.endpoint(), sweep::document(&[K1, IDENTITY]))
        .member("one")
        .start();
    put(&proxy.client().await, 3).await;
    let before = stored(&etcd).await;
    let shared = copy_at(proxy.url());
    let says = ["is an etcd-encryption-proxy", "--etcd-servers"];
    for words in [
        &["rotate-keys"][..],
        &["prepare"],
        &["disable"],
        &["abort", "--forget"],
        &["recover"],
        &["rotate-keys", "--dry-run"],
    ] {
        refused(&shared.run(words).await, &says, &shared, &etcd, &before).await;
    }
    let status = shared.run(&["status"]).await;
    assert_eq!(status.code, MISPLACED, "{status:#?}");
    for sweep in [
        Sweep::on(proxy.url(), &[K1, IDENTITY]),
        Sweep::on(proxy.url(), &[K1, IDENTITY]).flag("--dry-run"),
    ] {
        let outcome = sweep.run().await;
        assert_eq!(outcome.code, MISPLACED, "{outcome:#?}");
        assert_eq!(
            outcome.stderr.matches("is an etcd-encryption-proxy").count(),
            1,
            "once: {outcome:#?}"
        );
    }
    assert_eq!(stored(&etcd).await, before);
    for setup in [
        Setup::new(proxy.url(), config::secrets()),
        Setup::new(proxy.url(), config::secrets()).member("two"),
    ] {
        let (status, output) = setup.refused();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains("is an etcd-encryption-proxy"), "{output}");
    }
}

/// Of several members one is a proxy: the others are used, and it never is.
#[tokio::test(flavor = "multi_thread")]
async fn among_members_a_proxy_is_passed_over() {
    let etcd = Etcd::start(Version::V3_4).await;
    let first = Proxy::before(&etcd, config::secrets());
    let both = format!("{},{}", first.url(), etcd.endpoint());
    let second = Setup::new(both, config::secrets()).flag("--threads=4").start();
    for index in 0..20 {
        // A connection each, so that every thread has its turn.
        let client = second.client().await;
        let key = format!("/registry/secrets/default/{index}");
        client.put(key.clone(), "plain").await;
        assert_eq!(first.client().await.value(&key).await, b"plain", "it is sealed once");
    }
    let output = second.output();
    assert!(output.contains("is an etcd-encryption-proxy"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_state_prefix_than_the_proxies_have_is_found_before_anything_is_written() {
    let etcd = Etcd::start(Version::V3_5).await;
    let proxy = Setup::new(etcd.endpoint(), sweep::document(&[K1, IDENTITY]))
        .member("one")
        .start();
    put(&proxy.client().await, 3).await;
    let before = stored(&etcd).await;
    let shared = copy_at(&etcd.endpoint());
    let says = [
        "--state-prefix=/other/",
        "one (",
        "--state-prefix=/etcd-encryption-proxy/",
    ];
    for words in [
        &["rotate-keys", "--compact"][..],
        &["prepare"],
        &["rotate", "--force"],
        &["enable"],
        &["reencrypt", "--all"],
    ] {
        let words = [words, &["--state-prefix=/other/"]].concat();
        refused(&shared.run(&words).await, &says, &shared, &etcd, &before).await;
    }
    let outcome = Sweep::of(&etcd, &[K1, IDENTITY])
        .flag("--state-prefix=/other/")
        .run()
        .await;
    assert_eq!(outcome.code, MISPLACED, "{outcome:#?}");
    // Who serves other keys of this etcd has one of its own.
    etcd.client()
        .await
        .put("/other-cluster/secrets/default/a", "plain")
        .await;
    let beside = ["prepare", "--state-prefix=/other/", "--etcd-prefix=/other-cluster"];
    let outcome = shared.run(&beside).await;
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    // With the proxy gone there is nobody to ask.
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_below_which_nothing_lies_is_found_before_the_file_is_changed() {
    let etcd = Etcd::start(Version::V3_5).await;
    put(&etcd.client().await, 3).await;
    let before = stored(&etcd).await;
    let shared = copy_at(&etcd.endpoint());
    let says = ["--etcd-prefix=/wrong", "/registry/secrets", "--allow-empty-store"];
    for words in [
        &["rotate-keys"][..],
        &["prepare"],
        &["disable"],
        &["reencrypt", "--force"],
    ] {
        let words = [words, &["--etcd-prefix=/wrong"]].concat();
        refused(&shared.run(&words).await, &says, &shared, &etcd, &before).await;
    }
    let outcome = Sweep::of(&etcd, &[K1, IDENTITY])
        .flag("--etcd-prefix=/wrong")
        .run()
        .await;
    assert_eq!(outcome.code, MISPLACED, "{outcome:#?}");
    // Beside a proxy that has the right one it is named.
    let proxy = Setup::new(etcd.endpoint(), sweep::document(&[K1, IDENTITY]))
        .member("one")
        .start();
    let outcome = shared.run(&["rotate-keys", "--etcd-prefix=/wrong"]).await;
    refused(
        &outcome,
        &["its proxies have --etcd-prefix=/registry"],
        &shared,
        &etcd,
        &before,
    )
    .await;
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_to_be_meant_where_no_proxy_says_that_it_is_the_right_one() {
    let etcd = Etcd::start(Version::V3_4).await;
    let shared = copy_at(&etcd.endpoint());
    let outcome = shared.run(&["prepare"]).await;
    refused(
        &outcome,
        &["which is empty", "--allow-empty-store"],
        &shared,
        &etcd,
        &[],
    )
    .await;
    let sweep = || Sweep::of(&etcd, &[K1, IDENTITY]);
    assert_eq!(sweep().run().await.code, MISPLACED);
    assert_eq!(sweep().flag("--allow-empty-store").run().await.code, Some(0));
    let outcome = shared.run(&["prepare", "--allow-empty-store"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    // A proxy that has this prefix says so.
    let _proxy = shared.member("one");
    let outcome = shared.run(&["rotate"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
}

/// kube-apiserver reads `cilium/` as `/cilium`, whose keys are not Cilium's.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_what_its_prefix_became_and_that_nothing_lies_below_it() {
    let etcd = Etcd::start(Version::V3_5).await;
    etcd.client()
        .await
        .put("cilium/state/identities/v1/id/1", "plain")
        .await;
    let setup = Setup::new(etcd.endpoint(), config::everything()).flag("--etcd-prefix=cilium/");
    let proxy = setup.member("one").start();
    let since = Instant::now();
    loop {
        let output = proxy.output();
        if output.contains("no key begins with /cilium/") && output.contains("keys that begin with cilium/") {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{output}");
    }
    // And nothing where all is well.
    let etcd = Etcd::start(Version::V3_5).await;
    put(&etcd.client().await, 1).await;
    etcd.client()
        .await
        .put("cilium/state/identities/v1/id/1", "plain")
        .await;
    let proxy = Setup::new(etcd.endpoint(), config::secrets()).member("one").start();
    proxy.client().await.put("/registry/secrets/default/x", "plain").await;
    assert!(!proxy.output().contains("no key begins with"), "{}", proxy.output());
}
