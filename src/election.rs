//! A right that one process has at a time: a key in etcd that says who has it, and lives as long as that process's lease.
//! What the right is for, and what its key is called, is for rooms above.
//!
//! `owner` gets it, keeps it and lets go; `holder` is what the key says, and whether that process still lives; `term` is
//! how long may be written under it. No two clocks are compared: by its own clock an owner stops before its lease could
//! have ended, and a guarded write of one whose lease has ended all the same is refused by etcd.

mod error;
mod holder;
mod owner;
mod term;

pub use error::Error;
pub use holder::Holder;
pub use owner::Owner;
pub use term::Term;
