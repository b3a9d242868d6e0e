//! Three members, a proxy beside each and one before all, and the same load at the members themselves and through the proxies.

use tokio::time::{Duration, sleep};

use crate::common::cluster::Cluster;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::link::Link;
use crate::common::netns::Namespace;
use crate::common::proxy::Proxy;
use crate::common::rotation::{Home, Shared};
use crate::common::tools::Version;
use crate::gocli::{Gocli, Load};

/// Load before the fault and after it.
const BEFORE: Duration = Duration::from_millis(1500);
const AFTER: Duration = Duration::from_secs(3);

/// A client of proxies, and one of the members that they stand before, side by side.
#[derive(Debug)]
pub struct Pair {
    pub name: &'static str,
    pub direct: Load,
    pub proxied: Load,
}

/// What is set up for one scene.
#[derive(Debug)]
pub struct Scene {
    pub cluster: Cluster,
    /// Where its clients are.
    pub network: Network,
    /// Which member the fault is of. It does not lead.
    pub victim: usize,
    /// A proxy beside each member that knows it alone.
    pub own: Vec<Proxy>,
    /// A proxy that knows all members.
    pub all: Proxy,
    _shared: Shared,
}

impl Scene {
    /// Clients and proxies reach the members over `network`.
    pub async fn start(version: Version, home: Home, network: Between) -> Self {
        // What operators have: a busy machine makes shorter ones elect for no reason.
        let flags = ["--heartbeat-interval=100", "--election-timeout=1000"];
        let namespace = matches!(network, Between::Namespace).then(Namespace::create);
        let addresses = namespace
            .iter()
            .flat_map(|namespace| [namespace.host(), namespace.lone()]);
        let cluster = Cluster::listening_on(version, &flags, &addresses.collect::<Vec<_>>()).await;
        let network = Network::start(network, &cluster, namespace).await;
        let victim = (cluster.leader().await + 1) % cluster.members.len();
        let ways = network.ways(&cluster, victim);
        let shared = Shared::at(home, &cluster.endpoints(), &config::secrets());
        let start = |name: String, ways: &[String]| {
            let mut proxy = shared
                .setup_by_way_of(&ways.join(","), &name)
                .under(&network.enter())
                .start();
            proxy.process().wait_for("it knows the cluster", |output| {
                (ways.len() > 1 || output.contains("members=3")).then_some(())
            });
            proxy
        };
        let own = ways.iter().enumerate();
        let own = own.map(|(index, way)| start(format!("p{index}"), std::slice::from_ref(way)));
        let own = own.collect();
        let all = start("all".to_owned(), &ways);
        Self {
            cluster,
            victim,
            own,
            all,
            network,
            _shared: shared,
        }
    }

    /// The member that the fault is of.
    pub fn member(&mut self) -> &mut Etcd {
        &mut self.cluster.members[self.victim]
    }

    /// Each kind of client at work while `fault` is done and undone.
    pub async fn play(&mut self, fault: impl AsyncFnOnce(&mut Self)) -> Vec<Pair> {
        let (victim, other) = (self.victim, (self.victim + 1) % 3);
        let ways = self.network.ways(&self.cluster, victim);
        let under = self.network.enter();
        let members: Vec<&str> = ways.iter().map(String::as_str).collect();
        let proxies: Vec<&str> = self.own.iter().map(Proxy::url).collect();
        let (two, two_proxies) = ([members[victim], members[other]], [proxies[victim], proxies[other]]);
        let at = async |name: &str, endpoints: &[&str]| {
            Gocli::load(&under, endpoints, &format!("/registry/secrets/default/{name}-")).await
        };
        let mut direct = (
            at("d1", &members[victim..=victim]).await,
            at("d2", &two).await,
            at("d3", &members).await,
        );
        let mut proxied = (
            at("p1", &proxies[victim..=victim]).await,
            at("p2", &two_proxies).await,
            at("p3", &proxies).await,
            at("pall", &[self.all.url()]).await,
        );
        for client in [&mut direct.0, &mut direct.1, &mut direct.2] {
            client.begin().await;
        }
        for client in [&mut proxied.0, &mut proxied.1, &mut proxied.2, &mut proxied.3] {
            client.begin().await;
        }
        sleep(BEFORE).await;
        fault(self).await;
        sleep(AFTER).await;
        let (d1, d2, d3, p1, p2, p3, pall) = tokio::join!(
            direct.0.finish::<Load>(),
            direct.1.finish::<Load>(),
            direct.2.finish::<Load>(),
            proxied.0.finish::<Load>(),
            proxied.1.finish::<Load>(),
            proxied.2.finish::<Load>(),
            proxied.3.finish::<Load>(),
        );
        let pair = |name, direct: &Load, proxied| Pair {
            name,
            direct: direct.clone(),
            proxied,
        };
        vec![
            pair(ONE, &d1, p1),
            pair("two proxies", &d2, p2),
            pair("three proxies", &d3, p3),
            pair("one before all", &d3, pall),
        ]
    }
}

/// The pair whose client has no other way.
pub const ONE: &str = "one proxy";

/// What is to lie between the members and their clients.
#[derive(Clone, Copy, Debug)]
pub enum Between {
    Nothing,
    Links,
    Namespace,
}

/// What lies there.
#[derive(Debug)]
pub enum Network {
    /// The loopback interface.
    Loopback,
    /// A relay before each member whose connections can be cut.
    Links(Vec<Link>),
    /// A router, beyond which clients and proxies are, that can drop the packets from and to the victim.
    Namespace(Namespace),
}

impl Network {
    async fn start(between: Between, cluster: &Cluster, namespace: Option<Namespace>) -> Self {
        if let Some(namespace) = namespace {
            return Self::Namespace(namespace);
        }
        if matches!(between, Between::Nothing) {
            return Self::Loopback;
        }
        let mut links = Vec::new();
        for member in &cluster.members {
            links.push(Link::start(&member.endpoint()).await);
        }
        Self::Links(links)
    }

    /// Each member's URL.
    fn ways(&self, cluster: &Cluster, victim: usize) -> Vec<String> {
        let members = cluster.members.iter().enumerate();
        let way = |(index, member): (usize, &Etcd)| match self {
            Self::Loopback => member.endpoint(),
            Self::Links(links) => links[index].url().to_owned(),
            Self::Namespace(namespace) if index == victim => member.endpoint_at(namespace.lone()),
            Self::Namespace(namespace) => member.endpoint_at(namespace.host()),
        };
        members.map(way).collect()
    }

    /// The words that start a program where clients are.
    fn enter(&self) -> Vec<&str> {
        match self {
            Self::Namespace(namespace) => namespace.enter().to_vec(),
            Self::Loopback | Self::Links(_) => Vec::new(),
        }
    }
}
