//! A TCP relay before an etcd: a network that holds up one kind of request, or all of them, without a word.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The relay. It lives as long as the test's runtime.
#[derive(Debug)]
pub struct Relay {
    url: String,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    /// What is not let through: every chunk that holds these bytes, and all behind it.
    held: Mutex<Option<Vec<u8>>>,
    is_open: watch::Sender<bool>,
    holds: watch::Sender<bool>,
}

impl Relay {
    /// To the etcd at `endpoint`.
    pub async fn start(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let gate = Arc::new(Gate {
            held: Mutex::default(),
            is_open: watch::Sender::new(true),
            holds: watch::Sender::new(false),
        });
        let gates = Arc::clone(&gate);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&upstream).await else {
                    continue;
                };
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, Arc::clone(&gates)));
                tokio::spawn(carry(from_far, to_near, Arc::clone(&gates)));
            }
        });
        Self { url, gate }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on nothing passes that holds `bytes`; with none, nothing at all.
    pub fn hold(&self, bytes: &[u8]) {
        *self.gate.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
        self.gate.is_open.send_replace(false);
    }

    /// Waits until something is held.
    pub async fn holds(&self) {
        let mut holds = self.gate.holds.subscribe();
        holds.wait_for(|holds| *holds).await.expect("the relay");
    }

    /// Lets everything through.
    pub fn release(&self) {
        *self.gate.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.gate.is_open.send_replace(true);
        self.gate.holds.send_replace(false);
    }
}

impl Gate {
    fn is_held(&self, chunk: &[u8]) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref()
            .is_some_and(|bytes| bytes.is_empty() || chunk.windows(bytes.len()).any(|window| window == bytes))
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: Arc<Gate>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut is_open = gate.is_open.subscribe();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let chunk = buffer.get(..length).expect("what was read");
        if gate.is_held(chunk) {
            gate.holds.send_replace(true);
            if is_open.wait_for(|is_open| *is_open).await.is_err() {
                return;
            }
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
    // Who reads sees the end; the other direction goes on.
    let _ = to.shutdown().await;
}
