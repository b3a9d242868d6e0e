//! What the tests that run real processes share: etcd, the proxy, certificates, clients.
//!
//! It never reaches outside the loopback interface, and every process it starts ends with the value that holds it.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod client;
pub mod cluster;
pub mod config;
pub mod etcd;
pub mod fake_etcd;
pub mod frames;
pub mod http;
pub mod kine;
pub mod kms;
pub mod link;
pub mod managed;
pub mod netns;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod rotation;
pub mod snapshot;
pub mod sweep;
pub mod tools;
pub mod watch;

/// etcd's messages and clients, generated from `proto/`.
#[allow(clippy::all, clippy::pedantic, unused_qualifications, missing_docs)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/etcd.rs"));

    /// The descriptor of everything in `proto/`.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.binpb"));
}
