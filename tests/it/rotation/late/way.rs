//! Where bytes can wait between a proxy and etcd.

use std::fs;

use super::burst::MARKER;
use super::until;
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::{Etcd, Setup as EtcdSetup};
use crate::common::link::Link;
use crate::common::netns::Namespace;
use crate::common::pb::etcdserverpb::{LeaseTimeToLiveRequest, StatusRequest};
use crate::common::proxy::Proxy;
use crate::common::rotation::Shared;
use crate::common::tools::Version;

/// Seconds that are left of a proxy's record shortly before it is kept alive again.
const LEAST: i64 = 11;
/// The same when it is about to end.
const ALMOST_OVER: i64 = 2;

/// One such place, and the etcd behind it.
pub(super) enum Way {
    /// The socket of a follower that is stopped.
    Frozen {
        cluster: Cluster,
        follower: usize,
        leader: usize,
    },
    /// The kernel of a proxy whose packets are dropped.
    Dropped { etcd: Etcd, namespace: Namespace },
    /// A relay that keeps what one connection carries.
    Relayed { etcd: Etcd, link: Link },
}

impl Way {
    pub(super) async fn frozen() -> Self {
        let cluster = Cluster::start(Version::share()).await;
        let leader = cluster.leader().await;
        Self::Frozen {
            follower: (leader + 1) % cluster.members.len(),
            leader,
            cluster,
        }
    }

    pub(super) async fn dropped() -> Self {
        let namespace = Namespace::create();
        let mut etcd = Etcd::prepare(EtcdSetup::new(Version::share()));
        etcd.add_flag(format!(
            "--listen-client-urls={},{}",
            etcd.endpoint(),
            outside(&etcd, &namespace)
        ));
        etcd.spawn();
        etcd.ready().await;
        Self::Dropped { etcd, namespace }
    }

    pub(super) async fn relayed() -> Self {
        let etcd = Etcd::start(Version::share()).await;
        let link = Link::start(&etcd.endpoint()).await;
        Self::Relayed { etcd, link }
    }

    /// A client of a member that nothing happens to.
    pub(super) async fn direct(&self) -> Client {
        match self {
            Self::Frozen { cluster, leader, .. } => cluster.members[*leader].client().await,
            Self::Dropped { etcd, .. } | Self::Relayed { etcd, .. } => etcd.client().await,
        }
    }

    /// Where everybody else finds etcd.
    pub(super) fn endpoints(&self) -> String {
        match self {
            Self::Frozen { cluster, follower, .. } => {
                let others = cluster.members.iter().enumerate();
                let others = others.filter(|(index, _)| index != follower);
                others
                    .map(|(_, member)| member.endpoint())
                    .collect::<Vec<_>>()
                    .join(",")
            }
            Self::Dropped { etcd, .. } | Self::Relayed { etcd, .. } => etcd.endpoint(),
        }
    }

    /// The proxy whose writes will be late.
    pub(super) fn start(&self, shared: &Shared) -> Proxy {
        // One thread: one connection that all calls share. And whoever is away must not be the one that carries out the rotation.
        match self {
            Self::Frozen { cluster, follower, .. } => {
                let endpoints = format!("{},{}", cluster.members[*follower].endpoint(), self.endpoints());
                shared
                    .setup_by_way_of(&endpoints, "far")
                    .flag("--threads=1")
                    .flag("--sweep=off")
                    .start()
            }
            Self::Dropped { etcd, namespace } => {
                let setup = shared.setup_by_way_of(&outside(etcd, namespace), "far");
                let socket = format!("unix://{}", setup.folder().join("socket").display());
                setup
                    .flag("--threads=1")
                    .flag("--sweep=off")
                    .under(&namespace.enter())
                    .listen(&[&socket])
                    .start()
            }
            Self::Relayed { link, .. } => shared
                .setup_by_way_of(link.url(), "far")
                .flag("--threads=1")
                .flag("--sweep=off")
                .start(),
        }
    }

    /// A client of that proxy.
    pub(super) async fn client(&self, far: &Proxy) -> Client {
        match self {
            Self::Dropped { .. } => Client::connect_unix(far.folder().join("socket")).await,
            Self::Frozen { .. } | Self::Relayed { .. } => far.client().await,
        }
    }

    /// From now on bytes wait.
    pub(super) async fn hold(&self, direct: &Client) {
        if matches!(self, Self::Dropped { .. }) {
            lasts(direct, LEAST).await;
        }
        match self {
            Self::Frozen { cluster, follower, .. } => cluster.members[*follower].freeze(true),
            Self::Dropped { namespace, .. } => namespace.drop_packets(true),
            Self::Relayed { link, .. } => link.hold_at(MARKER.as_bytes()),
        }
    }

    /// Waits until it is time for the burst. Bytes that TCP loses are sent again 9.6 s later for the last time, and the rotation
    /// waits for the record of a proxy that is cut off to end: so they are sent right before that. A proxy that has heard nothing
    /// of its member for ten seconds sends none any more: so its record must not have been kept alive right before that time.
    pub(super) async fn ripens(&self, direct: &Client) {
        if !matches!(self, Self::Dropped { .. }) {
            return;
        }
        lasts(direct, ALMOST_OVER).await;
    }

    /// How many bytes wait.
    pub(super) fn held(&self, far: &mut Proxy) -> u64 {
        match self {
            Self::Frozen { cluster, follower, .. } => {
                let member = &cluster.members[*follower];
                queued(member.pid(), Queue::Unread, Some(port(&member.endpoint())))
            }
            Self::Dropped { .. } => queued(far.process().id(), Queue::Unacknowledged, None),
            Self::Relayed { link, .. } => link.kept() as u64,
        }
    }

    /// They go on.
    pub(super) fn release(&self) {
        match self {
            Self::Frozen { cluster, follower, .. } => cluster.members[*follower].freeze(false),
            Self::Dropped { namespace, .. } => namespace.drop_packets(false),
            Self::Relayed { link, .. } => link.release(),
        }
    }

    /// Waits until etcd has all of them.
    pub(super) async fn delivered(&self, far: &mut Proxy) {
        until("the bytes at etcd", async || self.held(far) == 0).await;
        if let Self::Frozen {
            cluster,
            follower,
            leader,
        } = self
        {
            let (late, first) = (&cluster.members[*follower], &cluster.members[*leader]);
            until("a follower that has caught up", async || {
                let wanted = revision(first).await;
                revision(late).await >= wanted
            })
            .await;
        }
    }
}

/// Waits until the record of the proxy whose writes will be late has no more than so many seconds left.
async fn lasts(direct: &Client, most: i64) {
    let records = direct.everything().await.into_iter();
    let mut records = records.filter(|kv| kv.key.starts_with(b"/etcd-encryption-proxy/members/"));
    let record = records.find(|kv| kv.value.windows(5).any(|window| window == b"\"far\""));
    let id = record.expect("its record").lease;
    until("the end of a record", async || {
        let request = LeaseTimeToLiveRequest {
            id,
            ..LeaseTimeToLiveRequest::default()
        };
        let left = direct.lease().lease_time_to_live(request).await;
        left.expect("the lease").into_inner().ttl <= most
    })
    .await;
}

async fn revision(member: &Etcd) -> i64 {
    let status = member.client().await.maintenance().status(StatusRequest {}).await;
    status.map_or(-1, |status| status.into_inner().header.expect("a header").revision)
}

/// Where a proxy in the namespace finds etcd.
fn outside(etcd: &Etcd, namespace: &Namespace) -> String {
    format!("http://{}:{}", namespace.host(), port(&etcd.endpoint()))
}

fn port(endpoint: &str) -> u16 {
    let port = endpoint.rsplit(':').next().expect("a port");
    port.parse().expect("a number")
}

/// Which bytes of a socket are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// Sent, or to be sent, and not acknowledged. Sockets that their process has closed included.
    Unacknowledged,
    /// Received, and not read.
    Unread,
}

/// How many bytes lie in TCP's queues in the network namespace of the process `pid`; of one local port alone, if it is given.
fn queued(pid: u32, queue: Queue, only: Option<u16>) -> u64 {
    // As 127.0.0.1 and as an IPv6 address, which a Go listener may have.
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let mut sum = 0;
    for line in tables.iter().flat_map(|table| table.lines().skip(1)) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, state, queues, ..] = fields.as_slice() else {
            continue;
        };
        // A listener's queues count connections.
        let is_listener = *state == "0A";
        let local = local
            .rsplit(':')
            .next()
            .and_then(|port| u16::from_str_radix(port, 16).ok());
        if is_listener || only.is_some_and(|only| Some(only) != local) {
            continue;
        }
        let (unacknowledged, unread) = queues.split_once(':').expect("two queues");
        let wanted = if queue == Queue::Unread { unread } else { unacknowledged };
        sum += u64::from_str_radix(wanted, 16).expect("a number");
    }
    sum
}
