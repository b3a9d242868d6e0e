//! What the service manager is told of this process: a datagram to the socket that `NOTIFY_SOCKET` names, as `sd_notify(3)` has
//! it. A process that no such manager has started tells nothing.
//!
//! Never decides how the process stands, and never waits: a manager that does not read is told nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

/// What the environment says that cannot be followed.
#[derive(Debug, Error)]
pub enum Error {
    /// Another kind of socket.
    #[error("NOTIFY_SOCKET={0:?} names no socket that can be told: an absolute path or @NAME is expected")]
    Address(OsString),
    /// The system makes no socket.
    #[error("the socket for systemd cannot be made")]
    Socket(#[source] io::Error),
    /// No time.
    #[error("WATCHDOG_USEC={0:?} is not a number of microseconds")]
    Watchdog(OsString),
}

/// How the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// It has begun to do what it is for, or waits for nothing but etcd.
    Ready,
    /// It looks at its files anew; `Ready` follows.
    Reloading,
    /// It ends.
    Stopping,
    /// One line for people.
    Status(&'a str),
    /// It is well. Has to come again within the time of [`Manager::watchdog`].
    Alive,
}

/// Who is told. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    way: Option<Arc<Way>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    address: SocketAddr,
    /// What fails is said once, until it works again.
    fails: AtomicBool,
}

impl Manager {
    /// The one that the environment names, if it names one; `variable` looks one up.
    ///
    /// # Errors
    /// What it names cannot be used.
    pub fn find(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = address(&name).ok_or(Error::Address(name))?;
        let socket = UnixDatagram::unbound().map_err(Error::Socket)?;
        socket.set_nonblocking(true).map_err(Error::Socket)?;
        let way = Way {
            socket,
            address,
            fails: AtomicBool::new(false),
        };
        Ok(Self {
            way: Some(Arc::new(way)),
            watchdog: watchdog(variable)?,
        })
    }

    /// How often [`Told::Alive`] is waited for, if it is.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it.
    pub fn tell(&self, what: Told<'_>) {
        let Some(way) = &self.way else { return };
        match way.socket.send_to_addr(message(what).as_bytes(), &way.address) {
            Ok(_) => way.fails.store(false, Ordering::Relaxed),
            Err(error) => {
                if !way.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "systemd cannot be told how this process stands");
                }
            }
        }
    }
}

fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Duration>, Error> {
    let Some(given) = variable("WATCHDOG_USEC") else {
        return Ok(None);
    };
    // It may be meant for the process that started this one.
    if variable("WATCHDOG_PID").is_some_and(|pid| pid != *std::process::id().to_string()) {
        return Ok(None);
    }
    match given.to_str().and_then(|text| text.parse().ok()) {
        Some(0) | None => Err(Error::Watchdog(given)),
        Some(microseconds) => Ok(Some(Duration::from_micros(microseconds))),
    }
}

fn message(what: Told<'_>) -> String {
    match what {
        Told::Ready => "READY=1".to_owned(),
        Told::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let (seconds, nanoseconds) = (i128::from(now.tv_sec), i128::from(now.tv_nsec));
            format!(
                "RELOADING=1\nMONOTONIC_USEC={}",
                seconds * 1_000_000 + nanoseconds / 1_000
            )
        }
        Told::Stopping => "STOPPING=1".to_owned(),
        // A line of its own would be another assignment.
        Told::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
        Told::Alive => "WATCHDOG=1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Manager, Error> {
        Manager::find(|name| {
            pairs
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_one_datagram_to_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("etcd-encryption-proxy-{}", std::process::id());
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, given) in [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstracted).unwrap(), format!("@{name}")),
        ] {
            let manager = of(&[("NOTIFY_SOCKET", &given)]).unwrap();
            for (what, expected) in [
                (Told::Ready, "READY=1"),
                (Told::Stopping, "STOPPING=1"),
                (Told::Alive, "WATCHDOG=1"),
                (Told::Status("one\nREADY=1"), "STATUS=one READY=1"),
            ] {
                manager.tell(what);
                assert_eq!(received(&socket), expected);
            }
            manager.tell(Told::Reloading);
            let reloading = received(&socket);
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{reloading}");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asked_and_a_deaf_manager_holds_nothing_up() {
        of(&[]).unwrap().tell(Told::Ready);
        of(&[("NOTIFY_SOCKET", "")]).unwrap().tell(Told::Ready);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let gone = of(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        gone.tell(Told::Ready);
        let _unread = UnixDatagram::bind(&path).unwrap();
        // Far more than the system keeps for a socket.
        (0..10_000).for_each(|_| gone.tell(Told::Alive));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for socket in ["relative", "vsock:2:1234", "@"] {
            assert!(
                matches!(of(&[("NOTIFY_SOCKET", socket)]), Err(Error::Address(_))),
                "{socket}"
            );
        }
        for time in ["", "0", "-1", "soon"] {
            let refused = of(&[("NOTIFY_SOCKET", "/n"), ("WATCHDOG_USEC", time)]);
            assert!(matches!(refused, Err(Error::Watchdog(_))), "{time:?}");
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_none() {
        let own = std::process::id().to_string();
        let watchdog = |pid: Option<&str>| {
            let pid = pid.map(|pid| ("WATCHDOG_PID", pid));
            let pairs = [("NOTIFY_SOCKET", "/n"), ("WATCHDOG_USEC", "1500000")];
            of(&pairs.into_iter().chain(pid).collect::<Vec<_>>())
                .unwrap()
                .watchdog()
        };
        assert_eq!(watchdog(None), Some(Duration::from_millis(1_500)));
        assert_eq!(watchdog(Some(&own)), Some(Duration::from_millis(1_500)));
        assert_eq!(watchdog(Some("1")), None);
    }
}
