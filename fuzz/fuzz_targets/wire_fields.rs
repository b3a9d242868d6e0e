//! `cargo +nightly fuzz run wire_fields`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::wire_fields::run(data));
