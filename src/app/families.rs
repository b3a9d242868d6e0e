//! Every metric family of the process: each room names its own, and only here they come together.

use crate::telemetry::{self, Family, Kind};
use crate::{audit, etcd, keyring, kms, proxy, sweep, tls, traces};

/// Which build this is.
const BUILD_INFO: Family = Family {
    name: "etcd_encryption_proxy_build_info",
    kind: Kind::Gauge,
    help: "The version that runs, the compiler and the platform it was built with and for, as labels; always 1.",
    labels: &["version", "rustc", "target"],
};

/// Every family that the process may export; which series there are depends on what it is set up with and has met.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [
        &[BUILD_INFO] as &[_],
        audit::FAMILIES,
        traces::FAMILIES,
        keyring::FAMILIES,
        keyring::RELOAD_FAMILIES,
        tls::FAMILIES,
        kms::FAMILIES,
        etcd::FAMILIES,
        proxy::FAMILIES,
        sweep::FAMILIES,
        telemetry::PROCESS_FAMILIES,
    ]
    .into_iter()
    .flatten()
}

/// Records what is known from the start.
pub(super) fn record_build() {
    let (version, rustc, target) = (env!("CARGO_PKG_VERSION"), env!("BUILD_RUSTC"), env!("BUILD_TARGET"));
    metrics::gauge!(BUILD_INFO.name, "version" => version, "rustc" => rustc, "target" => target).set(1);
}
