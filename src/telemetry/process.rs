//! The process as the system sees it, under the names that every Prometheus client library gives it. Reads `/proc` when
//! asked, and tells nothing where there is none.
//!
//! Written as text and not recorded: counters of the `metrics` crate are whole numbers, and CPU time is not.

use std::fmt::Write as _;
use std::fs;

use super::{Family, Kind};

/// What `render` tells.
pub const FAMILIES: &[Family] = &[CPU, RESIDENT, VIRTUAL, OPEN_FDS, MAX_FDS, THREADS, STARTED];

const CPU: Family = Family {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    help: "Total user and system CPU time spent in seconds.",
    labels: &[],
};
const RESIDENT: Family = gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
const VIRTUAL: Family = gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
const OPEN_FDS: Family = gauge("process_open_fds", "Number of open file descriptors.");
const MAX_FDS: Family = gauge("process_max_fds", "Maximum number of open file descriptors.");
const THREADS: Family = gauge("process_threads", "Number of threads of the process.");
const STARTED: Family = gauge(
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
);

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        help,
        labels: &[],
    }
}

/// Ticks in a second in `/proc`: `USER_HZ`, which the kernel's interface fixes at this on the architectures that
/// Kubernetes runs on, whatever its own clock does.
const TICKS: f64 = 100.0;

/// Positions in `/proc/self/stat` behind the name of the program, which may hold spaces. Source: proc(5), less three.
const UTIME: usize = 11;
const STIME: usize = 12;
const STARTTIME: usize = 19;

/// Appends what is known of this process in Prometheus' text format.
pub(super) fn render(out: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = |field| ticks(&stat, field).map(|ticks| ticks / TICKS);
    let kib = |name| number_behind(&status, name).map(|kib| kib * 1024.0);
    let fds = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    let values = [
        (CPU, ticks(UTIME).zip(ticks(STIME)).map(|(user, system)| user + system)),
        (RESIDENT, kib("VmRSS:")),
        (VIRTUAL, kib("VmSize:")),
        // Not counting the one that reads the folder.
        (
            OPEN_FDS,
            fds.and_then(|fds| u32::try_from(fds.saturating_sub(1)).ok())
                .map(f64::from),
        ),
        (MAX_FDS, number_behind(&limits, "Max open files")),
        (THREADS, number_behind(&status, "Threads:")),
        (
            STARTED,
            number_behind(&boot, "btime")
                .zip(ticks(STARTTIME))
                .map(|(boot, since)| boot + since),
        ),
    ];
    for (family, value) in values {
        let (name, kind) = (family.name, family.kind.as_str());
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n\n",
                family.help
            );
        }
    }
}

/// A field of `/proc/self/stat`, counted from behind the program's name.
fn ticks(stat: &str, field: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field)?.parse().ok()
}

/// The first number behind `name` at the start of a line.
fn number_behind(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_plausible_value_on_linux() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| number_behind(&text, &format!("{name} ")).unwrap_or_else(|| panic!("{name}: {text}"));
        for family in FAMILIES {
            assert!(value(family.name) >= 0.0, "{text}");
        }
        assert!(value(RESIDENT.name) > 100_000.0 && value(RESIDENT.name) < value(VIRTUAL.name));
        assert!(value(OPEN_FDS.name) >= 3.0 && value(OPEN_FDS.name) <= value(MAX_FDS.name));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(value(STARTED.name) > now - 86_400.0 && value(STARTED.name) <= now + 1.0);
    }

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 21 22 13 14 15 16 17 18 99";
        assert_eq!(
            (ticks(stat, UTIME), ticks(stat, STIME), ticks(stat, STARTTIME)),
            (Some(21.0), Some(22.0), Some(99.0))
        );
        assert_eq!(ticks("", UTIME), None);
    }
}
