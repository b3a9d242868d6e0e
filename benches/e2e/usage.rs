//! What a process has used so far, as the kernel says.

use std::fs;
use std::time::Duration;

/// CPU time of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub total: Duration,
    /// The part of it spent outside the kernel, 0 to 1. From the kernel's ticks, so it needs a second of work to mean much.
    pub user: f64,
}

/// Clock ticks of `/proc/PID/stat`; Linux has had no other number for it in decades.
const TICK: Duration = Duration::from_millis(10);

impl Cpu {
    /// Of all threads of a process that it still has. To the nanosecond, where `stat` has but hundredths of a second.
    pub fn of(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
        let nanos = threads.map(|thread| {
            let path = thread.expect("a thread").path().join("schedstat");
            // A thread that ended meanwhile is not one of the proxy's: those live as long as it.
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        });
        let total = Duration::from_nanos(nanos.sum());
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
        // The second field is a name in brackets, which may have spaces.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|word| word.parse::<u32>().ok()).unwrap_or(0);
        let user = (TICK * ticks(11)).as_secs_f64();
        Self { total, user }
    }

    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user - before.user,
        }
    }
}

/// Resident memory of a process in bytes: now, and the most since [`forget_peak`].
pub fn memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a size in kB") * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Has the kernel look for the peak anew.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of our own");
}
