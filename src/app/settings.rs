//! Everything that a verb is told, resolved: no flag, no environment and no default is looked at after this.

use std::path::PathBuf;
use std::time::Duration;

use super::{MemoryLock, OnUnreachable};
use crate::keyspace::{self, EtcdPrefix, KeySpace, ResourcePath};
use crate::rewrite::OnUndecryptable;
use crate::rotation::{MANAGED, Policy};
use crate::sweep;
use crate::systemd::Manager;
use crate::tls::{ClientFiles, ServerFiles};
use crate::traces;
use crate::transport::{Endpoint, ListenUrl};
use crate::types::StatePrefix;

/// What every verb is told that works on what a cluster stores.
#[derive(Clone, Debug)]
pub struct Common {
    /// The members of the etcd cluster.
    pub members: Vec<Endpoint>,
    /// CA and client certificate towards etcd.
    pub client_files: ClientFiles,
    /// Where Kubernetes' keys begin.
    pub prefixes: Vec<EtcdPrefix>,
    /// Where resources lie that no table knows, or knows elsewhere.
    pub paths: Vec<ResourcePath>,
    /// Where the EncryptionConfiguration is.
    pub origin: Origin,
    /// Whether files with keys that others can read are refused.
    pub strict_permissions: bool,
    /// Keys of the proxy's own.
    pub state_prefix: StatePrefix,
}

impl Common {
    /// Where Kubernetes' keys lie.
    ///
    /// # Errors
    /// There is no prefix, or two resources are at one path.
    pub fn keyspace(&self) -> Result<KeySpace, keyspace::Error> {
        KeySpace::new(self.prefixes.clone())?.with_paths(self.paths.clone())
    }
}

/// Where the EncryptionConfiguration is.
#[derive(Clone, Debug)]
pub enum Origin {
    /// In a file that every process is given: the same that kube-apiserver would be.
    File(PathBuf),
    /// In etcd, sealed under a root that every process has.
    Managed(RootSettings),
}

/// Where the roots are under which the keyring in etcd is sealed; at least one is given.
#[derive(Clone, Debug)]
pub struct RootSettings {
    /// A file of them.
    pub file: Option<PathBuf>,
    /// The socket of a KMS v2 plugin.
    pub kms: Option<String>,
}

impl Origin {
    /// What operators call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Managed(_) => MANAGED.to_owned(),
        }
    }
}

/// What a serving process does on etcd for itself.
#[derive(Clone, Debug)]
pub enum Background {
    /// Nothing: no record of it is kept, so that no sweep and no rotation of others waits for it.
    Off,
    /// It keeps a record of what it has loaded.
    On {
        /// What operators call it.
        name: String,
        /// How fast it sweeps by itself when that is its turn; `None`: never.
        sweep: Option<sweep::Limits>,
        /// When keys of the keyring in etcd are rotated by themselves.
        rotation: Policy,
    },
}

/// Listeners that are accepted on the network although they protect less than they could.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowedOnNetwork {
    /// One that anybody on the way can read along with.
    pub plaintext: bool,
    /// One with TLS that lets in whoever reaches it.
    pub anonymous: bool,
}

/// Settings of `serve`.
#[derive(Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: Vec<ListenUrl>,
    /// Where metrics and health are served.
    pub listen_metrics: Vec<ListenUrl>,
    /// Certificates of TLS listeners.
    pub server_files: Option<ServerFiles>,
    /// Listeners that are accepted on the network.
    pub allowed_on_network: AllowedOnNetwork,
    /// The cluster, and what is encrypted in it.
    pub common: Common,
    /// Whether the EncryptionConfiguration is taken into use anew when it changes.
    pub reload_encryption_config: bool,
    /// What a reader gets for a sealed value that no key opens.
    pub on_undecryptable: OnUndecryptable,
    /// What is done while no etcd member can be reached.
    pub on_unreachable: OnUnreachable,
    /// etcd's limit on a request, bytes.
    pub max_request_bytes: usize,
    /// The URLs that clients are told in the place of the members'; none: the members' own.
    pub advertised: Vec<String>,
    /// Whether clients may take snapshots.
    pub allow_snapshot: bool,
    /// Streams that one client connection may have open at once.
    pub max_concurrent_streams: u32,
    /// What all clients together may make the process hold, bytes.
    pub max_client_memory_bytes: usize,
    /// Where the audit log is written, `-` for standard output; `None`: nowhere.
    pub audit_log: Option<PathBuf>,
    /// Which calls are traced, and for whom; `None`: none.
    pub traces: Option<traces::Config>,
    /// Whether memory is kept out of swap.
    pub memory_lock: MemoryLock,
    /// What the process does on etcd for itself.
    pub background: Background,
    /// Who is told how the process stands.
    pub manager: Manager,
    /// Threads that serve, at least one.
    pub threads: usize,
    /// How long calls may take to end once a shutdown has begun.
    pub shutdown_timeout: Duration,
}
