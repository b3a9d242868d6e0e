//! What a plugin's Decrypt may answer, code by code: two of them speak of the value, and all others of the way to its key. An
//! outage is never taken for corruption, whoever reads; and what was counted as lost is counted anew when the plugin is well.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tonic::Code;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::sweep::Sweep;
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

const SECRET: &str = "/registry/secrets/default/a";
const PLAIN_TEXT: &[u8] = b"k8s\0not-for-the-disk";

/// Those that speak of what the plugin was given.
const OF_THE_VALUE: [Code; 2] = [Code::InvalidArgument, Code::DataLoss];

fn range(end: bool) -> RangeRequest {
    RangeRequest {
        key: SECRET.into(),
        range_end: if end {
            b"/registry/secrets0".to_vec()
        } else {
            Vec::new()
        },
        ..RangeRequest::default()
    }
}

/// The number in a line of metrics, 0 where there is none.
fn number(metrics: &str, name: &str) -> u64 {
    let found = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    found.unwrap_or_default()
}

/// Writes until it works: a v2 plugin is asked for its key first.
async fn put_in_the_end(client: &Client) {
    let request = || crate::common::pb::etcdserverpb::PutRequest {
        key: SECRET.into(),
        value: PLAIN_TEXT.into(),
        ..Default::default()
    };
    let work = async {
        while client.kv().put(request()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("a write");
}

async fn wait(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let work = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, work).await.expect(what);
}

async fn every_code(version: &str) {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    // No key stays at hand: v1 keeps none, and v2 has none before Decrypt works.
    let more = if version == "v1" {
        "timeout: 1s, cachesize: -1"
    } else {
        "timeout: 1s"
    };
    let document = plugin.document_with("secrets", version, more);
    let writer = Setup::new(etcd.endpoint(), document.as_str()).start();
    put_in_the_end(&writer.client().await).await;
    drop(writer);
    let stored = etcd.client().await.value(SECRET).await;

    plugin.behaviour().decrypt_error = Some(Code::Unavailable);
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("audit.log");
    let proxy = Setup::new(etcd.endpoint(), document.as_str())
        .flag(format!("--audit-log-path={}", log.display()))
        .start();
    let client = proxy.client().await;
    let kms = format!(
        "{{kms: {{apiVersion: {version}, name: plugin, endpoint: '{}', timeout: 1s}}}}",
        plugin.endpoint()
    );
    let codes = (1..=16).map(Code::from_i32);
    let (of_the_value, outages): (Vec<_>, Vec<_>) = codes.partition(|code| OF_THE_VALUE.contains(code));
    for code in outages {
        plugin.behaviour().decrypt_error = Some(code);
        for is_list in [false, true] {
            let status = client.kv().range(range(is_list)).await.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition, "{version} {code:?}: {status}");
            assert!(status.message().contains("the key is not to be had"), "{status}");
        }
        let mut watch = Watch::open(&client, all_under("/registry/secrets/", 1)).await;
        let events = watch.events(1).await;
        assert_eq!(events[0].kv.as_ref().map(|kv| &kv.value), Some(&stored), "{code:?}");
        let outcome = Sweep::of(&etcd, &[&kms]).flag("--max-wait=1s").run().await;
        assert!(
            ![Some(0), Some(4)].contains(&outcome.code),
            "{version} {code:?}: {outcome:#?}"
        );
        assert!(
            outcome.stderr.contains("the key is not to be had"),
            "{code:?}: {outcome:#?}"
        );
    }
    let metrics = proxy.metrics().await;
    assert_eq!(number(&metrics, "etcd_encryption_proxy_undecryptable_values_total"), 0);
    assert_eq!(number(&metrics, "etcd_encryption_proxy_unopened_values"), 0);
    assert!(
        number(&metrics, "etcd_encryption_proxy_unavailable_values_total") > 0,
        "{metrics}"
    );
    let told = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("undecryptable_value")
    };
    assert!(!told(), "the audit log tells of no value");

    for code in of_the_value {
        plugin.behaviour().decrypt_error = Some(code);
        for is_list in [false, true] {
            let answer = client.range(range(is_list)).await;
            assert_eq!(answer.kvs[0].value, stored, "{version} {code:?}");
        }
        // A sweep needs a plugin that unwraps what it wraps to write, and none to look.
        let outcome = Sweep::of(&etcd, &[&kms]).flag("--dry-run").run().await;
        let provider = format!("kms {version}");
        assert_eq!(outcome.objects("undecryptable", &provider, "plugin"), 1, "{outcome:#?}");
    }
    let metrics = proxy.metrics().await;
    assert!(
        number(&metrics, "etcd_encryption_proxy_undecryptable_values_total") >= 4,
        "{metrics}"
    );
    assert_eq!(number(&metrics, "etcd_encryption_proxy_unopened_values"), 1);
    wait("the audit log tells of the value", async || told()).await;
    plugin.behave();
    assert_eq!(client.value(SECRET).await, PLAIN_TEXT);
}

#[tokio::test]
async fn no_outage_of_a_v1_plugin_is_taken_for_corruption() {
    every_code("v1").await;
}

#[tokio::test]
async fn no_outage_of_a_v2_plugin_is_taken_for_corruption() {
    every_code("v2").await;
}

/// Where a plugin has blamed the value for what was its own fault, nobody has to ask for another look.
#[tokio::test]
async fn what_was_counted_as_lost_is_counted_anew_when_the_plugin_is_well() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let document = plugin.document_with("secrets", "v1", "timeout: 1s, cachesize: -1");
    let writer = Setup::new(etcd.endpoint(), document.as_str()).start();
    put_in_the_end(&writer.client().await).await;
    drop(writer);

    plugin.behaviour().decrypt_error = Some(Code::InvalidArgument);
    let proxy = Setup::new(etcd.endpoint(), document.as_str()).member("a").start();
    let client = proxy.client().await;
    client.range(range(false)).await;
    let unopened = async || number(&proxy.metrics().await, "etcd_encryption_proxy_unopened_values");
    let sweep = async || {
        http::get(&proxy.metrics_url(), "/readyz/sweep")
            .await
            .map(|answer| answer.body)
            .unwrap_or_default()
    };
    assert_eq!(unopened().await, 1);
    wait("a sweep has looked", async || {
        sweep().await.contains("opened by no key")
    })
    .await;
    wait("the plugin is known to be ill", async || {
        let ready = http::get(&proxy.metrics_url(), "/readyz?verbose")
            .await
            .map(|answer| answer.body);
        ready.is_ok_and(|text| text.contains("the key is not to be had"))
    })
    .await;
    plugin.behave();
    wait("it is counted anew", async || unopened().await == 0).await;
    wait("and proven", async || {
        sweep().await.contains("every value is as the rules write it")
    })
    .await;
    assert_eq!(client.value(SECRET).await, PLAIN_TEXT);
}

/// kube-apiserver's check asks for the Status alone.
#[tokio::test]
async fn a_v2_plugin_that_refuses_decrypt_alone_is_named_with_its_words() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let proxy = Proxy::before(&etcd, plugin.document("secrets", "v2"));
    put_in_the_end(&proxy.client().await).await;
    plugin.behaviour().decrypt_error = Some(Code::PermissionDenied);
    wait("readyz names it", async || {
        let ready = http::get(&proxy.metrics_url(), "/readyz?verbose")
            .await
            .map(|answer| answer.body);
        ready.is_ok_and(|text| {
            text.contains("Decrypt of the seed in use failed") && text.contains("the key is not to be had")
        })
    })
    .await;
}
