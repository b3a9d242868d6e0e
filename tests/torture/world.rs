//! The processes of a scene: three etcd members, three proxies, a relay between each two, and a network namespace for each
//! proxy where they can be had. All of them end with the value, frozen ones too.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::block_in_place;

use super::plan::{MEMBERS, PROXIES};
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::Etcd;
use crate::common::link::Link;
use crate::common::netns::Namespace;
use crate::common::proxy::Starting;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document};
use crate::common::tools::Version;

/// The scene.
#[derive(Debug)]
pub struct World {
    // Dropped before what they use.
    proxies: Vec<Option<Starting>>,
    cluster: Cluster,
    down: [bool; MEMBERS],
    pub shared: Arc<Shared>,
    /// Of each proxy to each member.
    links: Vec<Vec<Link>>,
    namespaces: Vec<Option<Namespace>>,
    folder: TempDir,
}

impl World {
    /// Starts everything, and waits until it serves.
    pub async fn start(home: Home, version: Version, has_namespaces: bool) -> Self {
        let cluster = Cluster::start(version).await;
        let shared = Shared::at(home, &cluster.endpoints(), &document(&[K1, IDENTITY]));
        let namespaces: Vec<_> = (0..PROXIES).map(|_| has_namespaces.then(Namespace::create)).collect();
        let mut links = Vec::new();
        for namespace in &namespaces {
            let host = namespace.as_ref().map_or(Ipv4Addr::LOCALHOST, Namespace::host);
            let mut row = Vec::new();
            for member in &cluster.members {
                row.push(Link::start_on(IpAddr::V4(host), &member.endpoint()).await);
            }
            links.push(row);
        }
        let mut world = Self {
            proxies: (0..PROXIES).map(|_| None).collect(),
            cluster,
            down: [false; MEMBERS],
            shared: Arc::new(shared),
            links,
            namespaces,
            folder: TempDir::with_prefix("torture-").expect("a temporary folder"),
        };
        for proxy in 0..PROXIES {
            world.start_proxy(proxy);
        }
        world.ready().await;
        world
    }

    /// Starts a proxy that does not run. It may not serve yet.
    fn start_proxy(&mut self, proxy: usize) {
        // Each begins with another member, and has one connection for all calls.
        let order = (0..MEMBERS).map(|member| self.links[proxy][(proxy + member) % MEMBERS].url());
        let endpoints = order.collect::<Vec<_>>().join(",");
        let socket = format!("unix://{}", self.socket(proxy).display());
        let mut setup = self.shared.setup_by_way_of(&endpoints, &format!("p{proxy}"));
        if let Some(namespace) = &self.namespaces[proxy] {
            setup = setup.under(&namespace.enter());
        }
        self.proxies[proxy] = Some(setup.flag("--threads=1").listen(&[&socket]).spawn());
    }

    /// Where a proxy's clients find it.
    pub fn socket(&self, proxy: usize) -> PathBuf {
        self.folder.path().join(format!("p{proxy}"))
    }

    /// A folder for logs and the like.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A client of a proxy that serves.
    pub async fn client(&self, proxy: usize) -> Client {
        Client::connect_unix(self.socket(proxy)).await
    }

    /// Every member's URL, past all relays.
    pub fn endpoints(&self) -> String {
        self.cluster.endpoints()
    }

    pub fn has_namespaces(&self) -> bool {
        self.namespaces.iter().all(Option::is_some)
    }

    /// The member that leads, while all are well.
    pub async fn leader(&self) -> usize {
        self.cluster.leader().await
    }

    /// The member that a proxy has sent something to last.
    pub fn member_of(&self, proxy: usize) -> usize {
        let used = |member: &usize| self.links[proxy][*member].used();
        (0..MEMBERS).max_by_key(used).expect("a member")
    }

    pub fn link(&self, proxy: usize, member: usize) -> &Link {
        &self.links[proxy][member]
    }

    /// A proxy's links.
    pub fn links(&self, proxy: usize) -> &[Link] {
        &self.links[proxy]
    }

    pub fn drop_packets(&self, proxy: usize, dropped: bool) {
        if let Some(namespace) = &self.namespaces[proxy] {
            namespace.drop_packets(dropped);
        }
    }

    pub fn freeze_member(&self, member: usize, frozen: bool) {
        if !self.down[member] {
            self.cluster.members[member].freeze(frozen);
        }
    }

    pub fn freeze_proxy(&mut self, proxy: usize, frozen: bool) {
        if let Some(process) = self.proxies[proxy].as_mut().map(Starting::process)
            && process.is_running()
        {
            process.signal(if frozen { "STOP" } else { "CONT" });
        }
    }

    /// Ends a member as abruptly as its version can bear.
    pub fn kill_member(&mut self, member: usize) {
        if !self.down[member] {
            block_in_place(|| self.cluster.members[member].kill_or_stop());
            self.down[member] = true;
        }
    }

    pub fn start_member(&mut self, member: usize) {
        if self.down[member] {
            self.cluster.members[member].spawn();
            self.down[member] = false;
        }
    }

    pub fn kill_proxy(&mut self, proxy: usize) {
        if let Some(mut running) = self.proxies[proxy].take() {
            running.process().kill();
        }
    }

    pub fn revive_proxy(&mut self, proxy: usize) {
        if self.proxies[proxy].is_none() {
            self.start_proxy(proxy);
        }
    }

    /// Ends every fault, and waits until everything serves. Gives the proxies that ended though nobody killed them, and what they
    /// said last.
    pub async fn heal(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for proxy in 0..PROXIES {
            self.drop_packets(proxy, false);
            for link in &self.links[proxy] {
                link.release();
                link.mend();
            }
            self.freeze_proxy(proxy, false);
        }
        for member in 0..MEMBERS {
            self.freeze_member(member, false);
            self.start_member(member);
        }
        for proxy in 0..PROXIES {
            if let Some(process) = self.proxies[proxy].as_mut().map(Starting::process)
                && !process.is_running()
            {
                let output = process.output();
                let last = output.lines().last().unwrap_or_default();
                ended.push(format!("p{proxy} ended by itself: {last}"));
                self.proxies[proxy] = None;
            }
            self.revive_proxy(proxy);
        }
        self.ready().await;
        ended
    }

    async fn ready(&mut self) {
        for member in &mut self.cluster.members {
            Etcd::ready(member).await;
        }
        for running in self.proxies.iter_mut().flatten() {
            block_in_place(|| {
                running.process().wait_for("serving client traffic", |output| {
                    output.contains("serving client traffic").then_some(())
                });
            });
        }
    }
}
