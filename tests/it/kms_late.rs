//! A KMS plugin that comes after the proxy.

use std::time::Duration;

use etcd_encryption_proxy::config::{Kms, KmsApiVersion};
use etcd_encryption_proxy::kms::{Config, Plugins};
use etcd_encryption_proxy::types::KeyName;
use tokio::runtime::Handle;

use crate::common::kms::{Plugin, Socket};
use crate::common::process::PATIENCE;

/// With what a proxy has for its configuration, so that the next look without a reason is ten seconds away.
#[tokio::test]
async fn a_plugin_that_comes_late_is_used_when_its_socket_appears() {
    for version in [KmsApiVersion::V1, KmsApiVersion::V2] {
        let mut plugin = Plugin::down();
        let plugins = Plugins::new(Handle::current(), Config::default());
        let live = plugins
            .plugin(&Kms {
                api_version: version,
                name: KeyName::new("plugin"),
                cache_size: None,
                endpoint: plugin.endpoint(),
                // Enough for a first answer on a busy machine.
                timeout: Duration::from_secs(2),
            })
            .unwrap();
        live.examined(PATIENCE).await;
        assert!(live.report().ailment.is_some());
        // The socket has been looked for in vain at least once.
        tokio::time::sleep(Duration::from_millis(400)).await;
        plugin.serve(Socket::Grpc);
        let came = std::time::Instant::now();
        while live.report().ailment.is_some() {
            // A fifth of a second is what it takes on a machine that has nothing else to do.
            assert!(
                came.elapsed() < Duration::from_secs(5),
                "{version:?}: {}",
                live.report()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
