//! A transparent gRPC proxy between kube-apiserver and etcd that encrypts values at rest.
//!
//! The rooms of the house, lowest first; imports go down this list only, which `tests/tidy.rs` checks.
//! ARCHITECTURE.md says what each is for.

pub mod tls;
pub mod transport;
pub mod types;
