//! The metric families of client traffic. Data only.

use crate::telemetry::{Buckets, Family, Kind};

/// What this room exports.
pub const FAMILIES: &[Family] = &[
    REQUESTS,
    IN_FLIGHT,
    REFUSED,
    ADDED_LATENCY,
    UPSTREAM_LATENCY,
    UNAVAILABLE,
    FENCED,
    UNDECRYPTABLE,
    UNOPENED,
    WATCHES,
    CONNECTIONS,
    ACCEPTED,
    HANDSHAKE_FAILURES,
    LET_GO,
    CLIENT_MEMORY,
    RECEIVED,
    SENT,
];

pub(super) const REQUESTS: Family = Family {
    name: "etcd_encryption_proxy_requests_total",
    kind: Kind::Counter,
    help: "Calls ended, by RPC and the gRPC status that the client got. Canceled are those whose client went away.",
    labels: &["rpc", "code"],
};

pub(super) const IN_FLIGHT: Family = Family {
    name: "etcd_encryption_proxy_inflight_requests",
    kind: Kind::Gauge,
    help: "Calls under way. For Watch, LeaseKeepAlive and other streams: how many streams are open.",
    labels: &["rpc"],
};

pub(super) const REFUSED: Family = Family {
    name: "etcd_encryption_proxy_refused_total",
    kind: Kind::Counter,
    help: "Requests that were answered here and not sent to etcd, by reason.",
    labels: &["reason"],
};

pub(super) const ADDED_LATENCY: Family = Family {
    name: "etcd_encryption_proxy_added_latency_seconds",
    kind: Kind::Histogram(LATENCIES),
    help: "What the proxy itself took for a call with one request and one answer, from the request read to the answer \
           ready to be sent, less the time that etcd had it. Waiting for a KMS is part of it, waiting for the client is \
           not. Of calls that etcd answered.",
    labels: &["rpc"],
};

pub(super) const UPSTREAM_LATENCY: Family = Family {
    name: "etcd_encryption_proxy_upstream_latency_seconds",
    kind: Kind::Histogram(LATENCIES),
    help: "What etcd and the network took for a call with one request and one answer, waiting for a connection included.",
    labels: &["rpc"],
};

/// 10 µs, which is what sealing a short value and two passes through the runtime take, to 84 s, beyond every timeout.
const LATENCIES: Buckets = Buckets {
    start: 1e-5,
    factor: 2.0,
    count: 24,
};

pub(super) const UNDECRYPTABLE: Family = Family {
    name: "etcd_encryption_proxy_undecryptable_values_total",
    kind: Kind::Counter,
    help: "Stored values that no key of their rule opens, each time one is read, whatever the client got in their place.",
    labels: &[],
};

pub(super) const UNOPENED: Family = Family {
    name: "etcd_encryption_proxy_unopened_values",
    kind: Kind::Gauge,
    help: "Encrypted values that clients of this process have met and that none of its keys opens, at least so many, since a \
           complete proof last showed that there are none.",
    labels: &[],
};

pub(super) const UNAVAILABLE: Family = Family {
    name: "etcd_encryption_proxy_unavailable_values_total",
    kind: Kind::Counter,
    help: "Values of watches and of answers to writes that were passed on as they are stored, because their KMS could not be asked.",
    labels: &[],
};

pub(super) const FENCED: Family = Family {
    name: "etcd_encryption_proxy_fenced_writes_total",
    kind: Kind::Counter,
    help: "Writes that etcd refused because its epoch was another one than they were sealed in; they were sealed anew and sent again.",
    labels: &[],
};

pub(super) const WATCHES: Family = Family {
    name: "etcd_encryption_proxy_open_watches",
    kind: Kind::Gauge,
    help: "Watches that etcd has confirmed and not cancelled, on all open streams.",
    labels: &[],
};

pub(super) const CONNECTIONS: Family = Family {
    name: "etcd_encryption_proxy_client_connections",
    kind: Kind::Gauge,
    help: "Client connections that are open.",
    labels: &[],
};

pub(super) const ACCEPTED: Family = Family {
    name: "etcd_encryption_proxy_client_connections_accepted_total",
    kind: Kind::Counter,
    help: "Client connections accepted.",
    labels: &[],
};

pub(super) const HANDSHAKE_FAILURES: Family = Family {
    name: "etcd_encryption_proxy_client_tls_handshake_failures_total",
    kind: Kind::Counter,
    help: "Client connections whose TLS handshake failed; a certificate that is refused is one reason.",
    labels: &[],
};

pub(super) const LET_GO: Family = Family {
    name: "etcd_encryption_proxy_client_connections_let_go_total",
    kind: Kind::Counter,
    help: "Client connections that the proxy ended for what they had it hold or do, by reason: unread (too many streams that are not \
           read), memory (all clients hold as much as they may, this one most), resets (calls reset faster than by any client \
           that works).",
    labels: &["reason"],
};

pub(super) const CLIENT_MEMORY: Family = Family {
    name: "etcd_encryption_proxy_client_memory_bytes",
    kind: Kind::Gauge,
    help: "What clients make the process hold beyond a small share that each connection has of its own: calls, requests, answers and \
           events that are not read. Bounded by --max-client-memory-bytes.",
    labels: &[],
};

pub(super) const RECEIVED: Family = Family {
    name: "etcd_encryption_proxy_client_received_bytes_total",
    kind: Kind::Counter,
    help: "Bytes read from clients, beneath HTTP and above TLS.",
    labels: &[],
};

pub(super) const SENT: Family = Family {
    name: "etcd_encryption_proxy_client_sent_bytes_total",
    kind: Kind::Counter,
    help: "Bytes written to clients, beneath HTTP and above TLS.",
    labels: &[],
};
