//! Every fuzz target, over its seeds and a few thousand inputs made from them: the same ones every time.
//!
//! `cargo fuzz` looks further; this holds what it has found, and that the targets still hold at all.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr, unreachable_pub)]

#[path = "../fuzz/src/lib.rs"]
mod fuzz_targets;

use std::fs;
use std::path::Path;
use std::thread;

use fuzz_targets::{TARGETS, Target};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Shows the input that a target fails on, for `cargo fuzz run TARGET FILE`.
struct Shown<'a>(&'a Target, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} fails on {}", self.0.name, hex::encode(self.1));
        }
    }
}

fn run(target: &Target, input: &[u8]) {
    let _shown = Shown(target, input);
    (target.run)(input);
}

/// Runs the target over its seeds and `inputs` more.
fn smoke(name: &str, inputs: u32) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    for seed in &seeds {
        run(target, seed);
    }
    let mut rng = StdRng::seed_from_u64(2379);
    for _ in 0..inputs {
        let input = if rng.random_ratio(1, 16) {
            bytes(&mut rng, 300)
        } else {
            let mut input = seeds[rng.random_range(0..seeds.len())].clone();
            for _ in 0..rng.random_range(1..6) {
                mutate(&mut input, &seeds, &mut rng);
            }
            input
        };
        run(target, &input);
    }
}

fn bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    (0..rng.random_range(0..most)).map(|_| rng.random()).collect()
}

/// What a fuzzer does, without looking at what it leads to.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut StdRng) {
    let place = rng.random_range(0..=input.len());
    let until = rng.random_range(place..=input.len()).min(place + 40);
    match rng.random_range(0..8) {
        0 => drop(input.drain(place..until)),
        1 => drop(input.splice(place..place, bytes(rng, 8))),
        2 => drop(input.splice(place..place, input[place..until].to_vec())),
        3 => {
            let other = &seeds[rng.random_range(0..seeds.len())];
            let from = rng.random_range(0..=other.len());
            input.truncate(place);
            input.extend_from_slice(&other[from..]);
        }
        4 => input.truncate(place),
        kind => {
            if let Some(byte) = input.get_mut(place) {
                *byte = match kind {
                    5 => rng.random(),
                    6 => *byte ^ 1 << rng.random_range(0..8),
                    _ => [0, 1, 2, 0x7f, 0x80, 0xa5, 0xff][rng.random_range(0..7)],
                };
            }
        }
    }
}

macro_rules! smoke {
    ($($name:ident: $inputs:literal,)*) => {
        $(
            #[test]
            fn $name() {
                smoke(stringify!($name), $inputs);
            }
        )*

        #[test]
        fn no_target_is_left_out() {
            let mut here = [$(stringify!($name)),*];
            here.sort_unstable();
            assert_eq!(TARGETS.map(|target| target.name), here);
        }
    };
}

smoke! {
    bbolt: 5_000,
    config: 3_000,
    frames: 10_000,
    keyspace: 5_000,
    managed: 20_000,
    rewrite_etcd: 3_000,
    rewrite_streams: 5_000,
    rewrite_unary: 5_000,
    urls: 20_000,
    value: 5_000,
    wire_fields: 20_000,
    wire_script: 10_000,
}

#[test]
fn every_target_has_a_program_and_no_program_is_without_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let entries = fs::read_dir(folder).expect("the programs");
    let mut programs: Vec<_> = entries
        .map(|entry| entry.expect("a file").path().with_extension(""))
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    programs.sort_unstable();
    assert_eq!(TARGETS.map(|target| target.name.to_owned()).to_vec(), programs);
}

#[test]
#[ignore = "writes the seeds to fuzz/corpus, where cargo fuzz begins"]
fn seeds_are_written() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target.name);
        fs::create_dir_all(&folder).expect("a folder");
        for (index, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:03}")), seed).expect("a file");
        }
    }
}
