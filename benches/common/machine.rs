//! On what figures were taken, for every benchmark that writes some down.

use std::fs;
use std::thread::available_parallelism;

/// The cores, which are there for `whom`, the memory and the kernel.
pub fn describe(whom: &str) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}, family {} model {}) for {whom} together, {} of memory, Linux {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/cpuinfo", "cpu family"),
        field("/proc/cpuinfo", "model\t"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim(),
    )
}
