//! Where the programs that the tests run lie: `tests/install-tools.sh` and `tests/e2e/build-kube-apiserver.sh` put them
//! there.

use std::path::PathBuf;
use std::{env, fs};

/// A version of etcd that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's.
    V3_4,
    /// The first with downgrades, `AuthStatus` and linearizable member lists. The newest, or 3.5.1 where no Go is at hand.
    V3_5,
    /// The first that checks sort options itself, and that says its quota.
    V3_6,
    /// The first with `RangeStream`, and with google's decoder of protobuf.
    V3_7,
}

impl Version {
    /// Every version, whether or not this machine has it.
    pub const EVERY: [Self; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];

    /// Every version that is tested, but for those that `tests/install-tools.sh` has left out and named in its last line.
    pub fn all() -> Vec<Self> {
        Self::EVERY
            .into_iter()
            .filter(|version| !version.is_left_out())
            .collect()
    }

    /// The version that the calling test is run with, of all: each has its share of the tests, by their names, and a test always has
    /// the same.
    ///
    /// # Panics
    /// Where it is not called by the test's own thread.
    pub fn share() -> Self {
        Self::two()[0]
    }

    /// The same for a test that is run with two: they are not next to each other, where there are four.
    ///
    /// # Panics
    /// As [`Self::share`].
    pub fn two() -> [Self; 2] {
        let thread = std::thread::current();
        let name = thread
            .name()
            .filter(|name| name.contains("::"))
            .expect("a test's thread");
        // FNV-1a: the same everywhere and for ever.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let all = Self::all();
        let first = usize::try_from(hash >> 32).expect("half of it");
        [first, first + all.len() / 2].map(|index| all[index % all.len()])
    }

    /// Whether no write that it acknowledged is lost when it is killed. A single member of 3.5.0 to 3.5.4 tells clients of writes
    /// before they are in its log.
    pub fn survives_a_kill(self) -> bool {
        // What was built from modules says so; the wheel's is 3.5.1, and one that was named may be any.
        self != Self::V3_5 || self.etcd().with_file_name("built-from").is_file()
    }

    fn is_left_out(self) -> bool {
        let (variable, folder) = self.names();
        is_left_out(variable, folder) && self != Self::V3_5
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::V3_4 => ("ETCD_34", "etcd-3.4"),
            Self::V3_5 => ("ETCD_35", "etcd-3.5"),
            Self::V3_6 => ("ETCD_36", "etcd-3.6"),
            Self::V3_7 => ("ETCD_37", "etcd-3.7"),
        }
    }

    /// The server's binary.
    ///
    /// # Panics
    /// Where it is absent: the tests need it, and skipping them would hide that.
    pub fn etcd(self) -> PathBuf {
        let (variable, folder) = self.names();
        program(variable, folder, "etcd")
    }
}

/// kine's binary; `None` where `tests/install-tools.sh` has left it out, and said so.
///
/// # Panics
/// Where it is absent.
pub fn kine() -> Option<PathBuf> {
    let (variable, folder) = ("KINE", "kine-0.17");
    (!is_left_out(variable, folder)).then(|| program(variable, folder, "kine"))
}

/// Whether what lies in `folder` could not be built on this machine, and no other is named.
fn is_left_out(variable: &str, folder: &str) -> bool {
    let left_out = fs::read_to_string(cache().join("left-out")).unwrap_or_default();
    env::var_os(variable).is_none() && left_out.lines().any(|name| name == folder)
}

fn program(variable: &str, folder: &str, name: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| cache().join(folder).join(name), PathBuf::from);
    assert!(
        path.is_file(),
        "no {name} at {}: run tests/install-tools.sh or set {variable}",
        path.display()
    );
    path
}

/// `prometheus` or `promtool`.
///
/// # Panics
/// Where it is absent.
pub fn prometheus_tool(name: &str) -> PathBuf {
    let path = cache().join("prometheus").join(name);
    assert!(
        path.is_file(),
        "no {name} at {}: run tests/install-tools.sh",
        path.display()
    );
    path
}

/// The folder outside the checkout that holds what is fetched or built once.
pub fn cache() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .expect("neither XDG_CACHE_HOME nor HOME is set")
        .join("etcd-encryption-proxy")
}
