//! `cargo +nightly fuzz run keyspace`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::keyspace::run(data));
