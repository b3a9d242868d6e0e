//! A TCP relay between a proxy and an etcd member that takes the bytes of a connection, keeps them, and delivers them later, also
//! where the sender has closed the connection meanwhile: a network, or a kernel, that is late.
//!
//! `relay` holds back what it has not read. This one reads on, so that the sender sees no back pressure.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What one direction of a connection may keep. Beyond it the sender feels back pressure.
const MOST: usize = 16 * 1024 * 1024;

/// The relay. It ends, and closes its connections, when it is dropped.
#[derive(Debug)]
pub struct Link {
    url: String,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// A connection that carries these bytes towards etcd is held from there on.
    marker: Mutex<Option<Vec<u8>>>,
    is_cut: AtomicBool,
    /// When a byte last went towards etcd: milliseconds since `begun`.
    used: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    state: watch::Sender<State>,
    /// Bytes for etcd that are kept, and directions that have not ended.
    kept: AtomicUsize,
    open: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Held,
    Closed,
}

impl Link {
    /// To the etcd at `endpoint`, on the loopback interface.
    pub async fn start(endpoint: &str) -> Self {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), endpoint).await
    }

    /// To the etcd at `endpoint`, listening on a free port of `address`.
    pub async fn start_on(address: IpAddr, endpoint: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            connections: Mutex::default(),
            marker: Mutex::default(),
            is_cut: AtomicBool::new(false),
            used: AtomicU64::new(0),
        });
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let acceptor = tokio::spawn(accept(listener, upstream, Arc::clone(&shared)));
        Self { url, shared, acceptor }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds each connection there is now. Later ones pass.
    pub fn hold(&self) {
        for connection in self.shared.connections().iter() {
            connection.set(State::Held);
        }
    }

    /// From now on holds each connection that carries `marker` towards etcd, from the chunk that has it.
    pub fn hold_at(&self, marker: &[u8]) {
        *self.shared.marker() = Some(marker.to_vec());
    }

    /// Delivers what is held, and holds nothing more.
    pub fn release(&self) {
        *self.shared.marker() = None;
        for connection in self.shared.connections().iter() {
            connection.set(State::Open);
        }
    }

    /// Closes each connection, and those to come, until it is mended.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        for connection in self.shared.connections().iter() {
            connection.set(State::Closed);
        }
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }

    /// How many bytes for etcd are held.
    pub fn kept(&self) -> usize {
        let connections = self.shared.connections();
        connections
            .iter()
            .map(|connection| connection.kept.load(Ordering::SeqCst))
            .sum()
    }

    /// When a byte last went towards etcd, or was to: milliseconds since the start.
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marker(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.marker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_marker(&self, chunk: &[u8]) -> bool {
        let marker = self.marker();
        marker
            .as_ref()
            .is_some_and(|marker| memchr::memmem::find(chunk, marker).is_some())
    }
}

impl Connection {
    /// A closed one stays closed.
    fn set(&self, state: State) {
        self.state.send_if_modified(|now| {
            let changes = *now != State::Closed && *now != state;
            if changes {
                *now = state;
            }
            changes
        });
    }
}

async fn accept(listener: TcpListener, upstream: String, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        if shared.is_cut.load(Ordering::SeqCst) {
            continue;
        }
        let (upstream, shared) = (upstream.clone(), Arc::clone(&shared));
        // A member that is frozen takes no connection once its backlog is full, and must not keep others waiting.
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(&upstream).await else {
                return;
            };
            let connection = Arc::new(Connection {
                state: watch::Sender::new(State::Open),
                kept: AtomicUsize::new(0),
                open: AtomicUsize::new(2),
            });
            {
                let mut connections = shared.connections();
                connections.retain(|connection| connection.open.load(Ordering::SeqCst) > 0);
                connections.push(Arc::clone(&connection));
            }
            if shared.is_cut.load(Ordering::SeqCst) {
                connection.set(State::Closed);
            }
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(from_near, to_far, Arc::clone(&connection), Some(shared)));
            tokio::spawn(carry(from_far, to_near, connection, None));
        });
    }
}

/// One direction; towards etcd with `shared`.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    connection: Arc<Connection>,
    shared: Option<Arc<Shared>>,
) {
    let mut state = connection.state.subscribe();
    let (mut buffer, mut kept, mut has_ended) = (vec![0; 64 * 1024], Vec::new(), false);
    loop {
        let now = *state.borrow_and_update();
        if now == State::Open && !kept.is_empty() {
            let delivered = tokio::select! {
                written = to.write_all(&kept) => written.is_ok(),
                _ = state.wait_for(|state| *state == State::Closed) => false,
            };
            if !delivered {
                break;
            }
            kept.clear();
            if shared.is_some() {
                connection.kept.store(0, Ordering::SeqCst);
            }
        }
        if now == State::Closed || (now == State::Open && has_ended) {
            break;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { break },
            read = from.read(&mut buffer), if !has_ended && kept.len() < MOST => match read {
                Ok(length @ 1..) => {
                    let chunk = &buffer[..length];
                    kept.extend_from_slice(chunk);
                    if let Some(shared) = &shared {
                        let elapsed = shared.begun.elapsed().as_millis();
                        shared.used.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::SeqCst);
                        if shared.has_marker(chunk) {
                            connection.set(State::Held);
                        }
                        connection.kept.store(kept.len(), Ordering::SeqCst);
                    }
                }
                _ => has_ended = true,
            },
        }
    }
    if shared.is_some() {
        connection.kept.store(0, Ordering::SeqCst);
    }
    connection.open.fetch_sub(1, Ordering::SeqCst);
    // Who reads sees the end; the other direction goes on.
    let _ = to.shutdown().await;
}
