//! Who sweeps: one process at a time, by a key that lives as long as its lease. Losing it costs work done twice, never a
//! value, because every write is compared with what it was made from.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Error;
use super::patience::{Attempts, Patience};
use crate::etcd::{CallError, Guard, KeyValue, Store, Trouble};

/// How long after its last sign of life a sweep is taken for dead.
const TTL: Duration = Duration::from_secs(15);
/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// Between two attempts at one.
const RETRY: Duration = Duration::from_millis(500);
/// Writes end this long before the lease could: what is under way then is answered before somebody else begins.
const MARGIN: Duration = Duration::from_secs(2);
/// The key may be found held by a dead process and freed so often before that is given up.
const MAX_TAKEOVERS: u32 = 5;

/// Characters of a name that are shown: those of the longest host's.
const MAX_SHOWN: usize = 253;

/// A process that sweeps, for whoever finds its key.
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
        write!(f, "process {} on {host}, since {since}", self.pid)
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

impl Holder {
    fn this_process(lease: i64) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let pid = std::process::id();
        Self {
            host: host.trim().to_owned(),
            pid,
            since: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            lease,
            identity: Identity::of(pid),
        }
    }

    /// Whether it is certain that the process has ended: it was one of this machine since the last boot, in this PID
    /// namespace, and is no more. There is no need to wait for its lease then.
    fn is_certainly_dead(&self) -> bool {
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
}

/// Whether no process has this PID. `/proc` can hide those of other users; a signal that is not sent cannot be fooled.
fn is_no_process(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// How long this process may write.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// `None`: for ever.
    until: Cell<Option<Instant>>,
    extended: Notify,
}

impl Fence {
    /// For a pass that writes nothing.
    pub(super) fn open() -> Self {
        Self::default()
    }

    /// Waits while the lease could have ended, by this process's own clock: until etcd has said that it lives. Where it
    /// does not, the sweep ends, and whoever waits here with it.
    pub(super) async fn passed(&self) {
        loop {
            let extended = self.extended.notified();
            if self.is_open() {
                return;
            }
            extended.await;
        }
    }

    fn is_open(&self) -> bool {
        self.until.get().is_none_or(|until| Instant::now() < until)
    }

    fn extend(&self, until: Instant) {
        self.until.set(Some(until));
        self.extended.notify_waiters();
    }
}

/// Until when may be written under a lease that was asked for at `sent`.
fn end_of(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl.saturating_sub(MARGIN.min(ttl / 4))
}

/// A new lease, and until when may be written under it.
async fn granted<S: Store>(store: &S, patience: &Patience, attempts: &mut Attempts) -> Result<(i64, Instant), Error> {
    loop {
        let sent = Instant::now();
        match store.grant(TTL).await {
            Ok((lease, ttl)) => return Ok((lease, end_of(sent, ttl))),
            Err(error) => patience.after(error, attempts).await?,
        }
    }
}

/// Ends a lease. Where that fails it ends by itself.
async fn give_back<S: Store>(store: &S, lease: i64) {
    if let Err(error) = store.revoke(lease).await {
        tracing::debug!(%error, "a lease was not given back");
    }
}

/// The right to sweep.
#[derive(Debug)]
pub(super) struct Owner {
    key: Vec<u8>,
    lease: i64,
    /// When the key came to be: it is this owner's as long as that stands.
    revision: i64,
    pub(super) fence: Fence,
}

impl Owner {
    /// Becomes the owner under `key`.
    ///
    /// # Errors
    /// Somebody else is, and may be alive.
    pub(super) async fn acquire<S: Store>(store: &S, key: Vec<u8>, patience: &Patience) -> Result<Self, Error> {
        let mut attempts = Attempts::default();
        for _ in 0..MAX_TAKEOVERS {
            let (lease, until) = granted(store, patience, &mut attempts).await?;
            let holder = Holder::this_process(lease);
            let record = serde_json::to_vec(&holder).unwrap_or_default();
            let free = [Guard::mod_revision(&key, 0)];
            let put = loop {
                match store.put_if(&free, &key, &record, lease).await {
                    Ok(revision) => break revision,
                    // It took so long that the lease has ended meanwhile.
                    Err(error) if error.trouble() == Trouble::LeaseNotFound => break None,
                    // If it happened all the same, the key is found below.
                    Err(error) => patience.after(error, &mut attempts).await?,
                }
            };
            let found = loop {
                match store.get(&key).await {
                    Ok((_, found)) => break found,
                    Err(error) => patience.after(error, &mut attempts).await?,
                }
            };
            patience.worked();
            let held = found
                .as_ref()
                .and_then(|kv| serde_json::from_slice::<Holder>(&kv.value).ok());
            match (found, held) {
                (Some(kv), Some(held))
                    if held == holder && put.is_none_or(|revision| revision == kv.create_revision) =>
                {
                    let fence = Fence::open();
                    fence.extend(until);
                    return Ok(Self {
                        key,
                        lease,
                        revision: kv.create_revision,
                        fence,
                    });
                }
                // Somebody's lease has just ended, or this one's.
                (None, _) => give_back(store, lease).await,
                (Some(kv), Some(held)) if kv.lease != 0 && held.is_certainly_dead() => {
                    give_back(store, lease).await;
                    give_back(store, kv.lease).await;
                }
                (Some(_), held) => {
                    give_back(store, lease).await;
                    return Err(Error::Held(Box::new(held.unwrap_or_else(Holder::unknown))));
                }
            }
        }
        Err(Error::LostOwnership {
            why: "it ended again and again before the first write".to_owned(),
        })
    }

    /// Who holds `key` and may be alive. Writes nothing.
    pub(super) async fn holder<S: Store>(store: &S, key: &[u8]) -> Result<Option<Holder>, CallError> {
        let (_, found) = store.get(key).await?;
        let holder = |kv: KeyValue| serde_json::from_slice(&kv.value).unwrap_or_else(|_| Holder::unknown());
        Ok(found.map(holder).filter(|holder| !holder.is_certainly_dead()))
    }

    /// Gives signs of life. Returns only when it is clear that they are no longer heard, or not known for `max_wait`. Until
    /// then an etcd that is away is waited for: its leases live anew when it comes back.
    pub(super) async fn keep<S: Store>(&self, store: &S, max_wait: Duration) -> Error {
        loop {
            sleep(BEAT).await;
            let began = Instant::now();
            loop {
                let sent = Instant::now();
                match store.keep_alive(self.lease).await {
                    Ok(Some(ttl)) => {
                        self.fence.extend(end_of(sent, ttl));
                        break;
                    }
                    Ok(None) => {
                        return Error::LostOwnership {
                            why: "it has ended".to_owned(),
                        };
                    }
                    Err(_) if self.fence.is_open() => {}
                    Err(error) if !error.trouble().is_passing() => {
                        return Error::LostOwnership {
                            why: format!("it could not be renewed, {error}"),
                        };
                    }
                    Err(error) if began.elapsed() >= max_wait => {
                        return Error::GaveUp {
                            after: began.elapsed(),
                            last: error.to_string(),
                        };
                    }
                    Err(_) => {}
                }
                sleep(RETRY).await;
            }
        }
    }

    /// Holds as long as nobody else has become the owner.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard::create_revision(&self.key, self.revision)
    }

    /// Lets go, so that the next sweep need not wait.
    pub(super) async fn release<S: Store>(self, store: &S) {
        give_back(store, self.lease).await;
    }
}

impl Holder {
    pub(super) fn unknown() -> Self {
        Self {
            host: "an unknown host".to_owned(),
            pid: 0,
            since: "an unknown time".to_owned(),
            lease: 0,
            identity: None,
        }
    }
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
