//! KMS plugins: clients of the two protocols over a unix socket, the keys that they unwrap, and whether they are well.
//!
//! Everything that talks to a plugin runs on one runtime, which is given; the threads that serve requests only wait for
//! what comes of it, so a request that is given up never ends a call that others wait for. Nothing here sees a value or a
//! plaintext of etcd's, knows which resource is encrypted, or makes a gRPC status for a client.

mod address;
mod annotations;
mod client_v1;
mod client_v2;
mod connection;
mod error;
mod failure;
mod flights;
mod gate;
mod key_ids;
mod load;
mod metrics;
mod plugin;
mod plugins;
mod pulse;
mod text;
mod v1;
mod v2;
mod wrapper;
mod wrapping;

use std::time::Duration;

pub use error::Error;
pub use metrics::FAMILIES;
pub use plugin::{Plugin, Report};
pub use plugins::Plugins;
pub use wrapper::{WrapError, Wrapper};

/// How plugins are watched, and what is kept of their answers. [`Config::default`] is what kube-apiserver does, where it
/// does anything of the kind.
#[derive(Clone, Debug)]
pub struct Config {
    /// From one look at a plugin that is well to the next.
    pub poll: Duration,
    /// The same while it is not.
    pub retry: Duration,
    /// How long a good look holds: whoever asks for the health meanwhile is told the same.
    pub fresh_good: Duration,
    /// How long a bad one does.
    pub fresh_bad: Duration,
    /// How long a v2 plugin's seed writes on after the last good look began. After that writes are refused: the key may
    /// have been disabled, and nobody would know. The clock of this is not set by anybody, and stands still while the machine
    /// sleeps, as kube-apiserver's does.
    pub write_grace: Duration,
    /// From one throw-away call of a v2 plugin's Encrypt to the next, made only to see its annotations.
    pub annotation_poll: Duration,
    /// How long it holds that a v2 plugin has unwrapped the seed that writes. A plugin whose Status is good may have lost the
    /// right to decrypt, and what is written would then be readable for nobody who starts later.
    pub decrypt_poll: Duration,
    /// Calls of one plugin that are under way at once for requests, at least one: so many to open and, with v1, as many to
    /// seal. Fewer to begin with, and where the plugin shows that it does not bear so many.
    pub concurrency: usize,
    /// Seeds and DEKs of one v2 plugin that are kept, beside those that this process has made.
    pub cached_deks: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(60),
            retry: Duration::from_secs(10),
            fresh_good: Duration::from_secs(20),
            fresh_bad: Duration::from_secs(3),
            write_grace: Duration::from_secs(3 * 60),
            annotation_poll: Duration::from_secs(60 * 60),
            // Less than from one look to the next, so that each of those asks anew.
            decrypt_poll: Duration::from_secs(30),
            concurrency: 64,
            cached_deks: 16 * 1024,
        }
    }
}
