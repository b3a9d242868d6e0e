//! `cargo +nightly fuzz run urls`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::urls::run(data));
