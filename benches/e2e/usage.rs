//! What a process has used so far, as the kernel says.

use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

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
        let total = on_cpu(pid);
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

/// CPU time of all threads that a process still has, as the scheduler counts it; none where there is no process.
fn on_cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let nanos = threads.flatten().map(|thread| {
        // A thread that ended meanwhile is not one of the proxy's: those live as long as it.
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        first.and_then(|word| word.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// Runs `command` to its end: what it printed, its CPU time and its peak memory, both as of the last hundredth of a second.
pub fn watched(command: &mut Command) -> (Output, Duration, u64) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program that starts");
    let pid = child.id();
    thread::scope(|scope| {
        let ending = scope.spawn(|| child.wait_with_output().expect("its output"));
        let (mut cpu, mut peak) = (Duration::ZERO, 0);
        while !ending.is_finished() {
            // Nothing is there any more once it has ended.
            cpu = cpu.max(on_cpu(pid));
            peak = peak.max(memory_of(pid).map_or(0, |(_, peak)| peak));
            thread::sleep(Duration::from_millis(10));
        }
        (ending.join().expect("its output"), cpu, peak)
    })
}

/// Resident memory of a process in bytes: now, and the most since [`forget_peak`].
pub fn memory(pid: u32) -> (u64, u64) {
    memory_of(pid).expect("a running process")
}

fn memory_of(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Has the kernel look for the peak anew.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of our own");
}
