//! Inspects one snapshot of etcd, with no etcd, no proxy and no kube-apiserver.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::runtime::{Builder, Handle};

use super::build::{check_prefixes, load_keyring_of};
use super::run::examine;
use super::{Error, forbid_dumps};
use crate::files::Permissions;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::{self, Plugins};
use crate::snapshot::{self, KeySource, Report, Scope, SnapshotFile, inspect};
use crate::types::StatePrefix;

/// Settings of `snapshot inspect`.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// The snapshot.
    pub file: PathBuf,
    /// Whether its checksum is left alone.
    pub skip_hash_check: bool,
    /// Configurations whose keys may open it, in the order in which they are tried.
    pub encryption_configs: Vec<PathBuf>,
    /// Where Kubernetes' keys begin.
    pub prefixes: Vec<EtcdPrefix>,
    /// Whether files with keys that others can read are refused.
    pub strict_permissions: bool,
    /// Keys of the proxy's own.
    pub state_prefix: StatePrefix,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] Error),
    /// The snapshot can't be read.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The thread that reads it is gone.
    #[error("the inspection ended without a report")]
    Lost(#[source] tokio::task::JoinError),
}

/// Says what the snapshot holds and which keys open it; blocks the calling thread meanwhile.
pub fn inspect_snapshot(settings: &SnapshotSettings) -> Result<Report, SnapshotError> {
    forbid_dumps()?;
    check_prefixes(&settings.prefixes, &settings.state_prefix)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let plugins = Plugins::new(runtime.handle().clone(), kms::Config::default());
    let permissions = Permissions::new(settings.strict_permissions);
    let keyspace = KeySpace::new(settings.prefixes.clone()).map_err(Error::KeySpace)?;
    let mut sources = Vec::new();
    for path in &settings.encryption_configs {
        let keyring = load_keyring_of(path, keyspace.clone(), &permissions, &plugins, false)?;
        sources.push(KeySource {
            name: path.display().to_string(),
            keyring: Arc::new(keyring),
        });
    }
    let scope = Scope {
        sources,
        keyspace,
        state: settings.state_prefix.clone(),
    };
    let (path, skips_checksum) = (settings.file.clone(), settings.skip_hash_check);
    runtime.block_on(async {
        let mut listed: Vec<kms::Plugin> = Vec::new();
        for plugin in scope.sources.iter().flat_map(|source| source.keyring.plugins()) {
            if !listed.iter().any(|other| other.is(plugin)) {
                listed.push(plugin.clone());
            }
        }
        examine(&listed).await;
        // A thread of its own: KMS plugins are looked after on this one, and files are read without pause.
        let here = Handle::current();
        let reading = tokio::task::spawn_blocking(move || {
            let file = SnapshotFile::open(&path, skips_checksum)?;
            here.block_on(inspect(&file, &scope))
        });
        Ok(reading.await.map_err(SnapshotError::Lost)??)
    })
}
