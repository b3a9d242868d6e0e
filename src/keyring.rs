//! The rules of one configuration, compiled: from an etcd key to the chain that seals and opens its value.
//!
//! A [`Keyring`] never changes; when the configuration's file does, a [`Reloader`] has a new one made, which a
//! [`KeyringHandle`] puts in the old one's place. Decides nothing about what to do with a value that does not open.

mod announce;
mod error;
mod families;
mod guess;
mod handle;
mod key_age;
mod key_writes;
mod lookup;
mod meter;
#[cfg(test)]
mod meter_tests;
mod permit;
mod readers;
mod reload;
mod rule;
mod sealer;
mod snapshot;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use families::FAMILIES;
pub use guess::{guess, paths};
pub use handle::KeyringHandle;
pub use key_writes::key_writes;
pub use lookup::Lookup;
pub use permit::{Permit, Writing};
pub use readers::{Lost, Reader};
pub use reload::{
    Document, FAMILIES as RELOAD_FAMILIES, FileSource, Load, LoadError, Loading, ReadError, Reading, ReloadConfig,
    ReloadStatus, Reloader, Source, say_retired,
};
pub use rule::Rule;
pub(crate) use rule::scope;
pub use sealer::{Lap, Sealer};
pub use snapshot::Keyring;
