//! A KMS that takes so many calls in a second and refuses the rest, as those of the clouds do: a list of values that KMS v1 has sealed,
//! each with a key of its own, gets through in the time that the KMS needs for them, and so does a sweep.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::proxy::Proxy;
use crate::common::sweep::{K1, Sweep};
use crate::common::tools::Version;

const PLAIN_TEXT: &[u8] = b"k8s\0not-for-the-disk";

/// Lists `values` that v1 has sealed, through a plugin that answers `a_second`, and then sweeps them away from it if `sweeps`: how
/// long the list took.
async fn through(values: usize, a_second: u32, sweeps: bool) -> Duration {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let document = plugin.document_with("secrets", "v1", &format!("timeout: 3s, cachesize: {}", values / 2));
    let writer = Proxy::before(&etcd, document.as_str());
    let client = writer.client().await;
    let keys: Vec<_> = (0..values)
        .map(|index| format!("/registry/secrets/default/{index:05}"))
        .collect();
    for keys in keys.chunks(50) {
        join_all(keys.iter().map(|key| client.put(key.as_str(), PLAIN_TEXT))).await;
    }
    drop(writer);
    plugin.behaviour().decrypts_a_second = Some(a_second);
    let reader = Proxy::before(&etcd, document.as_str());
    let client = reader.client().await;
    let (before, began) = (plugin.counts().decrypts(), Instant::now());
    let request = RangeRequest {
        key: b"/registry/secrets/".into(),
        range_end: b"/registry/secrets0".into(),
        ..RangeRequest::default()
    };
    let all = client.range(request).await;
    let took = began.elapsed();
    assert_eq!(all.kvs.len(), values);
    assert!(all.kvs.iter().all(|kv| kv.value == PLAIN_TEXT));
    let asked = plugin.counts().decrypts() - before;
    eprintln!("{values} values at {a_second} a second: {took:?}, {asked} calls");
    // Each refused call is one that others could have had.
    assert!(asked < 2 * values, "{asked} calls for {values} keys");
    let told = reader.output().matches("more keys are met than the cache").count();
    assert_eq!(told, 1, "{}", reader.output());
    if sweeps {
        let kms = format!(
            "{{kms: {{apiVersion: v1, name: plugin, endpoint: '{}', timeout: 3s}}}}",
            plugin.endpoint()
        );
        let outcome = Sweep::of(&etcd, &[K1, &kms]).run().await;
        outcome.expect_clean();
        assert_eq!(outcome.number("/counts/rewritten"), values as u64, "{outcome:#?}");
    }
    took
}

#[tokio::test]
async fn a_throttled_list_and_a_throttled_sweep_get_through() {
    through(200, 100, true).await;
}

/// The case that was met: 40 seconds is what the plugin needs.
#[tokio::test]
#[ignore = "takes a minute"]
async fn two_thousand_values_at_fifty_a_second() {
    let took = through(2_000, 50, false).await;
    assert!(took < Duration::from_secs(80), "{took:?}");
}
