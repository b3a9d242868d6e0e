//! What is in use, replaced as a whole and without a lock. Who takes it keeps what they took.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;

use super::client::ClientTls;

/// Where each handshake takes its TLS configuration from. Clones share it.
pub struct Handle<T>(Arc<ArcSwap<T>>);

impl<T> Handle<T> {
    /// Begins with `tls`.
    pub fn new(tls: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(tls)))
    }

    /// The one in use, for the next handshake.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts `tls` in place of the one in use. Sessions that were opened before stay as they are.
    pub fn store(&self, tls: T) {
        self.0.store(Arc::new(tls));
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Our side of TLS towards etcd, for one of the protocols.
#[derive(Clone, Debug)]
pub struct ClientSessions {
    tls: Handle<ClientTls>,
    is_grpc: bool,
}

impl ClientSessions {
    /// Offers `h2` alone.
    pub fn grpc(tls: Handle<ClientTls>) -> Self {
        Self { tls, is_grpc: true }
    }

    /// Offers `http/1.1` alone.
    pub fn http1(tls: Handle<ClientTls>) -> Self {
        Self { tls, is_grpc: false }
    }

    /// What the next session is opened with.
    pub fn config(&self) -> Arc<ClientConfig> {
        let tls = self.tls.load();
        Arc::clone(if self.is_grpc { &tls.grpc } else { &tls.http1 })
    }
}
