//! The proxy with KMS plugins: what clients are told and what lies in etcd while a plugin is well, away, and back.

use std::time::Duration;

use tonic::Code;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::{Plugin, Socket};
use crate::common::pb::etcdserverpb::{PutRequest, RangeRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;

const SECRET: &str = "/registry/secrets/default/a";
const OTHER: &str = "/registry/configmaps/default/a";
const PLAIN_TEXT: &[u8] = b"not-for-the-disk";

async fn put(client: &Client, key: &str) -> Result<(), tonic::Status> {
    let request = PutRequest {
        key: key.into(),
        value: PLAIN_TEXT.into(),
        ..PutRequest::default()
    };
    client.kv().put(request).await.map(drop)
}

async fn get(client: &Client, key: &str) -> Result<Vec<u8>, tonic::Status> {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let answer = client.kv().range(request).await?.into_inner();
    Ok(answer.kvs[0].value.clone())
}

/// Writes until it works.
async fn put_in_the_end(client: &Client, key: &str) {
    let work = async {
        while put(client, key).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("the plugin is back");
}

/// No value of a Secret holds the text.
async fn nothing_in_the_clear(etcd: &Etcd) {
    for kv in etcd.client().await.everything().await {
        let in_clear = kv.value.windows(PLAIN_TEXT.len()).any(|window| window == PLAIN_TEXT);
        let key = String::from_utf8_lossy(&kv.key);
        assert!(!in_clear || key == OTHER, "{key} lies in etcd in clear");
    }
}

/// A client replays a write on some codes, and reopens a watch for ever on others.
fn is_told_for_good(status: &tonic::Status) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("kms provider \"plugin\": "), "{status}");
    assert!(!status.message().contains("not-for-the-disk"));
}

#[tokio::test]
async fn a_proxy_starts_before_its_plugin_refuses_what_needs_it_and_goes_on_when_it_comes() {
    for version in ["v1", "v2"] {
        let etcd = Etcd::start(Version::share()).await;
        let mut plugin = Plugin::down();
        let proxy = Proxy::before(&etcd, plugin.document("secrets", version));
        let client = proxy.client().await;
        put(&client, OTHER).await.unwrap();
        is_told_for_good(&put(&client, SECRET).await.unwrap_err());
        assert_eq!(get(&client, OTHER).await.unwrap(), PLAIN_TEXT);
        plugin.serve(Socket::Grpc);
        put_in_the_end(&client, SECRET).await;
        assert_eq!(get(&client, SECRET).await.unwrap(), PLAIN_TEXT);

        plugin.stop();
        assert_eq!(get(&client, SECRET).await.unwrap(), PLAIN_TEXT, "its key is at hand");
        // To whoever starts now it is not.
        let cold = Proxy::before(&etcd, plugin.document("secrets", version));
        let cold_client = cold.client().await;
        is_told_for_good(&get(&cold_client, SECRET).await.unwrap_err());
        is_told_for_good(&put(&cold_client, SECRET).await.unwrap_err());
        assert_eq!(get(&cold_client, OTHER).await.unwrap(), PLAIN_TEXT);
        if version == "v1" {
            is_told_for_good(&put(&client, SECRET).await.unwrap_err());
        } else {
            put(&client, SECRET)
                .await
                .expect("its seed has two minutes left at least");
        }
        plugin.serve(Socket::Grpc);
        put_in_the_end(&cold_client, SECRET).await;
        assert_eq!(get(&cold_client, SECRET).await.unwrap(), PLAIN_TEXT);
        nothing_in_the_clear(&etcd).await;
        assert!(
            etcd.client()
                .await
                .value(SECRET)
                .await
                .starts_with(format!("k8s:enc:kms:{version}:plugin:").as_bytes())
        );
        let warned = proxy.output().contains("KMSv1 is deprecated");
        assert_eq!(warned, version == "v1");
    }
}

#[tokio::test]
async fn a_plugin_that_answers_nonsense_costs_the_client_an_error_and_nothing_else() {
    let etcd = Etcd::start(Version::share()).await;
    let mut plugin = Plugin::start();
    let proxy = Proxy::before(&etcd, plugin.document("secrets", "v1"));
    let client = proxy.client().await;
    put(&client, SECRET).await.unwrap();
    for socket in [Socket::Silent, Socket::Garbage, Socket::Http1, Socket::Closing] {
        plugin.serve(socket);
        is_told_for_good(&put(&client, SECRET).await.unwrap_err());
        assert_eq!(get(&client, SECRET).await.unwrap(), PLAIN_TEXT);
    }
    plugin.serve(Socket::Grpc);
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Internal,
        Code::PermissionDenied,
    ] {
        plugin.behaviour().error = Some(code);
        is_told_for_good(&put(&client, SECRET).await.unwrap_err());
    }
    plugin.behave();
    plugin.behaviour().ciphertext = Some(vec![1; 70_000]);
    assert_eq!(put(&client, SECRET).await.unwrap_err().code(), Code::FailedPrecondition);
    plugin.behave();
    put(&client, SECRET).await.unwrap();
    nothing_in_the_clear(&etcd).await;
}

/// A list of values that v1 has sealed, each with its own key, by a proxy that has none of them.
#[tokio::test]
async fn a_list_that_needs_every_key_asked_for_comes_whole() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let document = plugin.document_with("secrets", "v1", "timeout: 3s, cachesize: 1");
    let client = Proxy::before(&etcd, document.as_str()).client().await;
    drop(client);
    let proxy = Proxy::before(&etcd, document.as_str());
    let client = proxy.client().await;
    for index in 0..600 {
        put(&client, &format!("/registry/secrets/default/{index}"))
            .await
            .unwrap();
    }
    let before = plugin.counts().decrypts();
    let all = client
        .range(RangeRequest {
            key: b"/registry/secrets/".into(),
            range_end: b"/registry/secrets0".into(),
            ..RangeRequest::default()
        })
        .await;
    assert_eq!(all.kvs.len(), 600);
    assert!(all.kvs.iter().all(|kv| kv.value == PLAIN_TEXT));
    let asked = plugin.counts().decrypts() - before;
    assert!((590..660).contains(&asked), "{asked} calls for 600 keys");
}

/// A client that asks and gives up, again and again, must not have the proxy hold every one of its answers.
#[tokio::test]
async fn an_answer_that_waits_for_a_plugin_goes_with_its_client() {
    let etcd = Etcd::start(Version::share()).await;
    let plugin = Plugin::start();
    let document = plugin.document_with("secrets", "v2", "timeout: 600s");
    let [writer, reader] = [(); 2].map(|()| Proxy::before(&etcd, document.as_str()));
    put_in_the_end(&writer.client().await, SECRET).await;
    let client = reader.client().await;
    let before = plugin.counts().decrypts();
    plugin.behaviour().delay = Duration::from_secs(600);
    let waiting = tokio::spawn(async move { get(&client, SECRET).await });
    let wait = async |what: &str, is_so: &dyn Fn(&str) -> bool| {
        let work = async {
            while !is_so(&reader.metrics().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect(what);
    };
    wait("the plugin is asked", &|_| plugin.counts().decrypts() > before).await;
    waiting.abort();
    let idle = "etcd_encryption_proxy_inflight_requests{rpc=\"Range\"} 0\n";
    wait("the call ends", &|metrics| metrics.contains(idle)).await;
}
