//! How many instructions the proxy's own work on a message takes, counted by callgrind: the same on a busy machine as on an
//! idle one, so that a change that makes the hot path slower shows without timing anything.
//!
//! `cargo bench --bench instructions` prints the counts beside those in `counts.json` and fails where one is beyond the
//! margin; with `-- --accept` it writes them there. Needs valgrind. Counts depend on the compiler and on the CPU features that
//! valgrind offers, so they are compared on machines of one kind only.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark, not an interface"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its result")]

mod cases;
mod messages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use cases::CASES;

/// Names the case that this process is to run, and how often, when it runs under valgrind.
const CASE: &str = "INSTRUCTIONS_CASE";
const ROUNDS: &str = "INSTRUCTIONS_ROUNDS";

/// Rounds that are counted. Whatever a round does at random, such as drawing a nonce, evens out.
const MANY: u64 = 200;

/// A count may grow by this part before it counts as slower, and shrink by it before the file is to be written anew.
const MARGIN: f64 = 0.03;

fn main() -> ExitCode {
    if let Ok(case) = env::var(CASE) {
        let rounds = env::var(ROUNDS).unwrap().parse().unwrap();
        cases::run(&case, rounds);
        return ExitCode::SUCCESS;
    }
    let accepts = env::args().any(|argument| argument == "--accept");
    let known = if accepts { BTreeMap::new() } else { read() };
    let mut found = BTreeMap::new();
    let mut is_slower = false;
    println!("| | instructions | before | |\n|---|---:|---:|---|");
    for case in CASES {
        let rounds = MANY / case.weight;
        let count = counted(case.name, rounds) / rounds;
        let before = known.get(case.name).copied();
        let verdict = verdict(count, before);
        is_slower |= verdict == Verdict::Slower;
        let before = before.map_or(String::new(), |before| before.to_string());
        println!("| {} | {count} | {before} | {} |", case.name, verdict.text());
        found.insert(case.name.to_owned(), count);
    }
    if accepts {
        fs::write(file(), serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    if is_slower {
        eprintln!(
            "something takes more instructions than before; if that is meant, say why and run this with `-- --accept`"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    New,
    Same,
    Faster,
    Slower,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Same => "",
            Self::Faster => "fewer",
            Self::Slower => "**more**",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn verdict(count: u64, before: Option<u64>) -> Verdict {
    let Some(before) = before else { return Verdict::New };
    let change = count as f64 / before as f64 - 1.0;
    match change {
        change if change > MARGIN => Verdict::Slower,
        change if change < -MARGIN => Verdict::Faster,
        _ => Verdict::Same,
    }
}

/// Instructions within [`cases::measured`] of a process that runs `case` so often.
fn counted(case: &str, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*cases::measured*"])
        .arg(env::current_exe().unwrap())
        .env(CASE, case)
        .env(ROUNDS, rounds.to_string())
        .output()
        .expect("valgrind (apt-get install valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.unwrap_or_else(|| panic!("no count in {said}"));
    count.trim().parse().unwrap()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/counts.json")
}

fn read() -> BTreeMap<String, u64> {
    fs::read(file()).map_or_else(|_| BTreeMap::new(), |text| serde_json::from_slice(&text).unwrap())
}
