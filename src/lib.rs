//! A transparent gRPC proxy between kube-apiserver and etcd that encrypts values at rest.
//!
//! The rooms of the house, lowest first; imports go down this list only, which `tests/tidy.rs` checks.
//! ARCHITECTURE.md says what each is for.

pub mod config;
pub mod keyring;
pub mod keyspace;
pub mod rewrite;
pub mod types;
pub mod value;
pub mod wire;
