//! `cargo +nightly fuzz run rewrite_etcd`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::rewrite_etcd::run(data));
