//! The keyring in use, replaced as a whole and without a lock.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::{Keyring, key_age};
use crate::kms::Plugin;

/// Where a request takes its keyring from. A request takes one and keeps it to its end, so that it writes with one
/// keyring, however often another is stored meanwhile.
#[derive(Debug)]
pub struct KeyringHandle {
    in_use: ArcSwap<Keyring>,
    replaced: watch::Sender<()>,
}

impl KeyringHandle {
    /// Begins with `keyring`.
    pub fn new(keyring: Keyring) -> Self {
        key_age::loaded(&keyring, None);
        keyring.plugins().iter().for_each(Plugin::put_in_use);
        Self {
            in_use: ArcSwap::from_pointee(keyring),
            replaced: watch::Sender::new(()),
        }
    }

    /// The keyring in use, for as long as no await lies in between: cheaper than [`KeyringHandle::snapshot`], but each
    /// thread has only a few such guards to give before they cost more.
    pub fn load(&self) -> Guard<Arc<Keyring>> {
        self.in_use.load()
    }

    /// The keyring in use, to be kept for as long as a request lasts.
    pub fn snapshot(&self) -> Arc<Keyring> {
        self.in_use.load_full()
    }

    /// Puts `keyring` in place of the one in use. Snapshots taken before stay as they are.
    pub fn store(&self, keyring: Keyring) {
        key_age::loaded(&keyring, Some(&self.in_use.load()));
        keyring.plugins().iter().for_each(Plugin::put_in_use);
        self.in_use.store(Arc::new(keyring));
        self.replaced.send_replace(());
    }

    /// Sees a change whenever a keyring has been put in place of another.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EncryptionConfiguration;
    use crate::keyspace::{EtcdPrefix, KeySpace};
    use crate::kms::Plugins;
    use crate::types::Fingerprint;

    fn keyring(document: &[u8]) -> Keyring {
        let config = EncryptionConfiguration {
            entries: vec![],
            fingerprint: Fingerprint::of(document),
        };
        Keyring::compile(
            &config,
            KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap(),
            &Plugins::none(),
        )
        .unwrap()
    }

    #[test]
    fn a_snapshot_outlives_the_keyring_that_replaces_it() {
        let handle = KeyringHandle::new(keyring(b"old"));
        let (before, guard) = (handle.snapshot(), handle.load());
        handle.store(keyring(b"new"));
        assert_eq!(before.fingerprint(), Fingerprint::of(b"old"));
        assert_eq!(guard.fingerprint(), Fingerprint::of(b"old"));
        assert_eq!(handle.snapshot().fingerprint(), Fingerprint::of(b"new"));
        assert_eq!(handle.load().fingerprint(), Fingerprint::of(b"new"));
    }
}
