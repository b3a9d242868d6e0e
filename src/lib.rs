//! A transparent gRPC proxy between kube-apiserver and etcd that encrypts values at rest.
//!
//! The rooms of the house; imports go down the list in ARCHITECTURE.md only, which `tests/tidy.rs` checks.

pub mod admin;
pub mod app;
pub mod audit;
pub mod bbolt;
pub mod cli;
pub mod config;
pub mod election;
pub mod etcd;
pub mod files;
pub mod inventory;
pub mod keyring;
pub mod keyspace;
pub mod kms;
pub mod managed;
pub mod members;
pub mod pb;
pub mod proxy;
pub mod review;
pub mod rewrite;
pub mod rotation;
pub mod snapshot;
pub mod sweep;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod transport;
pub mod types;
pub mod value;
pub mod wire;
