//! Keeps what was built from files up to date while the proxy runs: the keyring, and the certificates of both sides.
//!
//! Decides which files are followed; what a change means is decided in the rooms that the files belong to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::build::{Parts, Renewed, compile_with};
use super::lasting::Lasting;
use super::{Error, Origin, Settings};
use crate::files::{Nudge, Nudged, POLL, Permissions, Watcher, follow, nudge, warn_of_mounts};
use crate::keyring::{self, LoadError, ReloadConfig};
use crate::kms::Plugin;
use crate::systemd::Told;
use crate::telemetry;
use crate::tls::{self, Side};

/// How long a plugin of a new configuration may take to become well; kube-apiserver's time for all of them is no less.
const HEALTH_WAIT: Duration = Duration::from_secs(10);

/// Pause between two questions for its health. Most are answered from what is known.
const HEALTH_PAUSE: Duration = Duration::from_millis(500);

/// Starts to follow the files. Must be called on the runtime that `tasks` run on.
///
/// SIGHUP has all of them looked at, at once; the `configuration` by that nudge, too.
pub(super) fn spawn(
    (tasks, lasting): (&mut JoinSet<()>, &Lasting),
    settings: &Settings,
    parts: &Parts,
    configuration: (Nudge, Nudged),
) -> Result<(), Error> {
    let mut hangups = signal(SignalKind::hangup()).map_err(Error::Start)?;
    let mut nudges = vec![configuration.0];
    // Its metrics say what is in use, whether that can change or not.
    let reloader = keyring_reloader(parts);
    let followed = match &settings.common.origin {
        Origin::File(path) => settings.reload_encryption_config.then(|| vec![path.clone()]),
        // Who follows it says when to look.
        Origin::Managed(root) => {
            warn_of_mounts(root.file.as_slice());
            Some(Vec::new())
        }
    };
    if let Some(files) = followed {
        let following = follow(Watcher::new(files, POLL), configuration.1, reloader);
        tasks.spawn(lasting.task("the reload of the encryption configuration", following));
    }
    if let (Some(files), Some(tls)) = (&settings.server_files, &parts.server_tls) {
        nudges.push(follow_side((tasks, lasting), files.clone(), tls, &parts.permissions));
    }
    if let Some(tls) = &parts.client_tls {
        let files = settings.common.client_files.clone();
        nudges.push(follow_side((tasks, lasting), files, tls, &parts.permissions));
    }
    let manager = settings.manager.clone();
    let hanging_up = async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: looking at every file that is followed");
            manager.tell(Told::Reloading);
            join_all(nudges.iter().map(Nudge::looked)).await;
            manager.tell(Told::Ready);
        }
    };
    tasks.spawn(lasting.task("the task that waits for SIGHUP", hanging_up));
    Ok(())
}

fn follow_side<S: Side>(
    (tasks, lasting): (&mut JoinSet<()>, &Lasting),
    files: S,
    tls: &Renewed<S::Tls>,
    permissions: &Arc<Permissions>,
) -> Nudge {
    let (nudge, nudged) = nudge();
    let watcher = Watcher::new(files.paths(), POLL);
    let (handle, status) = (tls.handle.clone(), Arc::clone(&tls.status));
    let reloader = tls::Reloader::new(files, handle, tls.seen, status, Arc::clone(permissions));
    tasks.spawn(lasting.task("the reload of certificates", follow(watcher, nudged, reloader)));
    nudge
}

fn keyring_reloader(parts: &Parts) -> keyring::Reloader {
    let keyspace = parts.keyring.load().keyspace().clone();
    let (plugins, in_use) = (Arc::clone(&parts.plugins), Arc::clone(&parts.keyring));
    keyring::Reloader::new(ReloadConfig {
        source: Arc::clone(&parts.source),
        keyring: Arc::clone(&parts.keyring),
        status: Arc::clone(&parts.config_status),
        audit: parts.proxy.audit.clone(),
        load: Box::new(move |document| {
            let (keyspace, plugins, in_use) = (keyspace.clone(), Arc::clone(&plugins), in_use.snapshot());
            // Ciphers of thousands of keys take a while to set up, and this runtime also accepts connections.
            let compiling = tokio::task::spawn_blocking(move || {
                compile_with((&document.bytes, &document.past), &keyspace, &plugins, true)
            });
            Box::pin(async move {
                let keyring = compiling.await.map_err(|_| LoadError::Stopping)??;
                // What a plugin that is in use already lacks is no fault of the new configuration, which may be the way out.
                let is_new = |plugin: &&Plugin| !in_use.plugins().iter().any(|known| known.is(plugin));
                for plugin in keyring.plugins().iter().filter(is_new) {
                    wait_until_well(plugin).await?;
                }
                Ok(keyring)
            })
        }),
        instance: telemetry::instance().to_owned(),
    })
}

/// Gives a plugin that nobody has used before some time to become well.
async fn wait_until_well(plugin: &Plugin) -> Result<(), LoadError> {
    let until = Instant::now() + HEALTH_WAIT;
    loop {
        match plugin.health().await {
            Ok(()) => return Ok(()),
            Err(ailment) if Instant::now() >= until => return Err(LoadError::Unhealthy(ailment.to_string())),
            Err(_) => sleep(HEALTH_PAUSE).await,
        }
    }
}
