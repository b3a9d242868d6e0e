//! The keyring in etcd, reached as the product does, through the library.

use std::path::PathBuf;
use std::sync::Arc;

use etcd_encryption_proxy::etcd::{Client, Config, Pool, Reachability};
use etcd_encryption_proxy::files::Permissions;
use etcd_encryption_proxy::kms::Wrapper;
use etcd_encryption_proxy::managed::{Roots, Strongbox};
use etcd_encryption_proxy::transport::{Dialer, Endpoint, Flusher};
use etcd_encryption_proxy::types::StatePrefix;
use tokio::runtime::{Builder, LocalOptions};

use super::process::PATIENCE;

/// Runs `work` as `serve` does what it does in etcd: on a runtime of this thread alone.
pub fn run<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(work())
}

/// A client of `endpoints`, which are separated by commas.
pub fn client(endpoints: &str) -> Client {
    let flusher = Flusher::default();
    tokio::task::spawn_local(flusher.clone().run());
    let dialers = endpoints.split(',').map(|endpoint| {
        let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
        Dialer::new(endpoint, None).expect("a dialer")
    });
    let config = Config {
        members: dialers.collect(),
        first: 0,
        reachability: Arc::new(Reachability::default()),
        kind: Arc::default(),
    };
    Client::new(Pool::spawn(config, 2 * 1024 * 1024, flusher))
}

/// The keyring under the default state prefix.
pub fn strongbox(endpoints: &str, root: Option<PathBuf>, kms: Option<&str>) -> Strongbox<Client> {
    let kms = kms.map(|endpoint| Wrapper::new("root", endpoint, PATIENCE).expect("a plugin"));
    let roots = Roots::load(root, Arc::new(Permissions::new(true)), kms).expect("roots");
    let state = StatePrefix::new(StatePrefix::DEFAULT).expect("a prefix");
    Strongbox::new(client(endpoints), state, Arc::new(roots), "host")
}
