//! TLS on both sides: from the operator's PEM files to rustls configurations, for kube-apiserver downstream and etcd
//! upstream.
//!
//! All of it is rustls on aws-lc-rs: TLS 1.2 and 1.3 with its default AEAD suites, no renegotiation, no 0-RTT, no key log.
//! Nothing here opens a socket or keeps a session for resumption. New files are loaded by a [`Reloader`] and taken from a
//! [`Handle`] by the next handshake. What cannot be used is refused; what etcd would start with too is a [`Warning`].

mod allowed;
mod client;
mod error;
mod expiry;
mod files;
mod handle;
mod own_root;
mod reload;
mod server;
mod side;
mod validity;

#[cfg(test)]
mod tests;

pub use allowed::{Allowed, NotAllowed};
pub use client::{ClientFiles, ClientTls, client_config};
pub use error::{Error, FileRole};
pub use files::MAX_FILE_BYTES;
pub use handle::{ClientSessions, Handle};
pub use reload::{FAMILIES, ReloadStatus, Reloader, fingerprint};
pub use server::{ClientAuth, ServerFiles, ServerTls, server_config};
pub use side::{Loaded, Side};
pub use validity::Warning;

/// ALPN name of HTTP/2, and so of gRPC.
pub const ALPN_H2: &[u8] = b"h2";

/// ALPN name of HTTP/1.1, for `/health`, `/version` and the like.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
