//! A network namespace with a router before it that can drop every packet, or those from and to one address of the machine: neither
//! end sees more than silence, and TCP sends again what was lost, as it does over a real network.
//!
//! Needs root and iproute2 (`ip netns`). Clients of a program inside reach it over a unix socket, which is not part of any
//! network namespace.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{self, Command};

/// How many there can be at once on a machine.
const MOST: u32 = 250;

/// The shortest wait before TCP sends again, as over a network with a long round trip. The waits double: bytes are sent again 4.7 s
/// and 9.6 s after they were lost, the latter right before a proxy gives the connection up.
const RTO_MIN: &str = "310ms";

/// The namespace and its router. Both go when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    inner: String,
    router: String,
    host: Ipv4Addr,
    lone: Ipv4Addr,
}

impl Namespace {
    /// Whether this machine and this user can have any.
    pub fn can_be_had() -> bool {
        Self::try_new().is_ok()
    }

    /// A new one, with packets passing.
    ///
    /// # Panics
    /// Where it cannot be had: skipping what needs one would hide that.
    pub fn create() -> Self {
        Self::try_new().unwrap_or_else(|error| panic!("no network namespace (it takes root and iproute2): {error}"))
    }

    fn try_new() -> Result<Self, String> {
        remove_left_behind();
        for number in (0..MOST).map(|number| (number + process::id()) % MOST) {
            let octet = u8::try_from(number).map_err(|error| error.to_string())?;
            let name = |end: &str| format!("{}{end}", prefix(process::id(), number));
            let namespace = Self {
                inner: name("in"),
                router: name("ro"),
                host: Ipv4Addr::new(10, 213, octet, 1),
                lone: Ipv4Addr::new(10, 215, octet, 1),
            };
            let veth = format!("eep{number}");
            // The veth's name is what tells whether a number is taken: the kernel gives it to one alone.
            let is_ours = !Path::new("/sys/class/net").join(&veth).exists();
            match ip(&["netns", "add", &namespace.router]) {
                Ok(()) if is_ours => {}
                Ok(()) => continue,
                Err(error) => {
                    // It is another's, and must not be removed.
                    std::mem::forget(namespace);
                    if error.contains("File exists") {
                        continue;
                    }
                    return Err(error);
                }
            }
            match namespace.set_up(&veth, octet) {
                Ok(()) => return Ok(namespace),
                Err(error) if error.contains("File exists") => {}
                Err(error) => return Err(error),
            }
        }
        Err("every number is taken, or `ip netns add` fails".to_owned())
    }

    fn set_up(&self, veth: &str, octet: u8) -> Result<(), String> {
        let (inner, router) = (self.inner.as_str(), self.router.as_str());
        let outside = |host: u8| format!("10.213.{octet}.{host}");
        let inside = |host: u8| format!("10.214.{octet}.{host}");
        for words in [
            format!("netns add {inner}"),
            format!("link add {veth} type veth peer name outside netns {router}"),
            format!("-n {router} link add name inside type veth peer name eth0 netns {inner}"),
            format!("addr add {}/30 dev {veth}", outside(1)),
            format!("addr add {}/32 dev {veth}", self.lone),
            format!("link set {veth} up"),
            format!("-n {router} addr add {}/30 dev outside", outside(2)),
            format!("-n {router} addr add {}/30 dev inside", inside(1)),
            format!("-n {inner} addr add {}/30 dev eth0", inside(2)),
            format!("-n {router} link set outside up"),
            format!("-n {router} link set inside up"),
            format!("-n {router} route add {}/32 via {}", self.lone, outside(1)),
            format!("-n {inner} link set eth0 up"),
            format!("-n {inner} link set lo up"),
            format!("-n {inner} route add default via {} rto_min {RTO_MIN}", inside(1)),
            format!("route add {}/30 via {}", inside(0), outside(2)),
        ] {
            ip(&words.split(' ').collect::<Vec<_>>())?;
        }
        self.forward(true)
    }

    /// The machine's own address on the way in: who is to be reached from inside listens there.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// Another one, which can fall silent by itself.
    pub fn lone(&self) -> Ipv4Addr {
        self.lone
    }

    /// Drops every packet from and to [`Namespace::lone`], until it is told to let them pass.
    pub fn silence(&self, silent: bool) {
        let change = if silent { "add" } else { "del" };
        for end in ["from", "to"] {
            let words = format!("-n {} rule {change} {end} {} blackhole", self.router, self.lone);
            ip(&words.split(' ').collect::<Vec<_>>()).expect("the router's rule");
        }
    }

    /// The words that start a program inside.
    pub fn enter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.inner]
    }

    /// Drops every packet, both ways, until it is told to let them pass.
    pub fn drop_packets(&self, dropped: bool) {
        self.forward(!dropped).expect("the router's switch");
    }

    fn forward(&self, on: bool) -> Result<(), String> {
        let script = format!("echo {} > /proc/sys/net/ipv4/ip_forward", u8::from(on));
        ip(&["netns", "exec", &self.router, "sh", "-c", &script])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The veths go with them.
        for name in [&self.inner, &self.router] {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn prefix(pid: u32, number: u32) -> String {
    format!("eep-{pid}-{number}-")
}

/// Those of a test that was killed.
fn remove_left_behind() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("eep-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("`ip` does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("`ip {}`: {said}", words.join(" ")))
}
