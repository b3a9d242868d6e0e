//! Keeps the process's memory, and with it the keys, out of core dumps, other processes and swap. Knows no key: wiping
//! each of them is the business of whoever holds it.

use std::{fmt, fs};

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::Error;

/// Whether memory is kept out of swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLock {
    /// Where the system lets it; otherwise the log says what to change.
    Auto,
    /// Or the proxy does not start.
    Required,
    /// Not tried.
    Off,
}

/// Why memory can't be locked, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Unlockable {
    /// There is a limit on locked memory, and no right to pass it. All memory of the process counts towards the limit, so
    /// that some later allocation or thread would fail: with a limit nothing is locked at all.
    Limited {
        /// `RLIMIT_MEMLOCK`, bytes.
        limit: u64,
    },
    /// The system refused.
    Refused(Errno),
}

impl fmt::Display for Unlockable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited { limit } => write!(f, "the limit on locked memory is {} KiB", limit / 1024),
            Self::Refused(errno) => write!(f, "the system refused: {errno}"),
        }?;
        f.write_str(
            "; set LimitMEMLOCK=infinity in the systemd unit or give the container the capability IPC_LOCK, or run without swap",
        )
    }
}

/// Sees to it that no copy of this process's memory is made by a crash or read by another process without privileges:
/// no core dump, no `ptrace`, and `/proc/PID/mem` belongs to root. Comes before the first key is read.
///
/// # Errors
/// The system refused, which Linux has no reason to.
pub fn forbid_dumps() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|errno| Error::Dumps(errno.into()))?;
    // The first is enough for Linux. A limit alone would not be: a program that dumps are piped to is not bound by it.
    limit(Resource::Core, Some(0), Some(0)).map_err(|errno| Error::Dumps(errno.into()))
}

/// Keeps all memory, present and future, out of swap, as `mode` says. Comes before other threads are started.
///
/// Pages are locked as they are first touched, so that what is only set aside costs nothing.
///
/// # Errors
/// It is required and can't be done.
pub(super) fn lock(mode: MemoryLock) -> Result<(), Error> {
    if mode == MemoryLock::Off {
        return Ok(());
    }
    match try_to_lock() {
        Ok(()) => tracing::info!("memory is locked: keys are never written to swap"),
        Err(reason) if mode == MemoryLock::Required => return Err(Error::MemoryLock { reason }),
        Err(reason) if has_swap() => {
            tracing::warn!(%reason, "memory is not locked: keys can be written to swap");
        }
        Err(reason) => tracing::info!(%reason, "memory is not locked; there is no swap at present"),
    }
    Ok(())
}

fn try_to_lock() -> Result<(), Unlockable> {
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let given = getrlimit(Resource::Memlock);
    match (given.current, given.maximum) {
        (None, _) => mlockall(all).map_err(Unlockable::Refused),
        (Some(_), None) => limit(Resource::Memlock, None, None)
            .and_then(|()| mlockall(all))
            .map_err(Unlockable::Refused),
        (Some(allowed), maximum) => {
            // With nothing allowed for the moment, only a process that is above the limit succeeds. The capability's bit
            // does not tell: within a user namespace the process has it and is bound all the same.
            limit(Resource::Memlock, Some(0), maximum).map_err(Unlockable::Refused)?;
            let locked = mlockall(all);
            limit(Resource::Memlock, Some(allowed), maximum).map_err(Unlockable::Refused)?;
            locked.map_err(|errno| match errno {
                Errno::PERM => Unlockable::Limited { limit: allowed },
                errno => Unlockable::Refused(errno),
            })
        }
    }
}

fn limit(resource: Resource, current: Option<u64>, maximum: Option<u64>) -> Result<(), Errno> {
    setrlimit(resource, Rlimit { current, maximum })
}

/// Whether the system has swap right now. Where it will not say, it may.
fn has_swap() -> bool {
    // One line of headings, then one for each swap area.
    fs::read_to_string("/proc/swaps").map_or(true, |areas| areas.lines().count() > 1)
}
