//! On what the figures were taken.

use std::fs;
use std::thread::available_parallelism;

use crate::settings::Settings;
use crate::store::VALUE_BYTES;

pub fn describe(settings: &Settings) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} secrets of {VALUE_BYTES} bytes, aescbc, from one key to another; {cores} cores ({}) for etcd, sweep and client \
         together, {} of memory, Linux {}; etcd on the same machine, without TLS.",
        settings.keys,
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim(),
    )
}
