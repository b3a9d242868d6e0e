//! Bytes of a value to bytes in etcd and back, exactly as kube-apiserver's encryption at rest stores them.
//!
//! One provider a file: `identity`, `aescbc`, `aesgcm`, `secretbox`. A provider is a chain of named keys, a
//! [`Chain`] is a chain of providers, and both are the same generic `prefix_chain`; `prefix` is the only file that
//! knows how stored values begin. Pure but for the random nonces: nothing here does IO, knows a resource, reads a
//! configuration or logs, and no error holds a byte of a key or a plaintext.

mod aescbc;
mod aesgcm;
mod chain;
mod error;
mod identity;
mod prefix;
mod prefix_chain;
mod provider;
mod secretbox;
#[cfg(test)]
mod written_bytes;

pub use chain::{Chain, Writer};
pub use error::{BuildError, OpenError, SealError};
pub use prefix::is_sealed;
pub use prefix_chain::Opened;
pub use provider::{Provider, ProviderKind};
