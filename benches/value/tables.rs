//! The page: what was found beside what it is to be.

use std::fmt::Write as _;
use std::fs;

use crate::paired::nanos;
use crate::primitives::Primitive;
use crate::providers::{Way, batch, in_turn, work};
use crate::{machine, openssl};

const KIB: usize = 1024;
const SIZES: [usize; 6] = [64, 256, KIB, 4 * KIB, 64 * KIB, KIB * KIB];
const WAYS: [Way; 2] = [Way::Seal, Way::Open];

/// Providers, the primitive beneath each, and its name in OpenSSL.
const PROVIDERS: [(&str, Primitive, Option<&str>); 6] = [
    ("identity", Primitive::Copy, None),
    ("aescbc", Primitive::Cbc, Some("aes-256-cbc")),
    ("aesgcm", Primitive::Gcm, Some("aes-256-gcm")),
    ("secretbox", Primitive::Secretbox, None),
    ("kms v1", Primitive::Gcm, None),
    ("kms v2", Primitive::DerivedGcm, None),
];

/// The most that a value of 1 KiB may take, nanoseconds.
const AIMS: [(&str, Way, f64); 7] = [
    ("aescbc", Way::Seal, 1050.0),
    ("aescbc", Way::Open, 150.0),
    ("aesgcm", Way::Seal, 200.0),
    ("aesgcm", Way::Open, 200.0),
    ("secretbox", Way::Seal, 450.0),
    ("secretbox", Way::Open, 450.0),
    ("kms v2", Way::Seal, 700.0),
];

/// The most that these may take beside the bare primitive, from 1 KiB on.
const CLOSE: [(&str, Way); 3] = [("aescbc", Way::Open), ("aesgcm", Way::Seal), ("aesgcm", Way::Open)];
const MOST_TIMES: f64 = 1.15;

/// Values that are sealed together, and what is asked of eight of 1 KiB.
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 64];
const BATCH: usize = 8;
const BATCH_NANOS: f64 = 200.0;
const BATCH_TIMES: f64 = 4.0;

/// CPU features that the ciphers look for.
const FEATURES: [&str; 7] = ["aes", "pclmulqdq", "sha_ni", "avx2", "avx512f", "vaes", "vpclmulqdq"];

pub fn introduction() -> String {
    format!(
        "# What a value costs\n\n\
         `cargo bench --bench value -- --accept` takes these figures anew. A value goes through the chain of its rule: nonce,\n\
         prefix and key lookup are included. *Bare* is the primitive beneath at its best, with buffers and key at hand and one\n\
         nonce again and again, timed in turns with the provider. A value is opened where it lies, so each time it is a copy that\n\
         is opened: the copy is in the figure, as in that of identity. Times are those that the thread had on a CPU, the least of a\n\
         hundred samples. *openssl* is `openssl speed`, which keeps key and buffer, and knows no XSalsa20.\n\n\
         {}.\n{}\n\
         AES-CBC is that of the crates aes and cbc, AES-GCM and HMAC those of aws-lc, secretbox that of dryoc. {}.\n",
        machine::describe("everything"),
        features(),
        openssl::version(),
    )
}

/// What was asked for, of values of 1 KiB.
pub fn aims() -> String {
    let mut page = "## Values of 1 KiB\n\n| | ns | aim | |\n|---|---:|---:|---|\n".to_owned();
    for (provider, way, aim) in AIMS {
        let [found] = nanos(&mut [work(provider, way, KIB)]);
        row(
            &mut page,
            format_args!("| {provider} {way} | {found:.0} | {aim:.0} | {} |", met(found <= aim)),
        );
    }
    for (provider, way) in CLOSE {
        let primitive = PROVIDERS
            .iter()
            .find(|(name, ..)| *name == provider)
            .expect("a provider")
            .1;
        let (size, times) = SIZES
            .into_iter()
            .filter(|&size| size >= KIB)
            .map(|size| {
                let [found, bare] = nanos(&mut [work(provider, way, size), primitive.work(way, size)]);
                (size, found / bare)
            })
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .expect("a size");
        row(
            &mut page,
            format_args!(
                "| {provider} {way} beside bare, at most, from 1 KiB on | {times:.2} times ({}) | {MOST_TIMES} | {} |",
                bytes(size),
                met(times <= MOST_TIMES)
            ),
        );
    }
    page
}

/// Every provider, each way, at all sizes.
pub fn sizes() -> String {
    let mut page = "## All sizes\n\n\
        | | bytes | ns | MiB/s | bare, ns | times bare | openssl, ns |\n|---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (provider, primitive, cipher) in PROVIDERS {
        for way in WAYS {
            for size in SIZES {
                let [found, bare] = nanos(&mut [work(provider, way, size), primitive.work(way, size)]);
                let speed = cipher.and_then(|cipher| openssl::speed(cipher, way == Way::Open, size));
                let speed = speed.map_or(String::new(), |nanos| format!("{nanos:.0}"));
                let rate = size as f64 / (KIB * KIB) as f64 / (found / 1e9);
                row(
                    &mut page,
                    format_args!(
                        "| {provider} {way} | {} | {found:.0} | {rate:.0} | {bare:.0} | {:.2} | {speed} |",
                        bytes(size),
                        found / bare
                    ),
                );
            }
        }
    }
    page
}

/// Several values of 1 KiB together, beside the same ones in turn.
pub fn batches() -> String {
    let mut page = "## Several values at once\n\n\
        A sweep seals a page of values at once, a transaction all that it puts. Each of 1 KiB, into a buffer of its own:\n\n\
        | aescbc | ns a value | in turn | times as fast |\n|---|---:|---:|---:|\n"
        .to_owned();
    let mut verdict = String::new();
    for count in BATCHES {
        let [together, turns] = nanos(&mut [batch("aescbc", count, KIB), in_turn("aescbc", count, KIB)]);
        let [together, turns] = [together, turns].map(|nanos| nanos / count as f64);
        let times = turns / together;
        row(
            &mut page,
            format_args!("| {count} | {together:.0} | {turns:.0} | {times:.2} |"),
        );
        if count == BATCH {
            verdict = format!(
                "\nAims of {BATCH}: at most {BATCH_NANOS:.0} ns a value: {}; {BATCH_TIMES:.0} times as fast as in turn: {}.\n",
                met(together <= BATCH_NANOS),
                met(times >= BATCH_TIMES)
            );
        }
    }
    page + &verdict
}

/// The two implementations of XSalsa20-Poly1305 that there are, bare.
pub fn secretboxes() -> String {
    let mut page = "## Why secretbox is dryoc's\n\n\
        | XSalsa20-Poly1305, bare | bytes | dryoc, ns | RustCrypto, ns | times as fast |\n|---|---:|---:|---:|---:|\n"
        .to_owned();
    for way in WAYS {
        for size in [256, KIB, 64 * KIB] {
            let both = [Primitive::Secretbox, Primitive::RustCryptoSecretbox];
            let [dryoc, other] = nanos(&mut both.map(|primitive| primitive.work(way, size)));
            row(
                &mut page,
                format_args!(
                    "| {way} | {} | {dryoc:.0} | {other:.0} | {:.2} |",
                    bytes(size),
                    other / dryoc
                ),
            );
        }
    }
    page
}

fn row(page: &mut String, row: std::fmt::Arguments<'_>) {
    writeln!(page, "{row}").expect("text");
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}

fn bytes(size: usize) -> String {
    match size {
        _ if size >= KIB * KIB => format!("{} MiB", size / KIB / KIB),
        _ if size >= KIB => format!("{} KiB", size / KIB),
        _ => format!("{size} B"),
    }
}

/// Those that the kernel lists. aes and aws-lc ask the CPU itself.
fn features() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags"));
    let has = |feature: &&str| {
        flags
            .unwrap_or_default()
            .split_whitespace()
            .any(|flag| flag == *feature)
    };
    let found: Vec<_> = FEATURES.into_iter().filter(has).collect();
    let found = format!(
        "CPU features that the ciphers look for, and find: {}.",
        found.join(", ")
    );
    if found.contains("aes,") {
        found
    } else {
        format!("**This CPU has no AES instructions: the figures of aescbc, aesgcm and kms mean nothing.** {found}")
    }
}
