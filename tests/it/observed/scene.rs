//! A proxy at work: every kind of provider, both versions of KMS, TLS on both sides, reads that are stale or fail, a watch,
//! and a request that is refused.

use std::time::Duration;

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::config::{KEY, KEY_2};
use crate::common::etcd::{self, Etcd};
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::pki::Pki;
use crate::common::proxy::{Proxy, Setup};
use crate::common::sweep;
use crate::common::tools::Version;
use crate::common::watch::{Watch, all_under};

/// It and all that it needs.
pub struct Scene {
    pub proxy: Proxy,
    client: Client,
    /// Another proxy, before an etcd of its own, that has swept it.
    pub sweeper: Proxy,
    plugin: Plugin,
    _etcds: [Etcd; 2],
    watch: Watch,
}

impl Scene {
    /// Starts everything and has some traffic.
    pub async fn start() -> Self {
        let etcd = etcd::Setup::new(Version::V3_5).with_tls().start().await;
        let plugin = Plugin::start();
        let direct = etcd.client().await;
        // In the clear, under a key that nobody has, and broken.
        direct.put("/registry/secrets/old", "in the clear").await;
        direct
            .put(
                "/registry/secrets/lost",
                "k8s:enc:aescbc:v1:lost:0123456789abcdef0123456789abcdef",
            )
            .await;
        let setup = Setup::new(etcd.endpoint(), document(&plugin));
        let pki = Pki::generate(setup.folder(), &["127.0.0.1", "localhost"]);
        let upstream = etcd.pki();
        let proxy = setup
            .flag(format!("--etcd-cafile={}", upstream.ca.display()))
            .flag(format!("--etcd-certfile={}", upstream.client_cert.display()))
            .flag(format!("--etcd-keyfile={}", upstream.client_key.display()))
            .flag(format!("--cert-file={}", pki.server_cert.display()))
            .flag(format!("--key-file={}", pki.server_key.display()))
            .flag("--threads=2")
            .listen(&["https://127.0.0.1:0"])
            .start();
        let client = Client::connect_tls(proxy.url(), pki.client_tls()).await;
        let mut watch = Watch::open(&client, all_under("/registry/", 0)).await;
        assert!(watch.next().await.created);
        let swept = Etcd::start(Version::V3_5).await;
        swept.client().await.put("/registry/secrets/old", "in the clear").await;
        let sweeper = Setup::new(swept.endpoint(), sweep::document(&[sweep::K1, sweep::IDENTITY]))
            .member("sweeper")
            .start();
        while !sweeper.metrics().await.contains("sweep_state{state=\"done\"} 1") {
            sleep(Duration::from_millis(50)).await;
        }
        let mut scene = Self {
            proxy,
            client,
            plugin,
            watch,
            sweeper,
            _etcds: [etcd, swept],
        };
        scene.traffic().await;
        scene
    }

    /// Writes and reads a value of each kind.
    pub async fn traffic(&mut self) {
        for resource in ["secrets", "configmaps", "pods", "events"] {
            let key = format!("/registry/{resource}/default/a");
            self.client.put(key.as_str(), "value").await;
            assert_eq!(self.client.value(&key).await, b"value", "{resource}");
        }
        // Their values have been opened once more for the watch.
        self.watch.events(4).await;
        assert_eq!(self.client.value("/registry/secrets/old").await, b"in the clear");
        self.client.get("/registry/secrets/lost").await;
        let own = RangeRequest {
            key: b"/etcd-encryption-proxy/x".to_vec(),
            ..RangeRequest::default()
        };
        assert!(self.client.kv().range(own).await.is_err());
    }

    /// The figures of one round of traffic.
    pub fn check_values(metrics: &str) {
        let named = "k-2026-01-02T03:04:05Z";
        // The first value was sealed twice: before it was known whether it may be written, and, as there are KMS plugins, anew then.
        for line in [
            r#"apiserver_storage_transformation_operations_total{resource="pods",transformation_type="to_storage",transformer_prefix="k8s:enc:kms:v1:one:",status="OK"} 1"#,
            r#"apiserver_storage_transformation_operations_total{resource="configmaps",transformation_type="from_storage",transformer_prefix="k8s:enc:kms:v2:two:",status="OK"} 2"#,
            r#"apiserver_storage_transformation_duration_seconds_count{transformation_type="to_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 2"#,
            r#"etcd_encryption_proxy_values_opened_total{resource="secrets",provider="identity",key="",stale="true"} 1"#,
            "etcd_encryption_proxy_undecryptable_values_total 1",
            r#"etcd_encryption_proxy_refused_total{reason="state_prefix"} 1"#,
            r#"etcd_encryption_proxy_requests_total{rpc="Put",code="OK"} 4"#,
            r#"etcd_encryption_proxy_requests_total{rpc="Range",code="PermissionDenied"} 1"#,
            r#"etcd_encryption_proxy_added_latency_seconds_count{rpc="Put"} 4"#,
            r#"etcd_encryption_proxy_upstream_latency_seconds_count{rpc="Range"} 6"#,
            "etcd_encryption_proxy_open_watches 1",
            r#"etcd_encryption_proxy_inflight_requests{rpc="Watch"} 1"#,
            "etcd_encryption_proxy_client_connections 1",
            &format!(r#"etcd_encryption_proxy_key_writes_total{{provider="aesgcm",key="{named}"}} 2"#),
            &format!(
                r#"etcd_encryption_proxy_key_created_timestamp_seconds{{provider="aesgcm",key="{named}"}} 1767323045"#
            ),
        ] {
            assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
        }
    }

    /// What an operator and bad luck bring: a changed configuration.
    pub async fn make_events(&self) {
        self.proxy
            .replace_config(&format!("{}# changed\n", document(&self.plugin)));
        let expected = "apiserver_encryption_config_controller_automatic_reloads_total{status=\"success\"";
        while !self.proxy.metrics().await.contains(expected) {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn document(plugin: &Plugin) -> String {
    let endpoint = plugin.endpoint();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: EncryptionConfiguration\n\
         resources:\n\
         - resources: [secrets]\n  \
           providers:\n  \
           - aesgcm: {{keys: [{{name: 'k-2026-01-02T03:04:05Z', secret: {KEY}}}]}}\n  \
           - aescbc: {{keys: [{{name: k1, secret: {KEY_2}}}]}}\n  \
           - identity: {{}}\n\
         - resources: [configmaps]\n  \
           providers:\n  \
           - kms: {{apiVersion: v2, name: two, endpoint: '{endpoint}', timeout: 3s}}\n\
         - resources: [pods]\n  \
           providers:\n  \
           - kms: {{apiVersion: v1, name: one, endpoint: '{endpoint}', timeout: 3s}}\n\
         - resources: [events]\n  \
           providers:\n  \
           - secretbox: {{keys: [{{name: s1, secret: {KEY}}}]}}\n"
    )
}
