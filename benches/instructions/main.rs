//! How many instructions the proxy's own work on a message takes, counted by callgrind: the same on a busy machine as on an
//! idle one, so that a change that makes the hot path slower shows without timing anything.
//!
//! `make guard`, or `cargo bench --bench instructions`, prints the counts beside those in `counts.json` and fails where one is
//! beyond the margin; with `-- --accept` it writes them there. Needs valgrind, which shows programs a CPU of its own with
//! AES-NI and AVX2 and nothing newer, whatever lies beneath: libc, aws-lc and aes choose the same code on every x86-64 machine
//! that has both. What is left to differ is the compiler and libc's allocator: with another compiler than the counts' the
//! margin is wider.

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
use serde::{Deserialize, Serialize};

/// Names the case that this process is to run, and how often, when it runs under valgrind.
const CASE: &str = "INSTRUCTIONS_CASE";
const ROUNDS: &str = "INSTRUCTIONS_ROUNDS";

/// Rounds that are counted. Whatever a round does at random, such as drawing a nonce, evens out.
const MANY: u64 = 200;

/// A count may grow by this part before it counts as slower, and shrink by it before the file is to be written anew.
const MARGIN: f64 = 0.03;
/// The same where another compiler made the counts.
const WIDE_MARGIN: f64 = 0.1;

const COMPILER: &str = env!("BUILD_RUSTC");

/// What `counts.json` holds.
#[derive(Default, Deserialize, Serialize)]
struct Counts {
    /// The compiler that made them.
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    if let Ok(case) = env::var(CASE) {
        let rounds = env::var(ROUNDS).unwrap().parse().unwrap();
        cases::run(&case, rounds);
        return ExitCode::SUCCESS;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("the counts are those of x86-64");
        return ExitCode::SUCCESS;
    }
    let accepts = env::args().any(|argument| argument == "--accept");
    let known = if accepts { Counts::default() } else { read() };
    let margin = if known.rustc == COMPILER { MARGIN } else { WIDE_MARGIN };
    let mut found = BTreeMap::new();
    let mut is_slower = false;
    println!("| | instructions | before | |\n|---|---:|---:|---|");
    for case in CASES {
        let rounds = MANY / case.weight;
        let count = counted(case.name, rounds) / rounds;
        let before = known.instructions.get(case.name).copied();
        let verdict = verdict(count, before, margin);
        is_slower |= verdict == Verdict::Slower;
        let before = before.map_or(String::new(), |before| before.to_string());
        println!("| {} | {count} | {before} | {} |", case.name, verdict.text());
        found.insert(case.name.to_owned(), count);
    }
    if accepts {
        let counts = Counts {
            rustc: COMPILER.to_owned(),
            instructions: found,
        };
        fs::write(file(), serde_json::to_string_pretty(&counts).unwrap() + "\n").unwrap();
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
fn verdict(count: u64, before: Option<u64>, margin: f64) -> Verdict {
    let Some(before) = before else { return Verdict::New };
    let change = count as f64 / before as f64 - 1.0;
    match change {
        change if change > margin => Verdict::Slower,
        change if change < -margin => Verdict::Faster,
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

fn read() -> Counts {
    fs::read(file()).map_or_else(|_| Counts::default(), |text| serde_json::from_slice(&text).unwrap())
}
