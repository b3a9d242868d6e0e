//! `cargo +nightly fuzz run rewrite_streams`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::rewrite_streams::run(data));
