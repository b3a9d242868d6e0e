//! The proxy before real etcds, seen from outside: what clients get, what lies in etcd, what happens when things break.
//!
//! Needs the programs that `tests/install-tools.sh` fetches. One binary, because linking one for every file would take
//! longer than running it.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod advertised;
mod attack;
mod audit;
mod both_paths;
mod config_verbs;
mod descriptor;
mod encodings;
mod greedy;
mod harmful;
mod hostile;
mod keys;
mod keyspace;
mod kine;
mod kms;
mod kms_codes;
mod kms_late;
mod kms_outage;
mod kms_plugins;
mod kms_throttled;
mod kv;
mod long_list;
mod managed;
mod managed_mode;
mod managed_verbs;
mod members;
mod memory;
mod metadata;
mod misplaced;
mod observed;
mod outages;
mod passed_on;
mod range_stream;
mod relayed_http;
mod reload;
mod rotation;
mod rules;
mod runbooks;
mod shipped;
mod snapshot;
mod snapshot_call;
mod spanning;
mod state_prefix;
mod storm;
mod sweep;
mod systemd;
mod tls;
mod tokens;
mod traces;
mod transcript;
mod twins;
mod upstream;
mod usage;
mod watch;
mod withdrawal;
mod words;
