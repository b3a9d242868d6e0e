//! A member that comes back with the file of yesterday, whose key is gone.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::Code;

use super::SIZE;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::PutRequest;
use crate::common::process::PATIENCE;
use crate::common::proxy::replace;
use crate::common::rotation::Shared;
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

fn put() -> PutRequest {
    PutRequest {
        key: b"/registry/secrets/default/new".to_vec(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn it_encrypts_nothing_until_it_has_the_new_one() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, 20, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let old = Shared::new(&etcd, &shared.text());
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;

    let mut late = old.member("late");
    let client = late.client().await;
    let refused = client.kv().put(put()).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    late.process().wait_for("its reason", |output| {
        let why = output.contains("aescbc key \\\"k1\\\" was removed by a rotation");
        (why && output.contains("Give this process the one that the others have")).then_some(())
    });
    assert!(direct.get("/registry/secrets/default/new").await.is_none());
    client.put("/registry/configmaps/default/open", "open").await;
    assert_eq!(client.value("/registry/configmaps/default/open").await, b"open");

    replace(&old.path(), shared.text());
    let start = Instant::now();
    while client.kv().put(put()).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "it does not go on:\n{}", late.output());
        sleep(Duration::from_millis(20)).await;
    }
    let stored = direct.value("/registry/secrets/default/new").await;
    let under = format!("k8s:enc:aescbc:v1:{}:", shared.keys()[0]);
    assert!(stored.starts_with(under.as_bytes()), "{}", stored.escape_ascii());
}
