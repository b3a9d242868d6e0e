//! `Maintenance.Snapshot`: served by default, proxy's own records and all, and refused where that is asked for.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::SnapshotRequest;
use crate::common::proxy::Setup;
use crate::common::tools::Version;

const RECORD: &str = "/etcd-encryption-proxy/a-record";

async fn snapshot(client: &Client) -> Result<Vec<u8>, tonic::Status> {
    let mut stream = client.maintenance().snapshot(SnapshotRequest {}).await?.into_inner();
    let mut all = Vec::new();
    while let Some(part) = stream.message().await? {
        all.extend_from_slice(&part.blob);
    }
    Ok(all)
}

#[tokio::test]
async fn a_snapshot_is_the_whole_store_or_refused() {
    let etcd = Etcd::start(Version::V3_5).await;
    etcd.client().await.put(RECORD, "of the proxy").await;
    let setup = || Setup::new(etcd.endpoint(), config::secrets());
    let open = setup().start();
    let client = open.client().await;
    client.put("/registry/secrets/a", "a secret of a client").await;
    // What the documents say of it: it has the proxy's records, and no value in the clear.
    let taken = snapshot(&client).await.expect("a snapshot");
    let holds = |needle: &str| taken.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds(RECORD));
    assert!(!holds("a secret of a client"));
    let closed = setup().flag("--allow-snapshot=false").start();
    let client = closed.client().await;
    let status = snapshot(&client).await.expect_err("a snapshot");
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert!(status.message().contains("--allow-snapshot=false"), "{status:?}");
    assert_eq!(client.value("/registry/secrets/a").await, b"a secret of a client");
}
