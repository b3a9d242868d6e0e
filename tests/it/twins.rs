//! Runs one scenario against an etcd and against another one behind the proxy: the client must see the same, and only
//! what a rule names may lie sealed.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, Setup};
use crate::common::kms::Plugin;
use crate::common::pb::mvccpb::KeyValue;
use crate::common::proxy;
use crate::common::tools::Version;
use crate::transcript::Transcript;

/// A configuration of the proxy, and which keys it seals.
struct Rules {
    name: &'static str,
    config: fn(&Plugin) -> String,
    versions: &'static [Version],
    flags: &'static [&'static str],
    seals: fn(&[u8]) -> bool,
}

const RULES: [Rules; 4] = [
    Rules {
        name: "rule secrets",
        config: |_| config::secrets(),
        versions: &Version::EVERY,
        flags: &[],
        seals: |key| key.starts_with(b"/registry/secrets/"),
    },
    Rules {
        name: "rule *.* under /",
        config: |_| config::everything(),
        versions: &[Version::V3_5, Version::V3_7],
        flags: &["--etcd-prefix=/"],
        seals: |key| key.starts_with(b"/"),
    },
    Rules {
        name: "KMS v1",
        config: |plugin| plugin.document("secrets", "v1"),
        versions: &[Version::V3_4, Version::V3_6],
        flags: &[],
        seals: |key| key.starts_with(b"/registry/secrets/"),
    },
    Rules {
        name: "KMS v2",
        config: |plugin| plugin.document("secrets", "v2"),
        versions: &[Version::V3_7],
        flags: &[],
        seals: |key| key.starts_with(b"/registry/secrets/"),
    },
];

/// Runs `scenario` without the proxy and, for each set of rules, with it.
pub async fn compare(scenario: impl AsyncFn(&Client, Version) -> Transcript) {
    compare_with(|_| {}, scenario).await;
}

/// The same with etcds that were set up further.
pub async fn compare_with(setup: impl Fn(&mut Setup), scenario: impl AsyncFn(&Client, Version) -> Transcript) {
    for version in Version::all() {
        let start = async || {
            let mut etcd = Setup::new(version);
            setup(&mut etcd);
            etcd.start().await
        };
        let plain = start().await;
        let expected = scenario(&plain.client().await, version).await;
        let plain = plain.client().await.everything().await;
        for rules in RULES.iter().filter(|rules| rules.versions.contains(&version)) {
            let name = format!("{version:?}, {}", rules.name);
            let etcd = start().await;
            let plugin = Plugin::start();
            let proxy = rules.flags.iter().fold(
                proxy::Setup::new(etcd.endpoint(), (rules.config)(&plugin)),
                |setup, &flag| setup.flag(flag),
            );
            let proxy = proxy.start();
            let seen = scenario(&proxy.client().await, version).await;
            seen.assert_same(&expected, &name);
            at_rest(&etcd, &plain, rules.seals, &name).await;
        }
    }
}

/// Checks what lies in `etcd` against what lies in its twin, where nothing was sealed.
async fn at_rest(etcd: &Etcd, plain: &[KeyValue], seals: fn(&[u8]) -> bool, name: &str) {
    let stored = etcd.client().await.everything().await;
    assert_eq!(stored.len(), plain.len(), "{name}");
    for (stored, plain) in stored.iter().zip(plain) {
        let key = String::from_utf8_lossy(&plain.key);
        if seals(&plain.key) {
            assert!(is_sealed(&stored.value), "{name}: {key} lies in etcd in clear");
            let but_for_value = KeyValue {
                value: plain.value.clone(),
                ..stored.clone()
            };
            assert_eq!(but_for_value, *plain, "{name}: {key}");
        } else {
            assert_eq!(stored, plain, "{name}: {key} was not to be touched");
        }
    }
}

/// Whether one of the rules has sealed it.
fn is_sealed(value: &[u8]) -> bool {
    config::is_sealed(value)
        || value.starts_with(b"k8s:enc:kms:v1:plugin:")
        || value.starts_with(b"k8s:enc:kms:v2:plugin:")
}
