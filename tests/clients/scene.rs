//! Three members, a proxy beside each and one before all, and the same load at the members themselves and through the proxies.

use tokio::time::{Duration, sleep};

use crate::common::cluster::Cluster;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::link::Link;
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
    /// To each member, where connections are to be cut.
    pub links: Vec<Link>,
    /// Which member the fault is of. It does not lead.
    pub victim: usize,
    /// A proxy beside each member that knows it alone.
    pub own: Vec<Proxy>,
    /// A proxy that knows all members.
    pub all: Proxy,
    _shared: Shared,
}

impl Scene {
    /// Clients and proxies reach the members by way of links where `has_links`.
    pub async fn start(version: Version, home: Home, has_links: bool) -> Self {
        // What operators have: a busy machine makes shorter ones elect for no reason.
        let flags = ["--heartbeat-interval=100", "--election-timeout=1000"];
        let cluster = Cluster::with(version, &flags).await;
        let mut links = Vec::new();
        if has_links {
            for member in &cluster.members {
                links.push(Link::start(&member.endpoint()).await);
            }
        }
        let victim = (cluster.leader().await + 1) % cluster.members.len();
        let ways = ways(&cluster, &links);
        let shared = Shared::at(home, &cluster.endpoints(), &config::secrets());
        let start = |name: String, ways: &[String]| {
            let mut proxy = shared.setup_by_way_of(&ways.join(","), &name).start();
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
            links,
            victim,
            own,
            all,
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
        let ways = ways(&self.cluster, &self.links);
        let members: Vec<&str> = ways.iter().map(String::as_str).collect();
        let proxies: Vec<&str> = self.own.iter().map(Proxy::url).collect();
        let (two, two_proxies) = ([members[victim], members[other]], [proxies[victim], proxies[other]]);
        let at = async |name: &str, endpoints: &[&str]| {
            Gocli::load(endpoints, &format!("/registry/secrets/default/{name}-")).await
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

fn ways(cluster: &Cluster, links: &[Link]) -> Vec<String> {
    if links.is_empty() {
        return cluster.members.iter().map(Etcd::endpoint).collect();
    }
    links.iter().map(|link| link.url().to_owned()).collect()
}
