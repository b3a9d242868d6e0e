//! The proxy before real etcds, seen by clients that are not ours: etcd's own library for Go as kube-apiserver uses it, Python,
//! Node, `etcdctl`, curl and h2load. `make clients` runs it and brings what it needs.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    clippy::similar_names,
    clippy::struct_field_names,
    unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod foreign;
mod gocli;
mod scene;
mod tools;
mod upgrade;
mod watches;
