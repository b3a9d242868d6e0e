//! A cluster of three etcd members, any of which can be stopped.

use std::net::Ipv4Addr;

use super::etcd::{Etcd, Setup};
use super::pb::etcdserverpb::StatusRequest;
use super::tools::Version;

/// Three members.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of [`Cluster::endpoints`].
    pub members: Vec<Etcd>,
}

impl Cluster {
    /// Starts three members and waits until each is healthy.
    pub async fn start(version: Version) -> Self {
        Self::with(version, &["--heartbeat-interval=50", "--election-timeout=500"]).await
    }

    /// The same with these flags of etcd's.
    pub async fn with(version: Version, flags: &[&str]) -> Self {
        Self::listening_on(version, flags, &[]).await
    }

    /// The same, each member at these addresses as well, on the port of its endpoint.
    pub async fn listening_on(version: Version, flags: &[&str], addresses: &[Ipv4Addr]) -> Self {
        let setup = || flags.iter().fold(Setup::new(version), |setup, flag| setup.flag(*flag));
        let mut members: Vec<_> = (0..3).map(|_| Etcd::prepare(setup())).collect();
        let all: Vec<_> = members
            .iter()
            .map(|member| format!("{}={}", member.name(), member.peer_url()))
            .collect();
        for member in &mut members {
            member.add_flag(format!("--initial-cluster={}", all.join(",")));
            let urls: Vec<_> = addresses.iter().map(|address| member.endpoint_at(*address)).collect();
            let urls = [vec![member.endpoint()], urls].concat();
            member.add_flag(format!("--listen-client-urls={}", urls.join(",")));
            member.spawn();
        }
        for member in &mut members {
            member.ready().await;
        }
        Self { members }
    }

    /// Every member's URL, separated by commas.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(Etcd::endpoint).collect::<Vec<_>>().join(",")
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        for (index, member) in self.members.iter().enumerate() {
            let status = member.client().await.maintenance().status(StatusRequest {}).await;
            let status = status.expect("a healthy member's status").into_inner();
            if status.header.expect("a header").member_id == status.leader {
                return index;
            }
        }
        panic!("healthy members, yet none of them leads");
    }
}
