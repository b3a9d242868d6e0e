//! The etcd that everything is measured on, full of secrets.

use crate::common::client::Client;
use crate::common::etcd::{Etcd, Setup};
use crate::common::pb::etcdserverpb::{CompactionRequest, RangeRequest, StatusRequest};
use crate::common::sweep::{K1, K2, Sweep, fill};
use crate::settings::Settings;

/// Plaintext of a secret.
pub const VALUE_BYTES: usize = 1024;

/// One member, and which key its secrets are under.
pub struct Store {
    pub etcd: Etcd,
    pub client: Client,
    fsync: bool,
    version: String,
    keys: usize,
    is_under_k2: bool,
}

impl Store {
    pub async fn start(settings: &Settings, fsync: bool) -> Self {
        let setup = Setup::new(settings.version).flag("--quota-backend-bytes=8589934592");
        let setup = if fsync { setup.with_fsync() } else { setup };
        let etcd = setup.start().await;
        let client = etcd.client().await;
        let status = client.maintenance().status(StatusRequest {}).await.expect("a status");
        let mut store = Self {
            etcd,
            client,
            fsync,
            version: status.into_inner().version,
            keys: settings.keys,
            is_under_k2: false,
        };
        store.fill().await;
        store
    }

    /// Everything anew, under the first key.
    pub async fn fill(&mut self) {
        fill(&self.client, self.keys, VALUE_BYTES).await;
        self.is_under_k2 = false;
        self.tidy().await;
    }

    /// A sweep of everything from the key that it is under to the other.
    pub fn sweep(&mut self) -> Sweep {
        self.is_under_k2 = !self.is_under_k2;
        let providers = if self.is_under_k2 { [K2, K1] } else { [K1, K2] };
        Sweep::of(&self.etcd, &providers)
    }

    /// Lets go of history, so that each round finds the store as the one before did.
    pub async fn tidy(&self) {
        let revision = self.revision().await;
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.client.kv().compact(request).await.expect("a compaction");
    }

    pub async fn revision(&self) -> i64 {
        let answer = self.client.range(RangeRequest {
            key: b"nothing".to_vec(),
            ..RangeRequest::default()
        });
        answer.await.header.expect("a header").revision
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn describe(&self) -> String {
        let fsync = if self.fsync {
            "with fsync"
        } else {
            "with --unsafe-no-fsync"
        };
        format!("{} {fsync}", self.version)
    }
}
