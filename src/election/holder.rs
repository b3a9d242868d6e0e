//! Who has a right: a process, named so that an operator finds it, and so that another process of the same machine can tell
//! whether it still lives. Says that one is dead only where that is certain.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::etcd::KeyValue;

/// Characters of a name that are shown: those of the longest host's.
const MAX_SHOWN: usize = 253;

/// A process that has a right, for whoever finds its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The name of its host.
    pub host: String,
    /// Its process ID there.
    pub pid: u32,
    /// When it began, RFC 3339.
    pub since: String,
    /// Its lease.
    pub lease: i64,
    /// Tells whether the process is one of this machine and can be looked for: boot ID, PID namespace, start time.
    #[serde(default)]
    identity: Option<Identity>,
    /// Whether the key was found without a lease: it does not end with the process, and nobody of ours wrote it like that.
    #[serde(skip)]
    pub is_leaseless: bool,
}

impl Holder {
    /// This one, with `lease`.
    pub(super) fn this_process(lease: i64) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let pid = std::process::id();
        Self {
            host: host.trim().to_owned(),
            pid,
            since: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            lease,
            identity: Identity::of(pid),
            is_leaseless: false,
        }
    }

    /// Whether it is certain that the process has ended: it was one of this machine since the last boot, in this PID
    /// namespace, and is no more. There is no need to wait for its lease then.
    pub(super) fn is_certainly_dead(&self) -> bool {
        let (Some(identity), Some((boot, pid_namespace))) = (&self.identity, here()) else {
            return false;
        };
        identity.boot == boot
            && identity.pid_namespace == pid_namespace
            && match Identity::of(self.pid) {
                Some(found) => found != *identity,
                None => is_no_process(self.pid),
            }
    }

    fn is_unknown(&self) -> bool {
        self.pid == 0 && self.host.is_empty()
    }

    /// What `kv`, the key of a right, says.
    pub fn found(kv: &KeyValue) -> Self {
        let holder = serde_json::from_slice(&kv.value).unwrap_or_else(|_| Self::unknown());
        Self {
            is_leaseless: kv.lease == 0,
            ..holder
        }
    }

    /// What a key says that is no such record.
    fn unknown() -> Self {
        Self {
            host: String::new(),
            pid: 0,
            since: String::new(),
            lease: 0,
            identity: None,
            is_leaseless: false,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever writes to etcd writes what is in the record.
        let shown = |text: &str| {
            text.chars()
                .take(MAX_SHOWN)
                .collect::<String>()
                .escape_debug()
                .to_string()
        };
        let (host, since) = (shown(&self.host), shown(&self.since));
        if self.is_unknown() {
            f.write_str("a process that is not known, since its record cannot be read")?;
        } else {
            write!(f, "process {} on {host}, since {since}", self.pid)?;
        }
        if self.is_leaseless {
            f.write_str(
                ". No lease ends that record, so it may stay for ever though no such process lives: `secrets-encrypt abort --forget` \
                 removes it",
            )?;
        }
        Ok(())
    }
}

/// What identifies a process among all that ever ran where its PID means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    boot: String,
    pid_namespace: String,
    start: String,
}

impl Identity {
    /// Of the process `pid` as this process sees it; `None` where the system does not tell, or there is no such process.
    fn of(pid: u32) -> Option<Self> {
        let (boot, pid_namespace) = here()?;
        Some(Self {
            boot,
            pid_namespace,
            start: start_of(pid)?,
        })
    }
}

/// The boot and the PID namespace that this process lives in.
fn here() -> Option<(String, String)> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some((boot.trim().to_owned(), namespace.to_string_lossy().into_owned()))
}

/// When `pid` began, in ticks since the boot: field 22 of its stat, counted behind the name, which may hold spaces. `None`
/// also where the system hides it.
fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    // A zombie has ended, whoever has yet to take note of it.
    let is_alive = !matches!(fields.next()?, "Z" | "X");
    fields.nth(18).filter(|_| is_alive).map(str::to_owned)
}

/// Whether no process has this PID. `/proc` can hide those of other users; a signal that is not sent cannot be fooled.
fn is_no_process(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_dead_for_certain_only_where_it_could_be_seen() {
        let living = Holder::this_process(1);
        assert!(!living.is_certainly_dead());
        let ended = |change: fn(&mut Identity)| {
            let mut holder = Holder::this_process(1);
            holder.identity.iter_mut().for_each(change);
            holder.is_certainly_dead()
        };
        // The same PID, given out again.
        assert!(ended(|identity| identity.start.push('1')));
        // Elsewhere, before the last boot, or in another container: nothing can be known.
        assert!(!ended(|identity| {
            identity.start.push('1');
            identity.boot.push('x');
        }));
        assert!(!ended(|identity| {
            identity.start.push('1');
            identity.pid_namespace.push('x');
        }));
        let mut unknown = Holder::this_process(1);
        unknown.identity = None;
        assert!(!unknown.is_certainly_dead());
    }

    #[test]
    fn what_a_record_holds_is_shown_on_one_line_that_somebody_could_read() {
        let mut hostile = Holder::unknown();
        hostile.host = format!("a\n\x1b[2J{}", "b".repeat(1 << 20));
        let text = hostile.to_string();
        assert!(!text.contains(char::is_control), "{text}");
        assert!(text.len() < 400, "{}", text.len());
    }
}
