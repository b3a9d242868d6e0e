//! Instructions that the whole proxy takes for a request, counted by callgrind while it serves a real etcd: HTTP/2, runtime and
//! allocator included, the kernel not. What a busy machine does beside it shows but little, as other moments at which
//! requests meet.

use std::fmt::Write as _;

use crate::calls::{self, Load};
use crate::closed::{self, Shape};
use crate::common::proxy::Setup;
use crate::common::{config, etcd::Etcd};
use crate::settings::Settings;
use crate::target::{self, Target};

const KIB: usize = 1024;
/// Loads, with the requests of the shorter run. A longer one has three times as many, and the difference counts: what a
/// start and an end take is in both.
const LOADS: [(Load, usize); 4] = [
    (Load::Get, 1_280),
    (Load::Put, 1_280),
    (Load::Update, 1_280),
    (Load::List(500), 64),
];

pub struct Counts {
    names: Vec<&'static str>,
    /// By load, then by name.
    counts: Vec<(String, Vec<u64>)>,
}

pub async fn run(settings: &Settings) -> Counts {
    let etcd = Etcd::start(settings.version).await;
    let names = settings.chosen(&[target::NO_RULE, target::AESCBC]);
    let mut counts = Vec::new();
    for (load, requests) in LOADS {
        let mut found = Vec::new();
        for &name in &names {
            eprintln!("instructions: {}, {name}", load.name());
            let few = count(&etcd, settings, name, load, requests).await;
            let many = count(&etcd, settings, name, load, 3 * requests).await;
            found.push((many - few) / (2 * requests as u64));
        }
        counts.push((load.name(), found));
    }
    Counts { names, counts }
}

/// Instructions of a proxy that served so many requests.
async fn count(etcd: &Etcd, settings: &Settings, name: &'static str, load: Load, requests: usize) -> u64 {
    // Where callgrind leaves what it found of each function.
    let out = std::env::var("E2E_CALLGRIND_OUT").unwrap_or_else(|_| "/dev/null".to_owned());
    let callgrind = format!("valgrind --tool=callgrind --callgrind-out-file={out}");
    let under = target::run_by(settings, name, &callgrind);
    let under: Vec<_> = under.iter().map(String::as_str).collect();
    let setup = Setup::new(etcd.endpoint(), config::document("secrets", "aescbc")).under(&under);
    let target = Target::of(name, setup.start());
    let shape = Shape {
        load,
        clients: 64,
        connections: 8,
        value_bytes: KIB,
    };
    calls::fill(target.connect().await, &target.prefix(), load, KIB, shape.clients).await;
    tokio::task::block_in_place(|| closed::exactly(&target, shape, requests));
    target.collected()
}

impl Counts {
    pub fn markdown(&self) -> String {
        let mut page = format!("| instructions a request | {} |\n|---|", self.names.join(" | "));
        page += &"---:|".repeat(self.names.len());
        for (load, counts) in &self.counts {
            let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
            write!(page, "\n| {load} | {} |", counts.join(" | ")).expect("text");
        }
        page + "\n"
    }
}
