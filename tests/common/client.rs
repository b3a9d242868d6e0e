//! A gRPC client of etcd, over TCP, TLS or a unix socket, that refuses no size and retries nothing.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};

use super::pb::etcdserverpb::auth_client::AuthClient;
use super::pb::etcdserverpb::cluster_client::ClusterClient;
use super::pb::etcdserverpb::kv_client::KvClient;
use super::pb::etcdserverpb::lease_client::LeaseClient;
use super::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use super::pb::etcdserverpb::watch_client::WatchClient;
use super::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use super::pb::grpc::health::v1::health_client::HealthClient;
use super::pb::mvccpb::KeyValue;
use super::pb::v3electionpb::election_client::ElectionClient;
use super::pb::v3lockpb::lock_client::LockClient;

/// One connection to an etcd, or to something that passes for one.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

macro_rules! services {
    ($($name:ident: $client:ident,)*) => {$(
        /// The service's generated client, with no limit on sizes.
        pub fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
        }
    )*};
}

impl Client {
    services! {
        kv: KvClient,
        watch: WatchClient,
        lease: LeaseClient,
        cluster: ClusterClient,
        maintenance: MaintenanceClient,
        auth: AuthClient,
        lock: LockClient,
        election: ElectionClient,
        health: HealthClient,
    }

    /// Connects over TCP.
    pub async fn connect(endpoint: &str) -> Self {
        let channel = builder(endpoint).connect().await;
        Self {
            channel: channel.unwrap_or_else(|error| panic!("no connection to {endpoint}: {error:?}")),
        }
    }

    /// Connects when first used, and again whenever the connection is lost.
    pub fn lazy(endpoint: &str) -> Self {
        Self {
            channel: builder(endpoint).connect_lazy(),
        }
    }

    /// Connects over TLS.
    pub async fn connect_tls(endpoint: &str, tls: ClientTlsConfig) -> Self {
        let channel = builder(endpoint)
            .tls_config(tls)
            .expect("a valid TLS setup")
            .connect()
            .await;
        Self {
            channel: channel.unwrap_or_else(|error| panic!("no connection to {endpoint}: {error:?}")),
        }
    }

    /// Connects over TLS and asks for a key; nothing where either fails.
    pub async fn try_connect_tls(endpoint: &str, tls: ClientTlsConfig) -> Option<Self> {
        let channel = builder(endpoint)
            .tls_config(tls)
            .expect("a valid TLS setup")
            .connect()
            .await
            .ok()?;
        let client = Self { channel };
        client
            .kv()
            .range(RangeRequest {
                key: b"health".to_vec(),
                ..RangeRequest::default()
            })
            .await
            .ok()?;
        Some(client)
    }

    /// Connects over a unix socket.
    pub async fn connect_unix(path: PathBuf) -> Self {
        Self::dial_unix(builder("http://localhost"), path).await
    }

    /// Connects over TLS on a unix socket.
    pub async fn connect_unix_tls(path: PathBuf, tls: ClientTlsConfig) -> Self {
        Self::dial_unix(
            builder("https://localhost").tls_config(tls).expect("a valid TLS setup"),
            path,
        )
        .await
    }

    async fn dial_unix(endpoint: Endpoint, path: PathBuf) -> Self {
        let socket = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let dial = UnixStream::connect(socket.clone());
            async { dial.await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        Self {
            channel: channel.unwrap_or_else(|error| panic!("no connection to {}: {error:?}", path.display())),
        }
    }

    /// The connection itself, for clients with interceptors.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Puts one key.
    pub async fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutResponse {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        self.kv().put(request).await.expect("a put").into_inner()
    }

    /// Gets one key; nothing where it does not exist.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Option<KeyValue> {
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        self.range(request).await.kvs.pop()
    }

    /// The value of a key that exists.
    pub async fn value(&self, key: &str) -> Vec<u8> {
        self.get(key)
            .await
            .unwrap_or_else(|| panic!("{key} does not exist"))
            .value
    }

    /// Everything in the store, in the order of keys.
    pub async fn everything(&self) -> Vec<KeyValue> {
        self.range(RangeRequest {
            key: vec![0],
            range_end: vec![0],
            ..RangeRequest::default()
        })
        .await
        .kvs
    }

    /// A range that must succeed.
    pub async fn range(&self, request: RangeRequest) -> RangeResponse {
        self.kv().range(request).await.expect("a range").into_inner()
    }

    /// A transaction that must be accepted.
    pub async fn txn(&self, request: TxnRequest) -> TxnResponse {
        self.kv().txn(request).await.expect("a txn").into_inner()
    }

    /// Deletes one key.
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> DeleteRangeResponse {
        let request = DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        };
        self.kv().delete_range(request).await.expect("a delete").into_inner()
    }
}

fn builder(endpoint: &str) -> Endpoint {
    Endpoint::from_shared(endpoint.to_owned())
        .expect("a valid endpoint")
        .connect_timeout(Duration::from_secs(20))
}
