//! The figures as Markdown, and the same as JSON.

use std::fmt::Write as _;

use serde_json::json;

use crate::cells::Outcome;
use crate::machine;
use crate::measured::Rounds;
use crate::settings::{Part, Settings};
use crate::target::DIRECT;

const INTRODUCTION: &str = "\
`make bench` takes these figures anew, `cargo bench --bench e2e -- --accept` these alone. The load is a tonic client in a
process of its own; all targets stand before one etcd and are loaded in turns, each as often. *Of direct* is a target's
throughput beside that of etcd without anything in between, in the same round: the median of the rounds, then the least and the
most. CPU is that of the process in between, user and system, for 10,000 requests; the part in brackets is user. Peak memory
is the most that it had resident. Load, proxy and etcd share the cores, so whatever each of them costs, all others lack: **only
ratios within a row's table mean anything**, and on a machine with cores to spare they are better.
";

pub fn markdown(settings: &Settings, outcomes: &[Outcome]) -> String {
    let mut page = format!(
        "# The proxy beside no proxy\n\n{INTRODUCTION}\n{}.\n",
        setup(settings, outcomes)
    );
    let mut part = None;
    for outcome in outcomes {
        if part.replace(outcome.part) != Some(outcome.part) {
            write!(page, "\n## {}\n{}", heading(outcome.part), picture(outcome.part)).expect("text");
        }
        write!(page, "\n{}\n\n{}", outcome.cell.title(), table(outcome)).expect("text");
    }
    page
}

fn setup(settings: &Settings, outcomes: &[Outcome]) -> String {
    let etcd = outcomes.first().map_or("", |outcome| outcome.etcd.as_str());
    format!(
        "{}; etcd {etcd} with `--unsafe-no-fsync`, so that no disk is measured; {} rounds of {} s",
        machine::describe("load, proxy and etcd"),
        settings.rounds,
        settings.window.as_secs_f64(),
    )
}

fn heading(part: Part) -> &'static str {
    match part {
        Part::Core => "Put, get, update",
        Part::List => "Lists",
        Part::Sizes => "Small and large values",
        Part::Tls => "Over TLS, with client certificates, on both sides",
        Part::Unix => "Over unix sockets, on both sides",
        Part::Open => "At a given rate",
        Part::Watch => "Watches",
        Part::Lease => "Leases",
        Part::Fence => "The fence, without a proxy",
        Part::Instructions => "Instructions",
        Part::Scale => "Scale",
        Part::Soak => "Soak",
    }
}

fn picture(part: Part) -> &'static str {
    match part {
        Part::Core => "\n![Throughput, of direct](e2e-core.svg)\n\n![CPU of the proxy a request](e2e-cpu.svg)\n",
        Part::List => "\n![Throughput, of direct](e2e-list.svg)\n",
        _ => "",
    }
}

fn table(outcome: &Outcome) -> String {
    let unit = if outcome.part == Part::Watch {
        "events/s"
    } else {
        "requests/s"
    };
    let mut table = format!(
        "| | {unit} | of direct | p50 | p99 | p99.9 | CPU s / 10,000 | peak memory |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for rounds in &outcome.targets {
        let [p50, p99, p999] = [0, 1, 2].map(|index| time(rounds.median(|round| round.latency[index])));
        let throughput = rounds.median(|round| round.throughput);
        writeln!(
            table,
            "| {} | {throughput:.0} | {} | {p50} | {p99} | {p999} | {} | {} |",
            rounds.target,
            of_direct(rounds, outcome.cell.is_closed()),
            cpu(rounds),
            rounds.peak().map_or(String::new(), mebibytes),
        )
        .expect("text");
    }
    table
}

fn of_direct(rounds: &Rounds, is_closed: bool) -> String {
    if rounds.target == DIRECT || !is_closed {
        return String::new();
    }
    let [least, middle, most] = rounds.ratio().map(|ratio| 100.0 * ratio);
    format!("{middle:.0} % ({least:.0}–{most:.0})")
}

fn cpu(rounds: &Rounds) -> String {
    let (Some(micros), Some(user)) = (rounds.proxy_cpu(), rounds.user_part()) else {
        return String::new();
    };
    format!("{:.3} ({:.0} %)", micros / 100.0, 100.0 * user)
}

pub fn time(micros: f64) -> String {
    if micros.is_nan() {
        // No request was answered in time, or there was none.
        "–".to_owned()
    } else if micros < 1e3 {
        format!("{micros:.0} µs")
    } else {
        format!("{:.1} ms", micros / 1e3)
    }
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

pub fn json(settings: &Settings, outcomes: &[Outcome]) -> String {
    let cells: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let targets: Vec<_> = outcome.targets.iter().map(Rounds::json).collect();
            json!({"part": outcome.part.name(), "load": outcome.cell.title(), "targets": targets})
        })
        .collect();
    let all = json!({"setup": setup(settings, outcomes), "cells": cells});
    serde_json::to_string_pretty(&all).expect("JSON") + "\n"
}
