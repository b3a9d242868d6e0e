//! How cost grows with connections, watches and keys, and how much memory what is large takes. CPU and memory must grow no
//! faster than the work: what a request costs is the same with a thousand others about.

use std::fmt::Write as _;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::calls::{self, Load, kv, put_all, value};
use crate::closed::{self, Shape};
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::fan_out::{self, Watchers};
use crate::measured::{Meter, Round};
use crate::report::mebibytes;
use crate::scene::Scene;
use crate::settings::Settings;
use crate::target::{AESCBC, DIRECT, Target, Transport};
use crate::usage;

const CONNECTIONS: [usize; 6] = [1, 10, 100, 500, 1_000, 2_000];
const WATCHES: [usize; 5] = [10, 100, 1_000, 5_000, 20_000];
const KEYS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// One list in one answer: this many values of 1 KiB.
const LONG_LIST: usize = 100_000;
const PAGE: i64 = 500;
const SMALL: usize = 128;
const KIB: usize = 1024;
const MIB: f64 = 1024.0 * 1024.0;
/// Each connection is a file of the load's and one of the proxy's.
const FILES: u64 = 16_384;

/// What was found, as Markdown.
pub async fn run(settings: &Settings) -> String {
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, limit).expect("a higher limit on open files");
    let scene = Scene::start(settings, Transport::Tcp, &[DIRECT, AESCBC]).await;
    let proxy = scene
        .targets
        .iter()
        .find(|target| target.name == AESCBC)
        .expect("a proxy");
    let mut curves = Curves {
        page: String::new(),
        idle: resident(proxy),
    };
    curves.connections(&scene, proxy, settings).await;
    curves.watches(&scene, proxy, settings);
    curves.keys(&scene, proxy).await;
    curves.long_list(&scene, proxy).await;
    let Curves { page, idle } = curves;
    format!(
        "## How cost grows\n\nIdle: {}; {}.\n{page}",
        mebibytes(idle),
        aim(idle as f64 <= 16.0 * MIB, "at most 16 MiB")
    )
}

struct Curves {
    page: String,
    idle: u64,
}

impl Curves {
    async fn connections(&mut self, scene: &Scene, proxy: &Target, settings: &Settings) {
        let most = CONNECTIONS.into_iter().max().unwrap_or(1);
        calls::fill(proxy.connect().await, &proxy.prefix(), Load::Get, KIB, most).await;
        self.table(
            "get of 1 KiB, one client on each connection",
            "connections",
            "requests/s",
            "connection",
        );
        let mut costs = Vec::new();
        for connections in CONNECTIONS {
            eprintln!("scale: {connections} connections");
            let shape = Shape {
                load: Load::Get,
                clients: connections,
                connections,
                value_bytes: KIB,
            };
            let round = tokio::task::block_in_place(|| closed::run(proxy, scene.etcd_pid, shape, settings.window));
            costs.push(self.row(connections, &round));
        }
        self.grows(&costs);
    }

    fn watches(&mut self, scene: &Scene, proxy: &Target, settings: &Settings) {
        self.table(
            "an event of 1 KiB to all watches, on 20 connections",
            "watches",
            "events/s",
            "watch",
        );
        let mut costs = Vec::new();
        for watches in WATCHES {
            eprintln!("scale: {watches} watches");
            let watchers = Watchers {
                connections: 20.min(watches),
                watches,
                value_bytes: KIB,
            };
            let round = tokio::task::block_in_place(|| fan_out::run(proxy, scene.etcd_pid, watchers, settings.window));
            costs.push(self.row(watches, &round));
        }
        self.grows(&costs);
    }

    async fn keys(&mut self, scene: &Scene, proxy: &Target) {
        self.table(
            "a list of all in pages of 500, values of 128 B",
            "keys",
            "keys/s",
            "key",
        );
        let prefix = format!("{}many/", proxy.prefix());
        let (mut costs, mut there) = (Vec::new(), 0);
        for keys in KEYS {
            eprintln!("scale: {keys} keys");
            let new = (there..keys).map(|index| format!("{prefix}{index:09}").into_bytes());
            put_all(proxy.connect().await, new.collect(), &value(SMALL)).await;
            there = keys;
            scene.tidy().await;
            let meter = Meter::begin(proxy, scene.etcd_pid);
            let begun = std::time::Instant::now();
            assert_eq!(paged(proxy, &prefix).await, keys);
            let took = begun.elapsed();
            let each = took.as_secs_f64() * 1e6 / keys as f64;
            costs.push(self.row(keys, &meter.end(took, vec![each; keys])));
        }
        self.grows(&costs);
    }

    async fn long_list(&mut self, scene: &Scene, proxy: &Target) {
        eprintln!("scale: a list in one answer");
        let load = Load::List(LONG_LIST);
        calls::fill(proxy.connect().await, &proxy.prefix(), load, KIB, 1).await;
        let shape = Shape {
            load,
            clients: 1,
            connections: 1,
            value_bytes: KIB,
        };
        let meter = Meter::begin(proxy, scene.etcd_pid);
        tokio::task::block_in_place(|| closed::exactly(proxy, shape, 1));
        let peak = meter
            .end(std::time::Duration::from_secs(1), Vec::new())
            .peak
            .unwrap_or_default();
        let list = (LONG_LIST * KIB) as f64;
        let times = peak as f64 / list;
        let aim = aim(times <= 4.0, "at most 4 times the list");
        writeln!(
            self.page,
            "\nA list of {LONG_LIST} values of 1 KiB in one answer: peak memory {}, {times:.1} times the list; {aim}.",
            mebibytes(peak)
        )
        .expect("text");
    }

    fn table(&mut self, title: &str, number: &str, rate: &str, each: &str) {
        let idle = mebibytes(self.idle);
        write!(
            self.page,
            "\n{title}\n\n| {number} | {rate} | p50 | p99 | CPU µs each | peak memory | beyond {idle}, for each {each} |\n\
             |---:|---:|---:|---:|---:|---:|---:|\n"
        )
        .expect("text");
    }

    /// Adds a row and gives the CPU time that one request took.
    fn row(&mut self, number: usize, round: &Round) -> f64 {
        let cpu = round.proxy_cpu.unwrap_or_default();
        let peak = round.peak.unwrap_or_default();
        let each = peak.saturating_sub(self.idle) as f64 / number as f64;
        let [p50, p99, _] = round.latency.map(|micros| micros / 1e3);
        writeln!(
            self.page,
            "| {number} | {:.0} | {p50:.2} ms | {p99:.2} ms | {cpu:.1} | {} | {:.1} KiB |",
            round.throughput,
            mebibytes(peak),
            each / KIB as f64,
        )
        .expect("text");
        cpu
    }

    /// Whether the last of `costs`, of the most work, is no more than the middle one by half.
    fn grows(&mut self, costs: &[f64]) {
        let (Some(last), middle) = (costs.last(), crate::measured::median(costs.to_vec())) else {
            return;
        };
        let times = last / middle;
        let aim = aim(times <= 1.5, "no faster than the work");
        writeln!(
            self.page,
            "\nCPU for each at the most, beside the median: {times:.2} times; {aim}."
        )
        .expect("text");
    }
}

fn aim(is_reached: bool, text: &str) -> String {
    format!("aim {text}: {}", if is_reached { "reached" } else { "**missed**" })
}

fn resident(target: &Target) -> u64 {
    usage::memory(target.pid.expect("a process")).0
}

/// Lists all keys under `prefix` as kube-apiserver does, and counts them.
async fn paged(target: &Target, prefix: &str) -> usize {
    let mut client = kv(target.connect().await);
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    let (mut key, mut revision, mut count) = (prefix.as_bytes().to_vec(), 0, 0);
    loop {
        let request = RangeRequest {
            key,
            range_end: end.clone(),
            limit: PAGE,
            revision,
            ..RangeRequest::default()
        };
        let page = client.range(request).await.expect("a page").into_inner();
        count += page.kvs.len();
        revision = page.header.expect("a header").revision;
        let Some(last) = page.kvs.into_iter().next_back().filter(|_| page.more) else {
            return count;
        };
        key = last.key;
        key.push(0);
    }
}
