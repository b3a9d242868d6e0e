//! The audit log of a running proxy: what is in it after things that somebody may have to account for.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::pki::Pki;
use crate::common::proxy::Setup;
use crate::common::tools::Version;

const SECRET: &str = "/registry/secrets/default/a";

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The first line that is about `event`.
fn event(path: &Path, event: &str) -> Option<Value> {
    lines(path).into_iter().find(|line| line["event"] == event)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_proxy_is_in_its_audit_log() {
    let etcd = Etcd::start(Version::V3_5).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    let mut proxy = Setup::new(etcd.endpoint(), config::secrets())
        .listen(&["http://127.0.0.1:0", "https://127.0.0.1:0"])
        .flag(format!("--audit-log-path={}", path.display()))
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .flag(format!("--trusted-ca-file={}", pki.ca.display()))
        .flag("--client-cert-auth")
        .start();
    let client = Client::connect(&proxy.urls()[0]).await;
    client.put(SECRET, "value").await;
    assert_eq!(client.value(SECRET).await, b"value");

    // A value under a key that is not there, read often.
    let foreign = b"k8s:enc:aescbc:v1:k0:never to be shown".to_vec();
    etcd.client()
        .await
        .put("/registry/secrets/default/b", foreign.clone())
        .await;
    for _ in 0..5 {
        assert_eq!(client.value("/registry/secrets/default/b").await, foreign);
    }
    let state = RangeRequest {
        key: b"/etcd-encryption-proxy/x".to_vec(),
        ..RangeRequest::default()
    };
    assert!(client.kv().range(state).await.is_err());
    http::post(&proxy.urls()[0], "/v3/kv/range", "{}").await.unwrap();
    assert!(
        Client::try_connect_tls(&proxy.urls()[1], pki.anonymous_tls())
            .await
            .is_none()
    );
    // A configuration that is refused, and one that is not.
    let document = proxy.folder().join("encryption.yaml");
    fs::write(&document, "nothing").unwrap();
    proxy
        .process()
        .wait_for("a refusal", |_| event(&path, "reload_refused"));
    fs::write(&document, config::everything()).unwrap();
    proxy.process().wait_for("a second configuration", |_| {
        let loaded = lines(&path)
            .into_iter()
            .filter(|line| line["event"] == "configuration_loaded");
        (loaded.count() == 2).then_some(())
    });
    proxy
        .process()
        .wait_for("a key's first use", |_| event(&path, "key_first_used"));
    drop(client);
    proxy.process().signal("TERM");
    assert!(proxy.process().wait().success());

    let all = lines(&path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("never to be shown") && !text.contains(config::KEY),
        "{text}"
    );
    assert_eq!(
        (&all[0]["event"], &all[1]["event"]),
        (&json!("started"), &json!("configuration_loaded"))
    );
    let rules = json!([{"resource": "secrets", "providers": [
        {"provider": "aescbc", "keys": ["k1"]},
        {"provider": "identity", "keys": []},
    ]}]);
    assert_eq!(all[1]["rules"], rules);
    assert!(proxy.output().contains(all[1]["fingerprint"].as_str().unwrap()));
    let of = |event| {
        all.iter()
            .filter(|line| line["event"] == event)
            .cloned()
            .collect::<Vec<_>>()
    };
    let used = [of("key_first_used"), of("key_last_used")].concat();
    assert!(
        used.len() == 2
            && used
                .iter()
                .all(|line| line["provider"] == "aescbc" && line["key"] == "k1"),
        "{used:?}"
    );

    let unopened = of("undecryptable_value");
    assert_eq!(unopened.len(), 2, "{unopened:?}");
    assert!(unopened.iter().all(|line| {
        line["key"] == "/registry/secrets/default/b" && line["provider"] == "aescbc" && line["key_name"] == "k0"
    }));
    assert_eq!(unopened[1]["count"], 4);
    let refused: Vec<_> = of("access_refused");
    assert!(refused.iter().all(|line| line["peer"] == "127.0.0.1"), "{refused:?}");
    for (reason, request) in [
        ("state_prefix", "/etcdserverpb.KV/Range"),
        ("json_gateway", "/v3/kv/range"),
        ("tls", "TLS handshake"),
    ] {
        assert!(
            refused
                .iter()
                .any(|line| line["reason"] == reason && line["request"] == request),
            "{refused:?}"
        );
    }
    assert_eq!(all.last().unwrap()["event"], "key_last_used");
    assert_eq!(of("stopped").len(), 1);
}

#[test]
fn a_log_that_cannot_be_written_is_a_reason_not_to_start() {
    let setup = Setup::new("http://127.0.0.1:1", config::secrets());
    let (ended, output) = setup.flag("--audit-log-path=/nowhere/audit.log").refused();
    assert!(!ended.success() && output.contains("/nowhere/audit.log"), "{output}");
}
