//! The metric families of connections to etcd. Data only.

use crate::telemetry::{Family, Kind};

/// What this room exports.
pub const FAMILIES: &[Family] = &[CONNECTIONS, CONNECTS, CONNECT_FAILURES, FAILOVERS, RECEIVED, SENT];

pub(super) const CONNECTIONS: Family = Family {
    name: "etcd_encryption_proxy_upstream_connections",
    kind: Kind::Gauge,
    help: "HTTP/2 connections to each etcd member that new calls are sent on: two for each thread, if all is well, over \
           all members.",
    labels: &["endpoint"],
};

pub(super) const CONNECTS: Family = Family {
    name: "etcd_encryption_proxy_upstream_connects_total",
    kind: Kind::Counter,
    help: "Connections opened to each etcd member.",
    labels: &["endpoint"],
};

pub(super) const CONNECT_FAILURES: Family = Family {
    name: "etcd_encryption_proxy_upstream_connect_failures_total",
    kind: Kind::Counter,
    help: "Attempts to connect to an etcd member that failed. The log has the reasons.",
    labels: &["endpoint"],
};

pub(super) const FAILOVERS: Family = Family {
    name: "etcd_encryption_proxy_upstream_failovers_total",
    kind: Kind::Counter,
    help: "Connections to an etcd member that were left for the next one: closed by the member, failed, because of what a \
           call on them was told (call_failed), or for want of a leader or of an answer to a status request (no_leader).",
    labels: &["endpoint", "reason"],
};

pub(super) const RECEIVED: Family = Family {
    name: "etcd_encryption_proxy_upstream_received_bytes_total",
    kind: Kind::Counter,
    help: "Bytes read from etcd over HTTP/2, beneath gRPC and above TLS.",
    labels: &[],
};

pub(super) const SENT: Family = Family {
    name: "etcd_encryption_proxy_upstream_sent_bytes_total",
    kind: Kind::Counter,
    help: "Bytes written to etcd over HTTP/2, beneath gRPC and above TLS.",
    labels: &[],
};
