//! One etcd, and the targets before it.

use crate::common::etcd::{Etcd, Setup};
use crate::common::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::common::pb::etcdserverpb::{CompactionRequest, StatusRequest, kv_client::KvClient};
use crate::settings::Settings;
use crate::target::{Target, Transport};

/// etcd's unix socket, in its folder. It wants a host and a port of every URL, and makes a file name of the two.
pub const SOCKET: &str = "etcd.sock:1";

pub struct Scene {
    // Dropped before the etcd that they lead to.
    pub targets: Vec<Target>,
    etcd: Etcd,
    pub etcd_pid: u32,
}

impl Scene {
    pub async fn start(settings: &Settings, transport: Transport, names: &[&'static str]) -> Self {
        let setup = Setup::new(settings.version)
            .flag("--quota-backend-bytes=8589934592")
            // Large values would fill the memory that etcd keeps its log in.
            .flag("--snapshot-count=5000");
        let setup = if transport == Transport::Tls {
            setup.with_tls()
        } else {
            setup
        };
        let mut etcd = Etcd::prepare(setup);
        if transport == Transport::Unix {
            etcd.add_flag(format!("--listen-client-urls={},unix://{SOCKET}", etcd.endpoint()));
        }
        etcd.spawn();
        etcd.ready().await;
        let mut targets = Vec::new();
        for name in settings.chosen(names) {
            targets.push(Target::start(name, &etcd, settings, transport).await);
        }
        let etcd_pid = etcd.pid();
        Self {
            targets,
            etcd,
            etcd_pid,
        }
    }

    pub fn direct(&self) -> &Target {
        &self.targets[0]
    }

    /// Where etcd itself serves its clients.
    pub fn endpoint(&self) -> String {
        self.etcd.endpoint()
    }

    pub async fn version(&self) -> String {
        let mut client = MaintenanceClient::new(self.direct().connect().await);
        client
            .status(StatusRequest {})
            .await
            .expect("a status")
            .into_inner()
            .version
    }

    /// Lets go of history, so that each measurement finds the store as the one before did.
    pub async fn tidy(&self) {
        let mut client = KvClient::new(self.direct().connect().await);
        let revision = crate::calls::revision(&mut client).await;
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        // Fails where nothing was written since the last time.
        let _ = client.compact(request).await;
    }
}
