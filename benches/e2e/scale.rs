//! How cost grows with connections, watches, keys and members, and how much memory what is large takes. CPU and memory must grow
//! no faster than the work: what a request costs is the same with a thousand others about.
//!
//! Each curve has an etcd and a proxy of its own, so that what another has left behind is in none. `E2E_MOST` leaves out all
//! that is larger: 100 makes a smoke run.

mod connections;
mod keys;
mod members;
mod watches;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::machine;
use crate::measured::{Round, median};
use crate::report::{self, mebibytes};
use crate::scene::Scene;
use crate::settings::Settings;
use crate::target::{AESCBC, DIRECT, Target, Transport};
use crate::usage;

const KIB: usize = 1024;
const MIB: f64 = 1024.0 * 1024.0;
/// Each connection is a file of the load's and one of the proxy's.
const FILES: u64 = 16_384;
/// What the aim says of a proxy that does nothing.
const IDLE: f64 = 16.0 * MIB;

/// Measures all of it, and keeps the page at `path` after each curve: whoever ends it early has what there is.
pub async fn run(settings: &Settings, path: &Path) {
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, limit).expect("a higher limit on open files");
    let mut page = format!(
        "# How cost grows\n\n{INTRODUCTION}\n{}.\n",
        machine::describe("load, proxies and etcd")
    );
    for curve in ["idle", "connections", "watches", "keys", "members"] {
        if !settings.wants(curve) {
            continue;
        }
        page += "\n";
        page += &match curve {
            "idle" => idle(settings).await,
            "connections" => connections::curve(settings).await,
            "watches" => watches::curve(settings).await,
            "keys" => keys::curves(settings).await,
            _ => members::curve(settings).await,
        };
        fs::write(path, &page).expect("a page");
    }
    println!("{page}");
}

async fn idle(settings: &Settings) -> String {
    let scene = scene(settings).await;
    let resident = resident(proxy(&scene));
    format!(
        "A proxy that has served nobody yet has {} resident; {}.\n",
        mebibytes(resident),
        aim(resident as f64 <= IDLE, "at most 16 MiB")
    )
}

/// An etcd, and a proxy before it that nobody has used.
async fn scene(settings: &Settings) -> Scene {
    Scene::start(settings, Transport::Tcp, &[DIRECT, AESCBC]).await
}

fn proxy(scene: &Scene) -> &Target {
    let found = scene.targets.iter().find(|target| target.name == AESCBC);
    found.expect("E2E_TARGETS leaves the proxy with aescbc in")
}

fn resident(target: &Target) -> u64 {
    usage::memory(target.pid.expect("a process")).0
}

/// One table: what grows with what.
struct Table {
    text: String,
    /// Resident memory before anything of it.
    idle: u64,
    costs: Vec<f64>,
}

impl Table {
    /// `held` says what is there when nothing is asked for; nothing where that is not measured.
    fn new(title: &str, number: &str, rate: &str, held: &str, idle: u64) -> Self {
        let text = format!(
            "## {title}\n\n| {number} | {rate} | p50 | p99 | CPU µs each | peak memory | {held} |\n\
             |---:|---:|---:|---:|---:|---:|---:|\n"
        );
        Self {
            text,
            idle,
            costs: Vec::new(),
        }
    }

    /// A row, with the memory that was resident while nothing was asked for.
    fn row(&mut self, number: usize, round: &Round, held: Option<u64>) {
        let cpu = round.proxy_cpu.unwrap_or_default();
        let [p50, p99, _] = round.latency.map(report::time);
        let held = held.map_or(String::new(), |held| {
            let each = held.saturating_sub(self.idle) as f64 / number as f64 / KIB as f64;
            format!("{}, {each:.1} KiB each", mebibytes(held))
        });
        writeln!(
            self.text,
            "| {number} | {:.0} | {p50} | {p99} | {cpu:.1} | {} | {held} |",
            round.throughput,
            mebibytes(round.peak.unwrap_or_default()),
        )
        .expect("text");
        self.costs.push(cpu);
    }

    /// With what the last row, of the most work, costs beside the one in the middle.
    fn end(self) -> String {
        self.text + &grows("CPU", &self.costs)
    }
}

/// Whether the last of `costs`, of the most work, is no more than the middle one by half.
fn grows(what: &str, costs: &[f64]) -> String {
    let Some(last) = costs.last() else {
        return String::new();
    };
    let times = last / median(costs.to_vec());
    let aim = aim(times <= 1.5, "no faster than the work");
    format!("\n{what} for each at the most, beside the median: {times:.2} times; {aim}.\n")
}

fn aim(is_reached: bool, text: &str) -> String {
    format!("aim {text}: {}", if is_reached { "reached" } else { "**missed**" })
}

const INTRODUCTION: &str = "\
`E2E_PARTS=scale cargo bench --bench e2e -- --accept` takes these figures anew, in some ten minutes. Every answer and event is
looked at, and the first that is not as it should be ends the run: there were none. CPU and memory are those of the proxy,
whose rule is aescbc; memory *each* is what it has resident beyond its idle state, shared out. Load, proxy and etcd share the
cores, so how many requests there are in a second says little; what each of them costs says more.
";
