//! The figures of this run beside one another, from what criterion has left on the disk.

use std::fs;

use serde_json::Value;

use crate::openssl;

/// CPU features that the ciphers look for.
const FEATURES: [&str; 6] = ["aes", "pclmulqdq", "avx2", "avx512f", "vaes", "vpclmulqdq"];

/// Providers, the primitive beneath each, and its name in OpenSSL. KMS v2 is AES-GCM under a key that is derived for each value.
const PROVIDERS: [(&str, &str, Option<&str>); 4] = [
    ("aescbc", "aescbc", Some("aes-256-cbc")),
    ("aesgcm", "aesgcm", Some("aes-256-gcm")),
    ("secretbox", "secretbox", None),
    ("kms-v2", "aesgcm", Some("aes-256-gcm")),
];

pub fn print(sizes: &[usize]) {
    println!(
        "\nCPU features: {}; backends: aes and cbc for AES-CBC, aws-lc for AES-GCM, dryoc for secretbox;",
        features()
    );
    println!("{}\n", openssl::version());
    println!("| | bytes | ns | times the bare primitive | ns by openssl speed |\n|---|---:|---:|---:|---:|");
    for (provider, primitive, cipher) in PROVIDERS {
        for way in ["seal", "open"] {
            for &size in sizes {
                let found = median(&format!("{provider}/{way} {size}"));
                let bare = median(&format!("bare/{primitive} {way} {size}"));
                let (Some(found), Some(bare)) = (found, bare) else {
                    continue;
                };
                // OpenSSL measures a second for each: one size says what there is to say.
                let speed = cipher.filter(|_| size == crate::SIZE);
                let speed = speed.and_then(|cipher| openssl::speed(cipher, way == "open", size));
                let speed = speed.map_or(String::new(), |nanos| format!("{nanos:.0}"));
                println!(
                    "| {provider} {way} | {size} | {found:.0} | {:.2} | {speed} |",
                    found / bare
                );
            }
        }
    }
    println!("\n| aescbc, sealed side by side | ns a value | times as fast as alone |\n|---|---:|---:|");
    let alone = median("batch/aescbc seal 1");
    for count in [1_u32, 2, 4, 8, 16, 64] {
        let batch = median(&format!("batch/aescbc seal {count}"));
        if let (Some(batch), Some(alone)) = (batch, alone) {
            let each = batch / f64::from(count);
            println!("| {count} | {each:.0} | {:.2} |", alone / each);
        }
    }
}

/// Those that the kernel lists. aes and aws-lc ask the CPU itself.
fn features() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .unwrap_or_default();
    let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
    let found: Vec<_> = FEATURES.into_iter().filter(has).collect();
    if found.contains(&"aes") {
        found.join(" ")
    } else {
        format!("NO AES INSTRUCTIONS, {}", found.join(" "))
    }
}

/// Nanoseconds of one iteration.
fn median(name: &str) -> Option<f64> {
    let folder =
        std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/target").into());
    let path = format!("{folder}/criterion/{name}/new/estimates.json");
    let estimates: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    estimates.pointer("/median/point_estimate")?.as_f64()
}
