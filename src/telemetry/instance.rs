//! What tells this process's series from those of others where kube-apiserver's metrics have such a label.

use std::sync::OnceLock;

use crate::types::Fingerprint;

/// The value of `apiserver_id_hash`: the hash of the host's name, which gives nothing away. Always the same.
pub fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let name = rustix::system::uname();
        Fingerprint::of(name.nodename().to_bytes()).to_string()
    })
}
