//! Reads that must be equal to the byte when one and the same etcd is asked directly and through the proxy.

use etcd_encryption_proxy::types::Fingerprint;
use prost::Message;
use tokio_stream::StreamExt;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::pb::etcdserverpb::*;
use crate::common::proxy::Proxy;
use crate::common::tools::Version;

/// An etcd with something in it, and a proxy that wrote it.
async fn filled(version: Version) -> (Etcd, Proxy) {
    let etcd = Etcd::start(version).await;
    let proxy = Proxy::before(&etcd, config::secrets());
    let client = proxy.client().await;
    for index in 0..50 {
        client
            .put(format!("/registry/secrets/default/{index}"), vec![b's'; 10_000])
            .await;
        client
            .put(format!("/registry/configmaps/default/{index}"), vec![b'c'; 10_000])
            .await;
    }
    client
        .lease()
        .lease_grant(LeaseGrantRequest { ttl: 3600, id: 0 })
        .await
        .unwrap();
    // Commits what is still in etcd's batch, so that nothing changes its file from here on.
    client.maintenance().defragment(DefragmentRequest {}).await.unwrap();
    (etcd, proxy)
}

/// Asks both for everything that does not change anything, and compares the answers' bytes.
async fn assert_same_answers(direct: &Client, proxied: &Client, what: &str) {
    macro_rules! ask {
        ($($service:ident.$method:ident($request:expr),)*) => {$(
            let [left, right] = [direct, proxied].map(async |client| {
                match client.$service().$method($request).await {
                    Ok(answer) => answer.into_inner().encode_to_vec(),
                    Err(status) => format!("{:?} {}", status.code(), status.message()).into_bytes(),
                }
            });
            assert_eq!(left.await, right.await, "{what} {}", stringify!($method));
        )*};
    }
    // What goes through raft, as some of the reads do, comes after what tells how far raft is.
    ask! {
        maintenance.status(StatusRequest {}),
        maintenance.hash_kv(HashKvRequest { revision: 60 }),
        maintenance.hash(HashRequest {}),
        kv.range(RangeRequest {
            key: b"/registry/configmaps/".to_vec(),
            range_end: b"/registry/configmaps0".to_vec(),
            ..RangeRequest::default()
        }),
        lease.lease_leases(LeaseLeasesRequest {}),
        maintenance.alarm(AlarmRequest::default()),
        cluster.member_list(MemberListRequest { linearizable: true }),
        auth.auth_status(AuthStatusRequest {}),
        auth.user_list(AuthUserListRequest {}),
        auth.role_list(AuthRoleListRequest {}),
    }
}

#[tokio::test]
async fn reads_equal_to_the_byte() {
    for version in Version::all() {
        let (etcd, proxy) = filled(version).await;
        assert_same_answers(&etcd.client().await, &proxy.client().await, &format!("{version:?}")).await;
    }
}

#[tokio::test]
async fn snapshot_stream() {
    for version in Version::all() {
        let (etcd, proxy) = filled(version).await;
        let direct = snapshot(&etcd.client().await).await;
        let proxied = snapshot(&proxy.client().await).await;
        assert!(direct.len() > 1_000_000, "a snapshot of {} bytes", direct.len());
        assert_eq!(direct.len(), proxied.len(), "{version:?}");
        // From 3.5 on etcd counts each snapshot within it, so that no two are the same; but each ends with its own digest.
        assert!(
            direct == proxied || version != Version::V3_4,
            "{version:?}: the snapshots differ"
        );
        let (content, digest) = proxied.split_at(proxied.len() - 32);
        let digest = digest
            .iter()
            .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(Fingerprint::of(content).to_string(), digest, "{version:?}");
        assert!(
            !proxied.windows(100).any(|window| window == [b's'; 100]),
            "a snapshot holds a secret in clear"
        );
        assert!(
            proxied.windows(100).any(|window| window == [b'c'; 100]),
            "a snapshot holds no config map"
        );
    }
}

/// The pieces of a snapshot, put together.
async fn snapshot(client: &Client) -> Vec<u8> {
    let mut stream = client
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        whole.extend_from_slice(&piece.blob);
    }
    whole
}

#[tokio::test]
async fn http_endpoints() {
    for version in Version::all() {
        let (etcd, proxy) = filled(version).await;
        let paths = [
            "/version",
            "/health",
            "/health?serializable=true",
            "/health?exclude=NOSPACE",
            "/livez",
            "/readyz?verbose",
        ];
        for path in paths {
            let mut direct = http::get(&etcd.endpoint(), path).await.unwrap();
            let mut proxied = http::get(proxy.url(), path).await.unwrap();
            if path.starts_with("/readyz") {
                // etcd has its checks in any order.
                for answer in [&mut direct, &mut proxied] {
                    let mut lines: Vec<_> = answer.body.lines().collect();
                    lines.sort_unstable();
                    answer.body = lines.join("\n");
                }
            }
            assert_eq!(direct, proxied, "{version:?} {path}");
        }
        let metrics = http::get(proxy.url(), "/metrics").await.unwrap();
        assert_eq!(metrics.status, 200);
        assert!(
            metrics.body.contains("etcd_server_has_leader 1"),
            "{version:?}: not etcd's metrics: {}",
            metrics.body
        );
    }
}

#[tokio::test]
async fn json_gateway_is_refused() {
    for version in Version::all() {
        let (etcd, proxy) = filled(version).await;
        // base64 of /registry/secrets/default/7
        let body = r#"{"key": "L3JlZ2lzdHJ5L3NlY3JldHMvZGVmYXVsdC83"}"#;
        let direct = http::post(&etcd.endpoint(), "/v3/kv/range", body).await.unwrap();
        assert_eq!(direct.status, 200, "etcd's gateway answers: {}", direct.body);
        for path in [
            "/v3/kv/range",
            "/v3beta/kv/range",
            "/v3alpha/kv/range",
            "//v3/kv/range",
            "/v3/kv/../kv/range",
        ] {
            let proxied = http::post(proxy.url(), path, body).await.unwrap();
            assert!(proxied.status >= 400, "{version:?} {path}: {proxied:?}");
            assert!(!proxied.body.contains("kvs"), "{version:?} {path}: {proxied:?}");
        }
        let put = r#"{"key": "L3JlZ2lzdHJ5L3NlY3JldHMvZGVmYXVsdC83", "value": "eA=="}"#;
        let refused = http::post(proxy.url(), "/v3/kv/put", put).await.unwrap();
        assert!(refused.status >= 400, "{version:?}: {refused:?}");
        assert_eq!(
            proxy.client().await.value("/registry/secrets/default/7").await,
            vec![b's'; 10_000]
        );
    }
}
