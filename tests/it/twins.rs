//! Runs one scenario against an etcd and against another one behind the proxy: the client must see the same, and only
//! what a rule names may lie sealed.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, Setup};
use crate::common::pb::mvccpb::KeyValue;
use crate::common::proxy;
use crate::common::tools::Version;
use crate::transcript::Transcript;

/// A configuration of the proxy, and which keys it seals.
struct Rules {
    name: &'static str,
    config: fn() -> String,
    flags: &'static [&'static str],
    seals: fn(&[u8]) -> bool,
}

const RULES: [Rules; 2] = [
    Rules {
        name: "rule secrets",
        config: config::secrets,
        flags: &[],
        seals: |key| key.starts_with(b"/registry/secrets/"),
    },
    Rules {
        name: "rule *.* under /",
        config: config::everything,
        flags: &["--etcd-prefix=/"],
        seals: |key| key.starts_with(b"/"),
    },
];

/// Runs `scenario` without the proxy and, for each set of rules, with it.
pub async fn compare(scenario: impl AsyncFn(&Client, Version) -> Transcript) {
    compare_with(|_| {}, scenario).await;
}

/// The same with etcds that were set up further.
pub async fn compare_with(setup: impl Fn(&mut Setup), scenario: impl AsyncFn(&Client, Version) -> Transcript) {
    for version in Version::ALL {
        let start = async || {
            let mut etcd = Setup::new(version);
            setup(&mut etcd);
            etcd.start().await
        };
        let plain = start().await;
        let expected = scenario(&plain.client().await, version).await;
        let plain = plain.client().await.everything().await;
        for rules in RULES {
            let name = format!("{version:?}, {}", rules.name);
            let etcd = start().await;
            let proxy = rules
                .flags
                .iter()
                .fold(proxy::Setup::new(etcd.endpoint(), (rules.config)()), |setup, &flag| {
                    setup.flag(flag)
                });
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
            assert!(config::is_sealed(&stored.value), "{name}: {key} lies in etcd in clear");
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
