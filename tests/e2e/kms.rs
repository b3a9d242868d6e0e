//! KMS v1: one plugin for kube-apiserver alone and for the proxy before it.
//!
//! kube-apiserver 1.20 writes and reads the bodies of such values with AES-CBC alone, the proxy writes AES-GCM as
//! Kubernetes does since 1.25, and reads both: what the old one wrote is read here, and not the other way round. That
//! what is written here is what Kubernetes since 1.25 writes, is held by vectors.

use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::proxy;
use crate::common::tools::Version;
use crate::kube::ApiServer;
use crate::{every_verb, only_secrets_are_sealed};

/// What every value begins with.
const SEALED: &[u8] = b"k8s:enc:kms:v1:plugin:";

/// 1.20 knows no other version, and no field to name one.
fn document(plugin: &Plugin) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  \
         - kms: {{name: plugin, endpoint: '{}', cachesize: 100, timeout: 3s}}\n  - identity: {{}}\n",
        plugin.endpoint()
    )
}

async fn stored(etcd: &Etcd, name: &str) -> Vec<u8> {
    let key = format!("/registry/secrets/default/{name}");
    etcd.client().await.value(&key).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: make e2e"]
async fn what_was_written_with_kms_v1_without_the_proxy_is_read_through_it() {
    let etcd = Etcd::start(Version::V3_4).await;
    // 1.20 sends the socket's path as `:authority`, which this plugin's server, like any in Rust, refuses unless it looks
    // like a host's name; that of an abstract socket does.
    let plugin = Plugin::start_abstract();
    let alone = ApiServer::start(&etcd.endpoint(), Some(&document(&plugin)));
    every_verb(&alone);
    for name in ["one-more", "two-more", "three-more"] {
        alone.create_secret(name, "by kube-apiserver");
        assert!(stored(&etcd, name).await.starts_with(SEALED));
    }
    let before = alone.objects();
    drop(alone);

    let proxy = proxy::Setup::new(etcd.endpoint(), document(&plugin)).start();
    let api = ApiServer::start(proxy.url(), None);
    assert_eq!(api.objects(), before);
    let wrapped = plugin.counts().encrypts();
    for name in ["one-more", "two-more"] {
        assert_eq!(api.secret(name), "by kube-apiserver");
        api.update_secret(name, "through the proxy");
        assert_eq!(api.secret(name), "through the proxy");
        assert!(stored(&etcd, name).await.starts_with(SEALED));
    }
    assert!(plugin.counts().encrypts() >= wrapped + 2, "a key for each write");
    every_verb(&api);
    only_secrets_are_sealed(&etcd).await;
}
