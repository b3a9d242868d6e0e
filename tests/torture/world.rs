//! The processes of a scene: three etcd members, three proxies, a relay between each two, and a network namespace for each
//! proxy where they can be had. All of them end with the value, frozen ones too.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::clock::{Clock, Library};
use super::plan::{MEMBERS, Means, PROXIES, Step};
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::Etcd;
use crate::common::link::Link;
use crate::common::netns::Namespace;
use crate::common::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::common::pb::etcdserverpb::{AlarmRequest, AlarmType};
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
    /// What preloads them, and each proxy's.
    library: Option<Library>,
    clocks: Vec<Option<Clock>>,
    /// Another build, of which the last proxy is.
    other: Option<PathBuf>,
    folder: TempDir,
}

impl World {
    /// Starts everything, and waits until it serves.
    pub async fn start(
        home: Home,
        version: Version,
        has_namespaces: bool,
        library: Option<Library>,
        other: Option<PathBuf>,
    ) -> Self {
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
        let folder = TempDir::with_prefix("torture-").expect("a temporary folder");
        let clock = |name: String| {
            library
                .as_ref()
                .map(|library| Clock::new(library, &folder.path().join(name)))
        };
        let clocks = (0..PROXIES).map(|proxy| clock(format!("clock-{proxy}"))).collect();
        let mut world = Self {
            proxies: (0..PROXIES).map(|_| None).collect(),
            cluster,
            down: [false; MEMBERS],
            shared: Arc::new(shared),
            links,
            namespaces,
            library,
            clocks,
            other,
            folder,
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
        if let Some(clock) = &self.clocks[proxy] {
            setup = setup.under(&clock.enter().each_ref().map(String::as_str));
        }
        if let Some(other) = self.other.as_ref().filter(|_| proxy == PROXIES - 1) {
            setup = setup.program(other);
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

    pub fn means(&self) -> Means {
        Means {
            namespaces: self.namespaces.iter().all(Option::is_some),
            clocks: self.library.is_some(),
        }
    }

    /// A clock that is no proxy's, where there can be one. `name` is its file's.
    pub fn clock(&self, name: &str) -> Option<Clock> {
        let library = self.library.as_ref()?;
        Some(Clock::new(library, &self.folder.path().join(name)))
    }

    pub fn step_clock(&self, proxy: usize, step: Step) {
        if let Some(clock) = &self.clocks[proxy] {
            clock.step(step);
        }
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

    /// Has etcd refuse writes as it does when its space is used up, or take them again.
    pub async fn fill_space(&self, full: bool) {
        let request = AlarmRequest {
            action: i32::from(if full {
                AlarmAction::Activate
            } else {
                AlarmAction::Deactivate
            }),
            member_id: 0,
            alarm: i32::from(AlarmType::Nospace),
        };
        // A member that answers is enough; where none does, nothing is written either.
        for member in (0..MEMBERS).filter(|member| !self.down[*member]) {
            let asking = async {
                let client = Client::lazy(&self.cluster.members[member].endpoint());
                client.maintenance().alarm(request).await.is_ok()
            };
            if let Ok(true) = timeout(Duration::from_secs(2), asking).await {
                return;
            }
        }
    }

    /// Keeps a copy of etcd's data. Everything has to be well.
    pub async fn back_up(&mut self) {
        self.with_etcd_down(|members| members.iter().for_each(Etcd::back_up))
            .await;
    }

    /// Puts the data back to what they were then, beneath proxies that run.
    pub async fn set_back(&mut self) {
        self.with_etcd_down(|members| members.iter().for_each(Etcd::restore))
            .await;
    }

    async fn with_etcd_down(&mut self, work: impl FnOnce(&[Etcd])) {
        block_in_place(|| {
            self.cluster.members.iter_mut().for_each(Etcd::kill_or_stop);
            work(&self.cluster.members);
            self.cluster.members.iter_mut().for_each(Etcd::spawn);
        });
        self.ready().await;
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
            self.step_clock(proxy, Step::NONE);
        }
        for member in 0..MEMBERS {
            self.freeze_member(member, false);
            self.start_member(member);
        }
        for member in &mut self.cluster.members {
            Etcd::ready(member).await;
        }
        self.fill_space(false).await;
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
