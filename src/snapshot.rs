//! What a snapshot of etcd holds, and whether it could be read once it is restored: how many objects are under which key,
//! which of the keys at hand open them, and which are missing. Needs no etcd.
//!
//! One walk over the store, newest revision first: what is met of a key first is what counts of it, and all that comes later
//! is history. So memory is a hash for each key and one batch of values, whatever the file's size. `revision`, `record`,
//! `judge` and `tally` are pure; `file` and `store` read; `inspect` drives them and waits for KMS plugins.
//!
//! Nothing is written, and no value is shown: names, counts and etcd keys only. Every value is opened, not only looked at,
//! because a name says little about a key: the documentation of Kubernetes calls its own `key1`, and so do many others.

mod error;
mod file;
mod inspect;
mod judge;
mod kind;
mod own;
mod record;
mod report;
mod revision;
mod scope;
mod store;
mod table;
mod tally;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use file::{Checksum, SnapshotFile};
pub use inspect::inspect;
pub use own::{OwnRecord, own_records};
pub use report::{Finding, Report};
pub use scope::{KeySource, Scope};
