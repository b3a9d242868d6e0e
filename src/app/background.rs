//! What a serving process does on etcd for itself: keeps its record among the members, sweeps where that is its turn, and
//! follows and cares for the keyring where that lives there. On a thread and connections of its own, so that no client waits
//! for it.

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use humantime::format_rfc3339_seconds;
use tokio::sync::watch;
use tokio::time::timeout;

use super::build::Parts;
use super::caretaking::Caretaking;
use super::follower::{Follower, Kept, KnownRoots};
use super::lasting::Lives;
use super::marking::{Marking, Said};
use super::permits::{Permits, Renewal};
use super::standing::{Standing, Witness};
use super::survey::Surveyed;
use super::unopened::{Watch, told};
use super::withdrawal::Others;
use super::writes::Writes;
use super::{Background as Wanted, Common, Settings, on_etcd, place, store};
use crate::etcd::Client;
use crate::files::Nudge;
use crate::members::{Member, MemberId, Presence, Rivals};
use crate::proxy::Stage;
use crate::rotation::{self, Notes};
use crate::sweep::{Worker, WorkerStatus};
use crate::types::with_causes;

/// How long clients wait for the record at the start. Without etcd nothing could be answered anyway; with one that does not
/// take the record, such as for want of space, reads can be.
const FIRST_RECORD: Duration = Duration::from_secs(3);

/// How long the record may take to go at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The thread.
pub(super) struct Background {
    thread: JoinHandle<io::Result<()>>,
    is_there: watch::Receiver<bool>,
    leave: watch::Sender<bool>,
    /// Of the sweep; `None` where this process never sweeps.
    pub(super) sweep: Option<Arc<WorkerStatus>>,
    /// What lies where no table has a resource; `None` where this process keeps out of etcd.
    pub(super) surveyed: Option<Surveyed>,
    /// Whether values under a rule may be written.
    pub(super) writes: Arc<Writes>,
    /// Whether etcd has members that are not configured.
    pub(super) others: Others,
}

impl Background {
    /// Starts it. Clients connect at `urls`; `nudge` has the configuration looked at. `kept` is the keyring in etcd, if the
    /// configuration lives there. A process that is to keep out of etcd only finds out there whether it may write. `lives`
    /// until the thread ends.
    #[expect(
        clippy::too_many_lines,
        reason = "all that the thread does comes together here, in the order in which it begins"
    )]
    pub(super) fn start(
        settings: &Settings,
        parts: &Parts,
        urls: Vec<String>,
        nudge: Nudge,
        kept: Option<Kept>,
        lives: Lives,
        stage: watch::Receiver<Stage>,
    ) -> Result<Self, io::Error> {
        let (in_use, prefix) = (Arc::clone(&parts.keyring), settings.common.state_prefix.clone());
        let members = Arc::clone(&parts.upstream.members);
        let writes = Arc::new(Writes::new(parts));
        let told_of_writes = Arc::clone(&writes);
        let (is_there, seen_there) = watch::channel(false);
        let Wanted::On { name, sweep, rotation } = &settings.background else {
            return Self::apart(settings, parts, nudge, lives);
        };
        let leave = watch::Sender::new(false);
        let status = sweep.map(|_| Arc::new(WorkerStatus::default()));
        let id = MemberId::new();
        let keyring = Arc::clone(&parts.keyring);
        let stop = ends_with(stage);
        let known = KnownRoots::default();
        let rivals = Rivals::of(id);
        let says_unfenced = Arc::new(AtomicBool::new(false));
        let mut marking = Marking::new(settings, name, keyring.replacements(), leave.subscribe());
        let described = Described {
            name: name.clone(),
            urls,
            roots: Arc::clone(&known),
            says_unfenced: Arc::clone(&says_unfenced),
            serves: marking.said(),
            rivals: rivals.clone(),
        };
        let describe = describe(described, parts);
        let notes = Notes::default();
        let records = &settings.common.state_prefix;
        let standing = Standing::new(parts, records, is_there, says_unfenced, notes.clone(), rivals.clone());
        let tenure = Arc::clone(&parts.proxy.tenure);
        let (says_otherwise, changed) = watch::channel(());
        let occasions = [keyring.replacements(), parts.proxy.unfenced.asked(), rivals.changes()];
        let told_to_leave = leave.subscribe();
        let worker = sweep.zip(status.clone()).map(|(limits, status)| Worker {
            keyring: Arc::clone(&keyring),
            id,
            rotating: rotation::right(&settings.common.state_prefix),
            state: settings.common.state_prefix.clone(),
            limits,
            status,
            replaced: keyring.replacements(),
            stop: stop.clone(),
        });
        let watch = Watch::new(parts, &settings.common.state_prefix);
        let caretaking = Caretaking {
            common: settings.common.clone(),
            plugins: Arc::clone(&parts.plugins),
            // Who never sweeps cannot bring a rotation to its end.
            policy: sweep.map(|pace| (*rotation, pace)),
            stop,
        };
        let state_prefix = settings.common.state_prefix.clone();
        let handle = Arc::clone(&parts.keyring);
        let others = Others::default();
        let watched = others.clone();
        let kind = Arc::clone(&parts.upstream.kind);
        let surveyed = Surveyed::default();
        let (surveying, surveyed_rules) = (surveyed.clone(), Arc::clone(&parts.keyring));
        let common = settings.common.clone();
        let thread = on_etcd::spawn("background", members, async move |on_etcd| {
            let _lives = lives;
            let client = on_etcd.client;
            let follower = match kept
                .map(|kept| Follower::start(kept, &client, &nudge, known, tenure, handle))
                .transpose()
            {
                Ok(follower) => follower.map(Rc::new),
                Err(error) => {
                    return tracing::error!(error = with_causes(&error), "the keyring in etcd is not followed");
                }
            };
            let renewal = follower.clone().map_or(Renewal::File(nudge), Renewal::Managed);
            let permits = Permits::new(
                in_use,
                prefix,
                renewal.clone(),
                true,
                told_of_writes,
                notes,
                Some(rivals),
            );
            let presence = Presence {
                id,
                describe,
                changed,
                witness: Witness { standing, renewal },
                leave: told_to_leave,
            };
            let configured = on_etcd.members.len();
            let sweeping = join_all(worker.map(|worker| worker.run(&client)));
            let caring = async {
                if let Some(follower) = &follower {
                    Box::pin(caretaking.run(&client, follower)).await;
                }
            };
            let following = async {
                match &follower {
                    Some(follower) => follower.run().await,
                    None => pending().await,
                }
            };
            marking.first(&client).await;
            tokio::select! {
                never = marking.keep(&client) => match never {},
                _ = async { tokio::join!(presence.keep(&client, &state_prefix), sweeping, caring) } => {}
                () = following => {}
                () = forward(occasions, &says_otherwise) => {}
                () = permits.run(&client) => {}
                () = store::tell(&client, &kind) => {}
                () = watch.run(&client) => {}
                () = watched.watch(&client, configured) => {}
                () = surveying.keep(&client, &surveyed_rules, &state_prefix) => {}
                () = remark(&client, &common) => {}
            }
        })?;
        Ok(Self {
            thread,
            is_there: seen_there,
            leave,
            sweep: status,
            surveyed: Some(surveyed),
            writes,
            others,
        })
    }

    /// Of a process that keeps out of etcd: all that it does there is to find out whether it may write.
    fn apart(settings: &Settings, parts: &Parts, nudge: Nudge, lives: Lives) -> Result<Self, io::Error> {
        let (handle, prefix) = (Arc::clone(&parts.keyring), settings.common.state_prefix.clone());
        let writes = Arc::new(Writes::new(parts));
        let told_of_writes = Arc::clone(&writes);
        let (leave, mut leaves) = watch::channel(false);
        let members = Arc::clone(&parts.upstream.members);
        let kind = Arc::clone(&parts.upstream.kind);
        let mut wanted = parts.keyring.wanted();
        let thread = on_etcd::spawn("background", members, async move |on_etcd| {
            let _lives = lives;
            let telling = async {
                // The handle is this process's own.
                let _ = wanted.wait_for(|wanted| *wanted).await;
                store::tell(&on_etcd.client, &kind).await;
            };
            let permits = Permits::new(
                handle,
                prefix,
                Renewal::File(nudge),
                false,
                told_of_writes,
                Notes::default(),
                None,
            );
            tokio::select! {
                () = permits.run(&on_etcd.client) => {}
                () = telling => {}
                // It ends where nobody is left to say so, too.
                _ = leaves.changed() => {}
            }
        })?;
        Ok(Self {
            thread,
            is_there: watch::Sender::new(true).subscribe(),
            leave,
            sweep: None,
            surveyed: None,
            writes,
            // Nothing is asked of etcd.
            others: Others::default(),
        })
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
            Ok(Ok(Ok(Err(error)))) => tracing::error!(%error, "the background's thread did not start"),
            Ok(_) => {}
            Err(_) => tracing::debug!("the record of this process is left to its lease"),
        }
    }
}

/// Says once what is odd about the store, and never ends.
async fn remark(client: &Client, common: &Common) {
    if let Some(text) = place::remark(client, common).await {
        tracing::warn!("{text}");
    }
    pending::<()>().await;
}

/// Has what changes in any place seen in one, for as long as it is polled.
async fn forward([mut one, mut other, mut third]: [watch::Receiver<()>; 3], to: &watch::Sender<()>) {
    loop {
        tokio::select! {
            Ok(()) = one.changed() => {}
            Ok(()) = other.changed() => {}
            Ok(()) = third.changed() => {}
            else => pending().await,
        }
        to.send_replace(());
    }
}

/// What this process says of itself beside what its parts tell.
struct Described {
    name: String,
    urls: Vec<String>,
    roots: KnownRoots,
    /// Told whether the record says that it writes without a fence.
    says_unfenced: Arc<AtomicBool>,
    serves: Said,
    rivals: Rivals,
}

/// What this process says of itself at any moment.
fn describe(described: Described, parts: &Parts) -> impl Fn() -> Member + Send + use<> {
    let Described {
        name,
        urls,
        roots,
        says_unfenced,
        serves,
        rivals,
    } = described;
    let (keyring, unfenced) = (Arc::clone(&parts.keyring), Arc::clone(&parts.proxy.unfenced));
    let status = Arc::clone(&parts.config_status);
    let unopened = Arc::clone(&parts.proxy.unopened);
    let started = format_rfc3339_seconds(SystemTime::now()).to_string();
    move || {
        let refused = status.snapshot().failure.as_ref().map(|failure| failure.text.clone());
        let roots = roots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_unfenced = unfenced.is_wanted();
        says_unfenced.store(is_unfenced, Ordering::Release);
        let serves = serves.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Member::new(&name, &urls, &started, &keyring.snapshot(), refused.as_deref())
            .with_roots(roots)
            .with_fence(!is_unfenced)
            .with_unopened(told(&unopened))
            .yielding(rivals.yields())
            .serving(serves)
    }
}

/// Set once the process begins to end.
fn ends_with(mut stage: watch::Receiver<Stage>) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        // A stage whose sender is gone is a stop as well.
        let _ = stage
            .wait_for(|stage| matches!(stage, Stage::Draining | Stage::Stopped))
            .await;
        stop.send_replace(true);
        stop.closed().await;
    });
    stopped
}
