//! `cargo +nightly fuzz run wire_script`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::wire_script::run(data));
