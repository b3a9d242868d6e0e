//! What is fuzzed: one module per target, each with `run`, which takes any bytes and panics where something does not hold
//! that must, and `seeds`, inputs to begin with.
//!
//! The fuzzer's programs call `run` and nothing else. `tests/fuzz_smoke.rs` of the proxy has this same file as a module
//! and runs every target over a few thousand inputs, so nothing here may name this crate or need more than that test has.

// A panic is how a target reports.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod bbolt;
pub mod config;
pub mod frames;
pub mod keyspace;
pub mod managed;
pub mod rewrite_etcd;
pub mod rewrite_streams;
pub mod rewrite_unary;
pub mod urls;
pub mod value;
pub mod wire_fields;
pub mod wire_script;

mod generate;
mod kms;
mod normal;
mod opened;
mod sent;
mod source;
mod store;
mod world;

/// etcd's messages, generated from `proto/`.
#[allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications
)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/etcd.rs"));
}

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As `cargo fuzz run` knows it.
    pub name: &'static str,
    /// Takes any bytes; panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, without which a fuzzer would be long in finding its way.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 12] = [
    target("bbolt", bbolt::run, bbolt::seeds),
    target("config", config::run, config::seeds),
    target("frames", frames::run, frames::seeds),
    target("keyspace", keyspace::run, keyspace::seeds),
    target("managed", managed::run, managed::seeds),
    target("rewrite_etcd", rewrite_etcd::run, rewrite_etcd::seeds),
    target("rewrite_streams", rewrite_streams::run, rewrite_streams::seeds),
    target("rewrite_unary", rewrite_unary::run, rewrite_unary::seeds),
    target("urls", urls::run, urls::seeds),
    target("value", value::run, value::seeds),
    target("wire_fields", wire_fields::run, wire_fields::seeds),
    target("wire_script", wire_script::run, wire_script::seeds),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}
