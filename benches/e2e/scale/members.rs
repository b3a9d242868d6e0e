//! Members: what several proxies cost an etcd while nothing happens, and how long each step of a rotation takes with them. The
//! keyring lies in etcd, so all of it goes through the members' records and what they watch.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::calls::{put_all, value};
use crate::common::etcd::Etcd;
use crate::common::proxy::Proxy;
use crate::common::rotation::{Home, Shared};
use crate::common::{config, http};
use crate::settings::Settings;
use crate::target::{AESCBC, Target};
use crate::usage::Cpu;

use super::{KIB, grows};

const MEMBERS: [usize; 4] = [1, 3, 6, 9];
const SECRETS: usize = 1_000;
/// How long nothing is done, to see what that costs. Some of the members' heartbeats are in it.
const QUIET: Duration = Duration::from_secs(10);
/// The steps, and the stage after each. History is compacted at once: nobody watches it, and it would be minutes.
const STEPS: [(&[&str], &str); 3] = [
    (&["prepare"], "prepare"),
    (&["rotate"], "rotate"),
    (&["reencrypt", "--compact"], "reencrypt_finished"),
];

pub async fn curve(settings: &Settings) -> String {
    let mut page = format!(
        "## Members: a rotation over {SECRETS} secrets of 1 KiB\n\n\
         What etcd is asked, in messages, and CPU of all members together. `reencrypt` waits ten seconds before it removes the old\n\
         key, whatever there is to do.\n\n\
         | members | | seconds | messages to etcd | CPU ms of all | CPU ms of etcd |\n|---:|---|---:|---:|---:|---:|\n"
    );
    let (mut messages, mut times) = (Vec::new(), Vec::new());
    for members in settings.up_to_most(&MEMBERS) {
        eprintln!("scale: {members} members");
        let found = rotated(settings, members).await;
        let (mut asked, mut took) = (0.0, Duration::ZERO);
        for step in &found {
            writeln!(
                page,
                "| {members} | {} | {:.2} | {} | {:.0} | {:.0} |",
                step.name,
                step.took.as_secs_f64(),
                step.messages,
                step.cpu.as_secs_f64() * 1e3,
                step.etcd.as_secs_f64() * 1e3,
            )
            .expect("text");
            if step.name != IDLE {
                asked += step.messages as f64;
                took += step.took;
            }
        }
        messages.push(asked / members as f64);
        times.push(took.as_secs_f64());
    }
    page += &grows("Messages of a rotation", &messages);
    if let [first, .., last] = times[..] {
        writeln!(
            page,
            "\nThe rotation takes {first:.1} s with the fewest members and {last:.1} s with the most."
        )
        .expect("text");
    }
    page
}

const IDLE: &str = "nothing";

/// One thing that happened.
struct Step {
    name: String,
    took: Duration,
    messages: u64,
    cpu: Duration,
    etcd: Duration,
}

async fn rotated(settings: &Settings, members: usize) -> Vec<Step> {
    let etcd = Etcd::start(settings.version).await;
    let shared = Shared::at(Home::Etcd, &etcd.endpoint(), &config::document("secrets", "aescbc"));
    let mut proxies: Vec<Proxy> = (0..members).map(|index| shared.member(&format!("m{index}"))).collect();
    fill(&shared, proxies[0].url()).await;
    let pids: Vec<u32> = proxies.iter_mut().map(|proxy| proxy.process().id()).collect();

    let mut steps = Vec::new();
    let quiet = measured(&etcd, &pids, IDLE, async { tokio::time::sleep(QUIET).await });
    steps.push(quiet.await);
    for (words, stage) in STEPS {
        let step = measured(&etcd, &pids, words[0], async {
            let outcome = shared.run(words).await;
            assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:#?}");
        });
        steps.push(step.await);
        assert_eq!(shared.stage().await, stage);
    }
    steps
}

/// Secrets by way of a member, sealed; and nothing of a sweep is left to do.
async fn fill(shared: &Shared, url: &str) {
    let target = Target::at(AESCBC, url);
    let keys = (0..SECRETS).map(|index| format!("{}{index:05}", target.prefix()).into_bytes());
    put_all(target.connect().await, keys.collect(), &value(KIB)).await;
    let begun = Instant::now();
    while !is_settled(&shared.status().await) {
        assert!(
            begun.elapsed() < crate::common::process::PATIENCE,
            "members that do not settle"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All members agree, and none sweeps.
fn is_settled(status: &serde_json::Value) -> bool {
    status["hashmatch"] == true && status["sweep"].is_null()
}

async fn measured(etcd: &Etcd, pids: &[u32], name: &str, work: impl Future<Output = ()>) -> Step {
    let used = || pids.iter().map(|&pid| Cpu::of(pid).total).sum::<Duration>();
    let (asked, cpu, of_etcd, begun) = (messages(etcd).await, used(), Cpu::of(etcd.pid()), Instant::now());
    work.await;
    Step {
        name: name.to_owned(),
        took: begun.elapsed(),
        messages: messages(etcd).await - asked,
        cpu: used().saturating_sub(cpu),
        etcd: Cpu::of(etcd.pid()).since(of_etcd).total,
    }
}

/// How many messages etcd has had of its clients: requests, and what comes on streams.
async fn messages(etcd: &Etcd) -> u64 {
    let metrics = http::get(&etcd.endpoint(), "/metrics")
        .await
        .expect("etcd's metrics")
        .body;
    let received = metrics
        .lines()
        .filter(|line| line.starts_with("grpc_server_msg_received_total"));
    let count = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok());
    received.filter_map(count).sum::<f64>() as u64
}
