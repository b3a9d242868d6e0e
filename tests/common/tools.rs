//! Where the programs that the tests run lie: `tests/install-tools.sh` and `tests/e2e/build-kube-apiserver.sh` put them
//! there.

use std::env;
use std::path::PathBuf;

/// A version of etcd that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's.
    V3_4,
    /// The first with downgrades, `AuthStatus` and linearizable member lists.
    V3_5,
}

impl Version {
    /// Every version that is tested.
    pub const ALL: [Self; 2] = [Self::V3_4, Self::V3_5];

    /// The server's binary.
    ///
    /// # Panics
    /// Where it is absent: the tests need it, and skipping them would hide that.
    pub fn etcd(self) -> PathBuf {
        let (variable, folder) = match self {
            Self::V3_4 => ("ETCD_34", "etcd-3.4"),
            Self::V3_5 => ("ETCD_35", "etcd-3.5"),
        };
        let path = env::var_os(variable).map_or_else(|| cache().join(folder).join("etcd"), PathBuf::from);
        assert!(
            path.is_file(),
            "no etcd at {}: run tests/install-tools.sh or set {variable}",
            path.display()
        );
        path
    }
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
