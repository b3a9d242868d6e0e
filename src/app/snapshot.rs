//! Inspects one snapshot of etcd: with keys from files, from the snapshot itself, and from a running etcd where one is named.
//! Needs no proxy and no kube-apiserver.

use std::cmp::Reverse;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::runtime::{Builder, Handle};

use super::build::{check_prefixes, client_tls, compile, dialers, load_keyring_of};
use super::run::examine;
use super::strongbox::{roots, strongbox};
use super::{Common, Error, Origin, forbid_dumps, on_etcd};
use crate::files::Permissions;
use crate::kms::{self, Plugins};
use crate::managed::{self, Archived, Current, is_record, open_loose};
use crate::rotation::MANAGED;
use crate::snapshot::{self, KeySource, Report, Scope, SnapshotFile, inspect, own_records};
use crate::types::{Fingerprint, SecretBytes, with_causes};

/// Settings of `snapshot inspect`.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// The snapshot.
    pub file: PathBuf,
    /// Whether its checksum is left alone.
    pub skip_hash_check: bool,
    /// Configurations whose keys may open it, in the order in which they are tried.
    pub encryption_configs: Vec<PathBuf>,
    /// Whether the keyring and the archive of the running etcd are used.
    pub uses_live_keyring: bool,
    /// Whether those in the snapshot are.
    pub uses_own_keyring: bool,
    /// Where things lie; the roots, if keyrings are used, and the cluster, if it is one that runs.
    pub common: Common,
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
///
/// # Errors
/// Something that was to be used cannot be read. Of keyrings in etcd it is only warned: the one that runs may be gone, and what they are
/// sealed under may be another root by now. What they would have opened counts as missing then.
pub fn inspect_snapshot(settings: &SnapshotSettings) -> Result<Report, SnapshotError> {
    forbid_dumps()?;
    let common = &settings.common;
    check_prefixes(&common.prefixes, &common.state_prefix)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let plugins = Plugins::new(runtime.handle().clone(), kms::Config::default());
    let permissions = Permissions::new(common.strict_permissions);
    let keyspace = common.keyspace().map_err(Error::KeySpace)?;
    let mut sources = Vec::new();
    for path in &settings.encryption_configs {
        let keyring = load_keyring_of(path, &keyspace, &permissions, &plugins, false)?;
        sources.push(KeySource {
            name: path.display().to_string(),
            keyring: Arc::new(keyring),
        });
    }
    let file = SnapshotFile::open(&settings.file, settings.skip_hash_check)?;
    let mut documents = Vec::new();
    if settings.uses_live_keyring {
        match live_documents(common) {
            Ok(live) => documents.extend(live),
            // Snapshots are looked at when there is no etcd any more, or a new one.
            Err(Error::Managed(error)) => tracing::warn!(error = with_causes(&error), "{MANAGED} is not used"),
            Err(error) => return Err(error.into()),
        }
    }
    if settings.uses_own_keyring {
        documents.extend(runtime.block_on(documents_in(&file, common))?);
    }
    for document in documents {
        let is_known = |source: &KeySource| source.keyring.fingerprint() == document.fingerprint;
        if sources.iter().any(is_known) {
            continue;
        }
        match compile(document.text.expose(), &keyspace, &plugins, false) {
            Ok(keyring) => sources.push(KeySource {
                name: document.name,
                keyring: Arc::new(keyring),
            }),
            Err(error) => tracing::warn!(error = with_causes(&error), "{} is not used", document.name),
        }
    }
    let scope = Scope {
        sources,
        keyspace,
        state: common.state_prefix.clone(),
    };
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
        let reading = tokio::task::spawn_blocking(move || here.block_on(inspect(&file, &scope)));
        Ok(reading.await.map_err(SnapshotError::Lost)??)
    })
}

/// A configuration that lay sealed.
struct Document {
    name: String,
    fingerprint: Fingerprint,
    generation: u64,
    text: SecretBytes,
}

/// The keyring in the running etcd, and its archive, the latest first.
fn live_documents(common: &Common) -> Result<Vec<Document>, Error> {
    let Origin::Managed(root) = common.origin.clone() else {
        return Ok(Vec::new());
    };
    let tls = client_tls(common, &Permissions::new(common.strict_permissions))?;
    let (members, _) = dialers(common, tls.as_ref())?;
    let settings = common.clone();
    let looking = on_etcd::spawn("keyring", members, async move |on_etcd| {
        let strongbox = strongbox(&settings, &root, on_etcd.client)?;
        let current = strongbox.read().await?.ok_or(managed::Error::Absent)?;
        Ok::<_, Error>((current, strongbox.archived().await?))
    });
    let lost = |_| io::Error::other("the thread that reads the keyring panicked");
    let looked = looking.and_then(|thread| thread.join().map_err(lost)?);
    let (current, archived): (Current, Vec<Archived>) = looked.map_err(Error::Start)??;
    let mut documents = vec![Document {
        name: format!("{MANAGED}, generation {}", current.generation),
        fingerprint: current.fingerprint,
        generation: u64::MAX,
        text: current.document,
    }];
    for entry in archived {
        match (entry.fingerprint, entry.about, entry.document) {
            (Some(fingerprint), Some(about), Ok(text)) => documents.push(Document {
                name: format!("{MANAGED}, archived generation {}", about.generation),
                fingerprint,
                generation: about.generation,
                text,
            }),
            (_, _, Err(error)) => tracing::warn!(error = with_causes(&error), "{} is not used", entry.name),
            (_, _, Ok(_)) => {}
        }
    }
    documents.sort_by_key(|document| Reverse(document.generation));
    Ok(documents)
}

/// The keyring in the snapshot, and its archive, the latest first.
async fn documents_in(file: &SnapshotFile, common: &Common) -> Result<Vec<Document>, SnapshotError> {
    let Origin::Managed(root) = &common.origin else {
        return Ok(Vec::new());
    };
    let (roots, state) = (roots(common, root)?, &common.state_prefix);
    let mut documents = Vec::new();
    for record in own_records(file, |key| is_record(state, key))? {
        match open_loose(&roots, state, &record.key, &record.value).await {
            Ok(found) => {
                let which = if found.is_keyring {
                    "generation"
                } else {
                    "archived generation"
                };
                documents.push(Document {
                    name: format!("the keyring in the snapshot, {which} {}", found.generation),
                    fingerprint: found.fingerprint,
                    generation: found.generation,
                    text: found.document,
                });
            }
            Err(error) => tracing::warn!(error = with_causes(&error), "a record in the snapshot is not used"),
        }
    }
    documents.sort_by_key(|document| Reverse(document.generation));
    Ok(documents)
}
