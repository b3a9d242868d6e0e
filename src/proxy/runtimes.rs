//! One single-threaded runtime per core: a connection is served where it was handed to, and nothing is handed on.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::crowd::{Crowd, Place};
use super::heartbeat::Heartbeats;
use super::meters::Meters;
use super::worker::{CALL_WINDOW, Config, STREAM_WINDOW, Worker};
use super::{Stage, connection};
use crate::etcd::{self, Pool};
use crate::keyring::KeyringHandle;
use crate::transport::{Accepted, Flusher};

/// What all runtimes of a process are made of.
#[derive(Clone)]
pub struct Shared {
    /// The members and how to reach them.
    pub upstream: etcd::Config,
    /// The keyring in use.
    pub keyring: Arc<KeyringHandle>,
    /// Settings of the data path.
    pub config: Arc<Config>,
    /// How far the proxy is on its way out.
    pub stage: watch::Receiver<Stage>,
}

/// A connection for a runtime, with the TLS it is to be greeted with.
type Handover = (Accepted, Option<Arc<ServerConfig>>, Place);

/// The runtimes, each on a thread of its own.
pub struct Runtimes {
    threads: Vec<(mpsc::UnboundedSender<Handover>, JoinHandle<()>)>,
    next: AtomicUsize,
    crowd: Arc<Crowd>,
    heartbeats: Heartbeats,
}

impl Runtimes {
    /// Starts `count` runtimes (at least one).
    ///
    /// # Errors
    /// The system gave no thread, or no event queue for one.
    pub fn start(count: usize, shared: &Shared) -> io::Result<Self> {
        let count = count.max(1);
        let heartbeats = Heartbeats::new(count);
        let threads = (0..count)
            .map(|index| start_one(index, shared.clone(), heartbeats.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            threads,
            next: AtomicUsize::new(0),
            crowd: Arc::default(),
            heartbeats,
        })
    }

    /// Whether all of them still get to their tasks.
    pub fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.clone()
    }

    /// Hands `accepted` to the next runtime in turn, or closes it where there are too many.
    pub fn serve(&self, accepted: Accepted, tls: Option<Arc<ServerConfig>>) {
        let Some(place) = self.crowd.place() else { return };
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some((queue, _)) = self.threads.get(turn % self.threads.len().max(1)) {
            // A runtime that has ended is draining: the connection is closed by being dropped.
            let _ = queue.send((accepted, tls, place));
        }
    }

    /// Waits until every runtime has ended its connections. Set the stage first; blocks the calling thread.
    pub fn join(self) {
        for (queue, thread) in self.threads {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("a runtime thread panicked");
            }
        }
    }
}

fn start_one(
    index: usize,
    shared: Shared,
    heartbeats: Heartbeats,
) -> io::Result<(mpsc::UnboundedSender<Handover>, JoinHandle<()>)> {
    let (queue_tx, queue) = mpsc::unbounded_channel();
    let thread =
        std::thread::Builder::new().name(format!("proxy-{index}")).spawn(
            move || match Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
            {
                Ok(runtime) => runtime.block_on(async {
                    tokio::task::spawn_local(heartbeats.run(index));
                    run(index, shared, queue).await;
                }),
                Err(error) => tracing::error!(%error, "cannot start a runtime"),
            },
        )?;
    Ok((queue_tx, thread))
}

async fn run(index: usize, shared: Shared, mut queue: mpsc::UnboundedReceiver<Handover>) {
    let flusher = Flusher::default();
    tokio::task::spawn_local(flusher.clone().run());
    let mut stage = own_stage(shared.stage);
    let upstream = etcd::Config {
        first: shared.upstream.first + index,
        ..shared.upstream
    };
    let worker = Rc::new(Worker {
        calls: Pool::spawn(upstream.clone(), CALL_WINDOW, flusher.clone()),
        streams: Pool::spawn(upstream, STREAM_WINDOW, flusher.clone()),
        keyring: shared.keyring,
        relay: etcd::Relay::new(Arc::clone(&shared.config.http_members)),
        config: shared.config,
        stage: stage.clone(),
        meters: Meters::new(),
        fence: RefCell::default(),
    });
    let mut connections = JoinSet::new();
    while matches!(*stage.borrow_and_update(), Stage::Running | Stage::Withdrawn) {
        tokio::select! {
            accepted = queue.recv() => match accepted {
                // Handed over just before.
                Some(_) if *stage.borrow() == Stage::Withdrawn => {}
                Some(handover) => {
                    connections.spawn_local(serve(Rc::clone(&worker), handover, flusher.clone()));
                }
                None => break,
            },
            // Keeps the set from growing with connections that have ended.
            Some(_) = connections.join_next() => {}
            _ = stage.changed() => {}
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let stopped = async {
        // The sender outlives the runtimes; if it were gone, that would be a stop as well.
        let _ = stage.wait_for(|stage| *stage == Stage::Stopped).await;
        // The connections see it too, and say goodbye.
        tokio::time::sleep(2 * connection::GOODBYE).await;
    };
    tokio::select! {
        () = ended => {}
        () = stopped => {}
    }
}

/// The stage for this runtime alone. Each poll of a connection looks at it under a lock, which the runtimes would otherwise
/// share.
fn own_stage(mut all: watch::Receiver<Stage>) -> watch::Receiver<Stage> {
    let (own, stage) = watch::channel(*all.borrow_and_update());
    tokio::task::spawn_local(async move {
        // Whoever waits is told of the sender's end as well, by that of this task.
        while all.changed().await.is_ok() {
            own.send_replace(*all.borrow_and_update());
        }
    });
    stage
}

async fn serve(worker: Rc<Worker>, (accepted, tls, place): Handover, flusher: Flusher) {
    if let Err(error) = connection::serve(worker, accepted, tls, place, flusher).await {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, cause, "client connection ended");
    }
}
