//! `cargo +nightly fuzz run bbolt`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::bbolt::run(data));
