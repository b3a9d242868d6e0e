//! `cargo +nightly fuzz run rewrite_unary`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::rewrite_unary::run(data));
