//! A value that just fits into etcd, and would not fit again.

use tonic::Code;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::PutRequest;
use crate::common::rotation::{Outcome, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill, key};
use crate::common::tools::Version;

const LARGE: &str = "/registry/secrets/default/large";

/// Puts the largest value that `client` can put under the key.
async fn fill_up(client: &Client) -> usize {
    let mut length = 1_572_864;
    loop {
        let request = PutRequest {
            key: LARGE.into(),
            value: vec![b'v'; length],
            ..PutRequest::default()
        };
        match client.kv().put(request).await {
            Ok(_) => return length,
            Err(status) if status.code() == Code::InvalidArgument => length -= 1,
            Err(status) => panic!("{status}"),
        }
    }
}

fn says_why(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(7), "{outcome:#?}");
    for part in [
        LARGE,
        "it would exceed etcd's request limit when stored anew",
        "over etcd's default",
        "1 value cannot be written again",
        "`reencrypt --skip`",
        "`abort`",
    ] {
        assert!(outcome.stderr.contains(part), "no {part:?}: {outcome:#?}");
    }
    assert!(!outcome.stderr.contains("Somebody writes"), "{outcome:#?}");
}

/// Written by a client that puts without a transaction, as kube-apiserver never does.
#[tokio::test]
async fn a_value_at_etcds_limit_is_named_and_can_be_passed_over() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 20, 100).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let member = shared.setup("a").flag("--sweep=off").start();
    let client = member.client().await;
    let length = fill_up(&client).await;
    assert!(direct.value(LARGE).await.starts_with(b"k8s:enc:aescbc:v1:k1:"));
    says_why(&shared.run(&["rotate-keys", "--compact"]).await);
    shared.succeed(&["reencrypt", "--skip"], "reencryption started").await;
    assert_eq!(shared.stage().await, "reencrypt_finished");
    assert_eq!(shared.keys().len(), 2, "{:?}", shared.keys());
    assert_eq!(client.value(LARGE).await, vec![b'v'; length]);
    // Its owner has it stored smaller, and the old key goes.
    client.put(LARGE, "small").await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    assert_eq!(shared.keys().len(), 1);
    assert_eq!(client.value(LARGE).await, b"small");
}

#[tokio::test]
async fn a_plaintext_at_etcds_limit_holds_up_no_way_back() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 20, 100).await;
    let length = fill_up(&direct).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let member = shared.setup("a").flag("--sweep=off").start();
    says_why(&shared.run(&["rotate-keys", "--compact"]).await);
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(shared.keys(), ["k1"]);
    assert_eq!(shared.stage().await, "start");
    assert!(direct.value(&key(0)).await.starts_with(b"k8s:enc:aescbc:v1:k1:"));
    assert_eq!(member.client().await.value(LARGE).await, vec![b'v'; length]);
}
