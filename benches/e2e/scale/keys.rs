//! Keys: a list of all of them in pages, as kube-apiserver reads them, a sweep that writes each anew, and one list that is
//! large by itself.

use std::time::{Duration, Instant};

use crate::calls::{self, Load, kv, put_all, value};
use crate::closed::{self, Shape};
use crate::common::config::KEY_2;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::proxy::Setup;
use crate::common::sweep::{IDENTITY, K1, Outcome, Sweep, document};
use crate::measured::{Meter, Round};
use crate::report::mebibytes;
use crate::scene::Scene;
use crate::settings::Settings;
use crate::target::{AESCBC, DIRECT, Target, Transport};
use crate::usage;

use super::{KIB, Table, aim, resident};

const KEYS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// One list in one answer: this many values of 1 KiB.
const LONG_LIST: usize = 100_000;
/// kube-apiserver's own when it fills its cache, and kubectl's.
const PAGES: [i64; 2] = [10_000, 500];
const SMALL: usize = 128;

pub async fn curves(settings: &Settings) -> String {
    let scene = Scene::start(settings, Transport::Tcp, &[DIRECT]).await;
    let sizes = settings.up_to_most(&KEYS);
    let own: Vec<String> = (0..sizes.len()).map(own_provider).collect();
    // It writes with a key that every sweep replaces, and reads what each of them has left.
    let providers: Vec<&str> = [K1]
        .into_iter()
        .chain(own.iter().map(String::as_str))
        .chain([IDENTITY])
        .collect();
    let proxy = Target::of(AESCBC, Setup::new(scene.endpoint(), document(&providers)).start());
    let idle = resident(&proxy);
    let mut lists = PAGES.map(|page| {
        let title = format!("Keys: a list of all in pages of {page}, values of {SMALL} B");
        Table::new(&title, "keys", "keys/s", "", idle)
    });
    let title = "Keys: a sweep that writes all of them anew under another key, and proves it";
    let mut sweeps = Table::new(title, "keys", "keys/s", "", 0);
    let prefix = format!("{}many/", proxy.prefix());
    let mut there = 0;
    for (turn, &keys) in sizes.iter().enumerate() {
        eprintln!("scale: {keys} keys");
        let new = (there..keys).map(|index| format!("{prefix}{index:09}").into_bytes());
        put_all(proxy.connect().await, new.collect(), &value(SMALL)).await;
        there = keys;
        scene.tidy().await;
        for (page, table) in PAGES.into_iter().zip(&mut lists) {
            table.row(keys, &listed(&proxy, scene.etcd_pid, &prefix, page, keys).await, None);
        }
        // Those of the sweeps so far, the last one first.
        let to = own[..=turn].iter().rev().map(String::as_str);
        let to: Vec<&str> = to.chain([K1, IDENTITY]).collect();
        sweeps.row(keys, &swept(&scene, &to, keys).await, None);
        scene.tidy().await;
    }
    let mut page: String = lists.into_iter().map(|table| table.end() + "\n").collect();
    page += &sweeps.end();
    if settings.up_to_most(&[LONG_LIST]).is_empty() {
        return page;
    }
    page + &long_list(settings).await
}

/// With a key of the sweep that has this turn.
fn own_provider(turn: usize) -> String {
    format!("{{aescbc: {{keys: [{{name: s{turn}, secret: {KEY_2}}}]}}}}")
}

/// All keys under `prefix`, page after page, each value looked at.
async fn listed(proxy: &Target, etcd: u32, prefix: &str, page: i64, keys: usize) -> Round {
    let mut client = kv(proxy.connect().await);
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    let (mut key, mut revision, mut count, mut latencies) = (prefix.as_bytes().to_vec(), 0, 0, Vec::new());
    let written = value(SMALL);
    let (meter, begun) = (Meter::begin(proxy, etcd), Instant::now());
    loop {
        let request = RangeRequest {
            key,
            range_end: end.clone(),
            limit: page,
            revision,
            ..RangeRequest::default()
        };
        let asked = Instant::now();
        let answer = client.range(request).await.expect("a page").into_inner();
        // What is counted are keys; each of a page has the latency of the page.
        let micros = asked.elapsed().as_secs_f64() * 1e6;
        latencies.extend(answer.kvs.iter().map(|_| micros));
        assert!(
            answer.kvs.iter().all(|kv| kv.value == written),
            "a value that is not the one written"
        );
        count += answer.kvs.len();
        revision = answer.header.expect("a header").revision;
        let Some(last) = answer.kvs.into_iter().next_back().filter(|_| answer.more) else {
            break;
        };
        key = last.key;
        key.push(0);
    }
    assert_eq!(count, keys, "a list without some of its keys");
    meter.end(begun.elapsed(), latencies)
}

/// A sweep by the verb, to the first of `providers`.
async fn swept(scene: &Scene, providers: &[&str], keys: usize) -> Round {
    let (mut command, _folder) = Sweep::on(&scene.endpoint(), providers).into_parts();
    let begun = Instant::now();
    let watched = tokio::task::spawn_blocking(move || usage::watched(&mut command));
    let (output, cpu, peak) = watched.await.expect("the sweep's thread");
    let took = begun.elapsed();
    let outcome = Outcome::of(&output);
    assert_eq!(outcome.code, Some(0), "a sweep that came to its end: {outcome:#?}");
    assert!(
        outcome.number("/counts/rewritten") >= keys as u64,
        "a sweep that wrote all: {outcome:#?}"
    );
    Round {
        throughput: keys as f64 / took.as_secs_f64(),
        latency: [f64::NAN; 3],
        proxy_cpu: Some(cpu.as_secs_f64() * 1e6 / keys as f64),
        etcd_cpu: f64::NAN,
        load_cpu: 0.0,
        user_and_all: None,
        peak: Some(peak),
    }
}

async fn long_list(settings: &Settings) -> String {
    eprintln!("scale: a list in one answer");
    let scene = super::scene(settings).await;
    let proxy = super::proxy(&scene);
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
    let round = meter.end(Duration::from_secs(1), Vec::new());
    let peak = round.peak.unwrap_or_default();
    let list = (LONG_LIST * KIB) as f64;
    let times = peak as f64 / list;
    let aim = aim(times <= 4.0, "at most 4 times the list");
    format!(
        "\nA list of {LONG_LIST} values of 1 KiB in one answer: peak memory {}, {times:.1} times the list; {aim}.\n",
        mebibytes(peak)
    )
}
