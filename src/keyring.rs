//! The rules of one configuration, compiled: from an etcd key to the chain that seals and opens its value.
//!
//! A [`Keyring`] never changes; a new configuration makes a new one, which a [`KeyringHandle`] puts in the old one's
//! place. Reads no file, and decides nothing about what to do with a value that does not open.

mod error;
mod handle;
mod rule;
mod snapshot;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use handle::KeyringHandle;
pub use rule::Rule;
pub use snapshot::Keyring;
