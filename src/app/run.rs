//! Runs `serve` from bound listeners to the last connection's end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::background::Background;
use super::build::{Parts, build};
use super::checks::checks;
use super::families::{families, record_build};
use super::lasting::Lasting;
use super::{Error, Misplaced, Settings, forbid_dumps, manager, memory, reload, withdrawal};
use crate::admin;
use crate::audit::{self, Audit};
use crate::etcd::NotEtcd;
use crate::files::nudge;
use crate::keyring::{KeyringHandle, Rule};
use crate::kms::{self, Plugins};
use crate::proxy::{Runtimes, Shared, Stage};
use crate::systemd::Told;
use crate::telemetry::Registry;
use crate::tls::{Handle, ServerTls};
use crate::traces::{self, Traces};
use crate::transport::{Closed, ListenUrl, Listener};
use crate::types::with_causes;

/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for the first look at the KMS plugins. A plugin's timeout is 3 s where the configuration does not say.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Serves until a signal ends it. Blocks the calling thread.
///
/// SIGTERM or SIGINT drains: no new connections, no new calls, those under way end, within `shutdown_timeout`. A second
/// signal closes everything at once.
pub fn serve(settings: &Settings) -> Result<(), Error> {
    forbid_dumps()?;
    memory::lock(settings.memory_lock)?;
    // Before anything is built: what is built counts from its beginning.
    let registry = Registry::install(families())?;
    record_build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let plugins = Plugins::new(runtime.handle().clone(), kms::Config::default());
    let (audit, log) = match &settings.audit_log {
        None => (Audit::default(), None),
        Some(path) => {
            let (audit, log) = audit::open(path)?;
            (audit, Some(log))
        }
    };
    let (traces, export) = match &settings.traces {
        None => (Traces::default(), None),
        Some(config) => {
            let (traces, export) = runtime.block_on(async { traces::start(config) })?;
            (traces, Some(export))
        }
    };
    let parts = build(settings, Arc::new(plugins), &audit, &traces)?;
    let outcome = runtime.block_on(run(settings, parts, registry));
    if let Some(export) = export {
        runtime.block_on(export.finish());
    }
    // A file that was being read on something that hangs must not keep the process from ending.
    runtime.shutdown_background();
    audit.stopped(if outcome.is_ok() { "signal" } else { "error" });
    if let Some(log) = log {
        log.finish();
    }
    outcome
}

async fn run(settings: &Settings, mut parts: Parts, registry: Registry) -> Result<(), Error> {
    let signals = Signals::new()?;
    let clients = bind_all(&settings.listen)?;
    let metrics = bind_all(&settings.listen_metrics)?;
    // Clients wait in the listeners' queues meanwhile, and are then served by a KMS that is at hand if it can be.
    examine(parts.keyring.snapshot().plugins()).await;
    let (progress, stage) = watch::channel(Stage::Running);
    let shared = Shared {
        upstream: parts.upstream.clone(),
        keyring: Arc::clone(&parts.keyring),
        config: Arc::clone(&parts.proxy),
        stage: stage.clone(),
    };
    let urls: Vec<_> = clients.iter().map(|listener| listener.url().to_owned()).collect();
    let served = list(&urls);
    let (nudge, nudged) = nudge();
    let kept = parts.kept.take();
    let lasting = Lasting::new();
    let lives = lasting.lives("the background's thread");
    let background =
        Background::start(settings, &parts, urls, nudge.clone(), kept, lives, stage.clone()).map_err(Error::Start)?;
    let runtimes = Arc::new(Runtimes::start(settings.threads, &shared).map_err(Error::Start)?);
    log_what_is_served(settings, &parts.keyring);
    let audit = &parts.proxy.audit;
    audit.started(env!("CARGO_PKG_VERSION"));
    let keyring = parts.keyring.snapshot();
    audit.configuration_loaded(&settings.common.origin.name(), &keyring.fingerprint(), || {
        keyring.rules().iter().map(Rule::for_audit).collect()
    });
    drop(keyring);

    let mut admin = JoinSet::new();
    reload::spawn((&mut admin, &lasting), settings, &parts, (nudge, nudged))?;
    let sweep = (background.sweep.clone(), background.surveyed.clone());
    let writes = Arc::clone(&background.writes);
    let checks = checks(
        settings,
        &parts,
        (runtimes.heartbeats(), &lasting),
        writes,
        sweep,
        &stage,
    );
    let subject = admin::State {
        registry,
        checks: Arc::clone(&checks),
    };
    serve_health((&mut admin, &lasting), settings, &parts, metrics, &subject);
    let feeding = manager::feed(settings.manager.clone(), Arc::clone(&checks));
    admin.spawn(lasting.task("the feeding of systemd's watchdog", feeding));
    let (reached, members) = (
        Arc::clone(&parts.upstream.reachability),
        Arc::clone(&parts.upstream.members),
    );
    let proxy = tokio::select! {
        biased;
        proxy = reached.misdirected(&members) => Some(proxy),
        () = background.announced() => None,
    };
    let mut accepting = JoinSet::new();
    let (reachability, others, progress) = (
        Arc::clone(&parts.upstream.reachability),
        background.others.clone(),
        Arc::new(progress),
    );
    let (wanted, steps) = (settings.on_unreachable, Arc::clone(&progress));
    accepting.spawn(lasting.task("the watch over etcd's members", async move {
        withdrawal::run(wanted, &others, &reachability, &steps).await;
    }));
    // Nobody is served by way of another proxy, not even for a moment.
    let clients = clients.into_iter().take(if proxy.is_some() { 0 } else { usize::MAX });
    for (listener, url) in clients.zip(&settings.listen) {
        tracing::info!(url = listener.url(), "serving client traffic");
        let tls = parts
            .server_tls
            .as_ref()
            .map(|tls| tls.handle.clone())
            .filter(|_| url.is_tls());
        let (runtimes, stage) = (Arc::clone(&runtimes), stage.clone());
        accepting.spawn(lasting.task("the accepting of connections", accept(listener, tls, runtimes, stage)));
    }
    let telling = manager::describe(settings.manager.clone(), served, stage.clone());
    admin.spawn(lasting.task("the telling of systemd", telling));
    if proxy.is_none() {
        settings.manager.tell(Told::Ready);
    }
    let misdirected = async move { reached.misdirected(&members).await };
    let broken = drain(
        settings,
        (signals, misdirected),
        &lasting,
        &progress,
        accepting,
        runtimes,
    )
    .await;
    background.end().await;
    admin.shutdown().await;
    tracing::info!("stopped");
    broken.map_or(Ok(()), Err)
}

/// Serves metrics and health at each listener that there is for them.
fn serve_health(
    (admin, lasting): (&mut JoinSet<()>, &Lasting),
    settings: &Settings,
    parts: &Parts,
    listeners: Vec<Listener>,
    subject: &admin::State,
) {
    for (listener, url) in listeners.into_iter().zip(&settings.listen_metrics) {
        tracing::info!(url = listener.url(), "serving metrics and health");
        let tls = parts.server_tls.as_ref().map(|tls| tls.handle.clone());
        let serving = admin::serve(listener, tls.filter(|_| url.is_tls()), subject.clone());
        admin.spawn(lasting.task("the serving of metrics and health", serving));
    }
}

/// Accepts connections, but not while the process has withdrawn.
async fn accept(
    mut listener: Listener,
    tls: Option<Handle<ServerTls>>,
    runtimes: Arc<Runtimes>,
    mut stage: watch::Receiver<Stage>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => {
                    // Whatever is in use by now: certificates are replaced while this runs.
                    let session = tls.as_ref().map(|tls| Arc::clone(&tls.load().config));
                    runtimes.serve(accepted, session);
                }
                Err(error) => {
                    tracing::warn!(%error, url = listener.url(), "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // It ends with this task, where the process does.
            Ok(()) = withdrawn(&mut stage) => {
                let closed = listener.close();
                let _ = stage.wait_for(|stage| *stage != Stage::Withdrawn).await;
                listener = bound_again(&closed).await;
            }
        }
    }
}

async fn withdrawn(stage: &mut watch::Receiver<Stage>) -> Result<(), watch::error::RecvError> {
    stage.wait_for(|stage| *stage == Stage::Withdrawn).await.map(drop)
}

async fn bound_again(closed: &Closed) -> Listener {
    let mut told = false;
    loop {
        match closed.bind() {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(error = with_causes(&error), "clients cannot be served again yet");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for the first look at each KMS plugin, but no longer than `FIRST_LOOK`: one that is down is no reason not to
/// start, as values without it and those whose keys are at hand can be served.
pub(super) async fn examine(plugins: &[kms::Plugin]) {
    join_all(plugins.iter().map(|plugin| plugin.examined(FIRST_LOOK))).await;
    for plugin in plugins {
        tracing::info!("{}", plugin.report());
    }
}

/// Waits for a signal, or for what no process can go on with: the end of something that has to last, or proxies in etcd's place.
/// Then sees everything to its end.
async fn drain(
    settings: &Settings,
    (mut signals, misdirected): (Signals, impl Future<Output = NotEtcd>),
    lasting: &Lasting,
    stage: &watch::Sender<Stage>,
    mut accepting: JoinSet<()>,
    runtimes: Arc<Runtimes>,
) -> Option<Error> {
    let timeout = settings.shutdown_timeout;
    let broken = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, ?timeout, "draining; a second signal stops at once");
            None
        }
        what = lasting.broken() => {
            tracing::error!(what, ?timeout, "draining, because this has ended; a signal stops at once");
            Some(Error::Ended(what))
        }
        proxy = misdirected => {
            tracing::error!(%proxy, ?timeout, "draining, because no member of etcd is there; a signal stops at once");
            Some(Misplaced::from(proxy).into())
        }
    };
    settings.manager.tell(Told::Stopping);
    settings.manager.tell(Told::Status(&match &broken {
        None => "draining".to_owned(),
        Some(what) => format!("draining, because this has ended: {what}"),
    }));
    lasting.over();
    accepting.shutdown().await;
    stage.send_replace(Stage::Draining);
    // The accepting tasks had the other handles, and they have ended.
    let Some(runtimes) = Arc::into_inner(runtimes) else {
        return broken;
    };
    let mut ended = tokio::task::spawn_blocking(|| runtimes.join());
    tokio::select! {
        _ = &mut ended => return broken,
        () = sleep(settings.shutdown_timeout) => {
            tracing::warn!("calls still under way after --shutdown-timeout are cut off");
        }
        signal = signals.next() => tracing::warn!(signal, "stopping at once"),
    }
    stage.send_replace(Stage::Stopped);
    let _ = ended.await;
    broken
}

fn bind_all(urls: &[ListenUrl]) -> Result<Vec<Listener>, Error> {
    Ok(urls.iter().map(Listener::bind).collect::<Result<_, _>>()?)
}

fn log_what_is_served(settings: &Settings, keyring: &KeyringHandle) {
    let keyring = keyring.snapshot();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        members = %list(&settings.common.members),
        prefixes = %list(&settings.common.prefixes),
        state_prefix = %settings.common.state_prefix.as_bytes().escape_ascii(),
        config = settings.common.origin.name(),
        fingerprint = %keyring.fingerprint(),
        threads = settings.threads,
        "starting"
    );
    keyring.announce();
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The two signals that end the proxy.
pub(super) struct Signals(Signal, Signal);

impl Signals {
    pub(super) fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::Start);
        Ok(Self(on(SignalKind::terminate())?, on(SignalKind::interrupt())?))
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.0.recv() => "SIGTERM",
            Some(()) = self.1.recv() => "SIGINT",
            else => pending().await,
        }
    }
}
