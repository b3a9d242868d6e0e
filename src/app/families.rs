//! Every metric family of the process: each room names its own, and only here they come together.

use crate::telemetry::{self, Family, Kind};
use crate::{etcd, keyring, proxy};

/// Which build this is.
const BUILD_INFO: Family = Family {
    name: "etcd_encryption_proxy_build_info",
    kind: Kind::Gauge,
    help: "The version that runs, in its labels; the value is always 1.",
    labels: &["version", "target"],
};

/// Every family that the process may export; which series there are depends on what it is set up with and has met.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [
        &[BUILD_INFO] as &[_],
        keyring::FAMILIES,
        etcd::FAMILIES,
        proxy::FAMILIES,
        telemetry::PROCESS_FAMILIES,
    ]
    .into_iter()
    .flatten()
}

/// Records what is known from the start.
pub(super) fn record_build() {
    let target = concat!(env!("CARGO_PKG_NAME"), "");
    metrics::gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION"), "target" => target).set(1);
}
