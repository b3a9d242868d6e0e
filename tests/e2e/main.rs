//! A real kube-apiserver whose etcd is the proxy, and the same data read by kube-apiserver's own encryption at rest.
//!
//! Ignored by plain `cargo test`, because kube-apiserver has to be built first: `make e2e` does that and runs these.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod informer;
mod kms;
mod kube;
mod rest;
mod rotation;
mod sweep;
mod watches;

use common::config;
use common::etcd::{Etcd, free_ports};
use common::proxy;
use common::tools::Version;
use kube::{ApiServer, PLAIN_TEXT};

/// Each provider, in the order in which the tests rotate to it, with what its values start with.
const PROVIDERS: [&str; 3] = ["aescbc", "aesgcm", "secretbox"];

/// A document that writes Secrets with `PROVIDERS[writer]` and reads them with any.
fn document(writer: usize) -> String {
    let mut order = PROVIDERS;
    order[..=writer].rotate_right(1);
    let providers: Vec<_> = order
        .iter()
        .map(|provider| format!("  - {provider}: {{keys: [{{name: k1, secret: {}}}]}}\n", config::KEY))
        .collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n{}  - identity: {{}}\n",
        providers.concat()
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn what_goes_through_the_proxy_is_read_without_it_etcd_3_4() {
    through_the_proxy_then_without(Version::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn what_goes_through_the_proxy_is_read_without_it_etcd_3_5() {
    through_the_proxy_then_without(Version::V3_5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn what_was_written_without_the_proxy_is_read_through_it_etcd_3_4() {
    without_the_proxy_then_through(Version::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn what_was_written_without_the_proxy_is_read_through_it_etcd_3_5() {
    without_the_proxy_then_through(Version::V3_5).await;
}

async fn through_the_proxy_then_without(version: Version) {
    let etcd = Etcd::start(version).await;
    // The same port for every proxy, so that kube-apiserver lives through their restarts.
    let [port] = free_ports();
    let url = format!("http://127.0.0.1:{port}");
    let start = |writer| {
        proxy::Setup::new(etcd.endpoint(), document(writer))
            .listen(&[&url])
            .start()
    };
    let mut proxy = start(0);
    let api = ApiServer::start(&url, None);
    every_verb(&api);
    for (writer, provider) in PROVIDERS.into_iter().enumerate() {
        if writer > 0 {
            drop(proxy);
            proxy = start(writer);
            api.ready_again();
        }
        api.create_secret(&format!("by-{provider}"), provider);
        sealed_with(&etcd, &format!("by-{provider}"), provider).await;
    }
    only_secrets_are_sealed(&etcd).await;
    let before = api.objects();
    drop(api);
    drop(proxy);

    let alone = ApiServer::start(&etcd.endpoint(), Some(&document(0)));
    assert_eq!(alone.objects(), before);
    for provider in PROVIDERS {
        assert_eq!(alone.secret(&format!("by-{provider}")), provider);
    }
    every_verb(&alone);
}

async fn without_the_proxy_then_through(version: Version) {
    let etcd = Etcd::start(version).await;
    let mut before = String::new();
    for (writer, provider) in PROVIDERS.into_iter().enumerate() {
        let alone = ApiServer::start(&etcd.endpoint(), Some(&document(writer)));
        if writer == 0 {
            every_verb(&alone);
        }
        alone.create_secret(&format!("by-{provider}"), provider);
        sealed_with(&etcd, &format!("by-{provider}"), provider).await;
        before = alone.objects();
    }
    let proxy = proxy::Setup::new(etcd.endpoint(), document(0)).start();
    let api = ApiServer::start(proxy.url(), None);
    assert_eq!(api.objects(), before);
    for provider in PROVIDERS {
        let name = format!("by-{provider}");
        assert_eq!(api.secret(&name), provider);
        api.update_secret(&name, "updated through the proxy");
        assert_eq!(api.secret(&name), "updated through the proxy");
        sealed_with(&etcd, &name, PROVIDERS[0]).await;
    }
    every_verb(&api);
    only_secrets_are_sealed(&etcd).await;
}

/// Creates, reads, lists, updates, watches and deletes Secrets, config maps, a CRD and its objects.
fn every_verb(api: &ApiServer) {
    api.kubectl(&["apply", "--filename", "-"], kube::CRD);
    api.kubectl(&["wait", "--for=condition=Established", "crd/bears.example.test"], "");
    let mut watch = api.watch("secrets");
    for kind in ["secret", "configmap", "bear"] {
        api.kubectl(&["create", "--filename", "-"], &kube::manifest(kind, "one", "first"));
        assert_eq!(api.payload(kind, "one"), "first");
        api.kubectl(&["replace", "--filename", "-"], &kube::manifest(kind, "one", "second"));
        api.kubectl(&["apply", "--filename", "-"], &kube::manifest(kind, "two", "first"));
        api.kubectl(&["apply", "--filename", "-"], &kube::manifest(kind, "two", "second"));
        assert_eq!(api.payload(kind, "one"), "second");
        assert_eq!(api.payload(kind, "two"), "second");
        let names = api.kubectl(&["get", kind, "--output=name"], "");
        assert!(names.lines().any(|line| line.ends_with("/one")), "{names}");
        assert!(names.lines().any(|line| line.ends_with("/two")), "{names}");
        api.kubectl(&["delete", kind, "one"], "");
        let names = api.kubectl(&["get", kind, "--output=name"], "");
        assert!(!names.lines().any(|line| line.ends_with("/one")), "{names}");
        api.kubectl(&["label", kind, "two", "kept=yes", "--overwrite"], "");
    }
    let secret = |value| kube::base64(value);
    watch.expect(&[
        &format!("ADDED one {}", secret("first")),
        &format!("MODIFIED one {}", secret("second")),
        &format!("ADDED two {}", secret("first")),
        &format!("MODIFIED two {}", secret("second")),
        &format!("DELETED one {}", secret("second")),
    ]);
    // So that the next caller finds none of them.
    api.kubectl(&["delete", "secret,configmap,bear", "two"], "");
}

/// The Secret lies in etcd as `provider` seals it.
async fn sealed_with(etcd: &Etcd, name: &str, provider: &str) {
    let stored = etcd
        .client()
        .await
        .value(&format!("/registry/secrets/default/{name}"))
        .await;
    let start = String::from_utf8_lossy(&stored[..stored.len().min(40)]).into_owned();
    assert!(
        config::is_sealed_with(&stored, provider),
        "{name} is not sealed with {provider}: {start:?}"
    );
}

/// Every Secret is sealed, nothing else is, and no Secret's text is to be found in any value.
async fn only_secrets_are_sealed(etcd: &Etcd) {
    let stored = etcd.client().await.everything().await;
    let (secrets, others): (Vec<_>, Vec<_>) = stored.iter().partition(|kv| kv.key.starts_with(b"/registry/secrets/"));
    assert!(secrets.len() >= PROVIDERS.len());
    assert!(
        others.len() > 20,
        "a kube-apiserver writes more than {} keys",
        others.len()
    );
    for kv in secrets {
        assert!(
            kv.value.starts_with(b"k8s:enc:"),
            "{:?} lies in etcd in clear",
            String::from_utf8_lossy(&kv.key)
        );
    }
    for kv in others {
        let key = String::from_utf8_lossy(&kv.key);
        assert!(
            !kv.value.starts_with(b"k8s:enc:"),
            "{key:?} is sealed, and no rule names it"
        );
        let holds_secret = kv
            .value
            .windows(PLAIN_TEXT.len())
            .any(|window| window == PLAIN_TEXT.as_bytes());
        assert!(!holds_secret, "{key:?} holds a Secret's text");
    }
}
