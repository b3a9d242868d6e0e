//! What a serving process does on etcd for itself: keeps its record among the members, and sweeps where that is its turn.
//! On a thread and connections of its own, so that no client waits for it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::time::timeout;

use super::build::Parts;
use super::standing::Standing;
use super::sweep::client;
use super::{Background as Wanted, Settings};
use crate::files::Nudge;
use crate::members::{Member, MemberId, Presence};
use crate::proxy::Stage;
use crate::sweep::{Worker, WorkerStatus};
use crate::transport::Flusher;

/// How long clients wait for the record at the start. Without etcd nothing could be answered anyway; with one that does not
/// take the record, such as for want of space, reads can be.
const FIRST_RECORD: Duration = Duration::from_secs(3);

/// How long the record may take to go at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The thread.
pub(super) struct Background {
    thread: JoinHandle<()>,
    is_there: watch::Receiver<bool>,
    leave: watch::Sender<bool>,
    /// Of the sweep; `None` where this process never sweeps.
    pub(super) sweep: Option<Arc<WorkerStatus>>,
}

impl Background {
    /// Starts it, unless the process is to keep out of etcd. Clients connect at `urls`; `nudge` has the configuration looked
    /// at.
    pub(super) fn start(
        settings: &Settings,
        parts: &Parts,
        urls: Vec<String>,
        nudge: Nudge,
        stage: watch::Receiver<Stage>,
    ) -> Result<Option<Self>, io::Error> {
        let Wanted::On { name, sweep } = &settings.background else {
            return Ok(None);
        };
        let (is_there, seen_there) = watch::channel(false);
        let leave = watch::Sender::new(false);
        let status = sweep.map(|_| Arc::new(WorkerStatus::default()));
        let id = MemberId::new();
        let keyring = Arc::clone(&parts.keyring);
        let presence = Presence {
            id,
            describe: describe(name.clone(), urls, parts),
            changed: keyring.replacements(),
            witness: Standing::new(parts, &settings.common.state_prefix, nudge, is_there),
            leave: leave.subscribe(),
        };
        let worker = sweep.zip(status.clone()).map(|(limits, status)| Worker {
            keyring: {
                let keyring = Arc::clone(&keyring);
                move || keyring.snapshot()
            },
            id,
            state: settings.common.state_prefix.clone(),
            limits,
            status,
            replaced: keyring.replacements(),
            stop: ends_with(stage),
        });
        let state_prefix = settings.common.state_prefix.clone();
        let members = Arc::clone(&parts.upstream.members);
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                let runtime = match Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default())
                {
                    Ok(runtime) => runtime,
                    Err(error) => return tracing::error!(%error, "cannot start the background's runtime"),
                };
                runtime.block_on(async {
                    let flusher = Flusher::default();
                    tokio::task::spawn_local(flusher.clone().run());
                    let client = client(members, &flusher);
                    let sweeping = async {
                        if let Some(worker) = worker {
                            worker.run(&client).await;
                        }
                    };
                    tokio::join!(presence.keep(&client, &state_prefix), sweeping);
                });
            })?;
        Ok(Some(Self {
            thread,
            is_there: seen_there,
            leave,
            sweep: status,
        }))
    }

    /// Waits for the record to be in etcd, but not for long: from then on others know what this process can read.
    pub(super) async fn announced(&self) {
        let mut is_there = self.is_there.clone();
        let announced = timeout(FIRST_RECORD, is_there.wait_for(|is_there| *is_there)).await;
        if announced.is_err() {
            tracing::warn!("serving without a record of this process in etcd, which does not take one yet");
        }
    }

    /// Takes the record away and ends the thread, if that is quick.
    pub(super) async fn end(self) {
        self.leave.send_replace(true);
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        match timeout(GOODBYE, joined).await {
            Ok(Ok(Err(_))) => tracing::error!("the background's thread panicked"),
            Ok(_) => {}
            Err(_) => tracing::debug!("the record of this process is left to its lease"),
        }
    }
}

/// What this process says of itself at any moment.
fn describe(name: String, urls: Vec<String>, parts: &Parts) -> impl Fn() -> Member + Send + use<> {
    let keyring = Arc::clone(&parts.keyring);
    let status = Arc::clone(&parts.config_status);
    let started = format_rfc3339_seconds(SystemTime::now()).to_string();
    move || {
        let refused = status.snapshot().failure.as_ref().map(|failure| failure.text.clone());
        Member::new(&name, &urls, &started, &keyring.snapshot(), refused.as_deref())
    }
}

/// Set once the process is no longer `Running`.
fn ends_with(mut stage: watch::Receiver<Stage>) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        // A stage whose sender is gone is a stop as well.
        let _ = stage.wait_for(|stage| *stage != Stage::Running).await;
        stop.send_replace(true);
        stop.closed().await;
    });
    stopped
}
