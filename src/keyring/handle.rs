//! The keyring in use, replaced as a whole and without a lock, and the permit to write with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::permit::{Permit, Writing};
use super::{Keyring, key_age};
use crate::kms::Plugin;
use crate::types::Epoch;

/// Where a request takes its keyring from. A request takes one and keeps it to its end, so that it writes with one
/// keyring, however often another is stored meanwhile.
#[derive(Debug)]
pub struct KeyringHandle {
    in_use: ArcSwap<Keyring>,
    /// The same keyring, with its permit.
    writing: ArcSwap<Writing>,
    /// Held while either is replaced: both are replaced together.
    replacing: Mutex<()>,
    replaced: watch::Sender<()>,
    /// Told when a permit has become unknown, or is known.
    permits: watch::Sender<()>,
    /// Whether somebody waits for one.
    wanted: watch::Sender<bool>,
}

impl KeyringHandle {
    /// Begins with `keyring`, and no permit.
    pub fn new(keyring: Keyring) -> Self {
        key_age::loaded(&keyring, None);
        keyring.plugins().iter().for_each(Plugin::put_in_use);
        let keyring = Arc::new(keyring);
        Self {
            in_use: ArcSwap::new(Arc::clone(&keyring)),
            writing: ArcSwap::from_pointee(Writing {
                keyring,
                permit: Permit::Unknown,
                since: SystemTime::now(),
            }),
            replacing: Mutex::new(()),
            replaced: watch::Sender::new(()),
            permits: watch::Sender::new(()),
            wanted: watch::Sender::new(false),
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

    /// The keyring in use with its permit, for as long as no await lies in between.
    pub fn writing(&self) -> Guard<Arc<Writing>> {
        self.writing.load()
    }

    /// Puts `keyring` in place of the one in use, without a permit. Snapshots taken before stay as they are.
    pub fn store(&self, keyring: Keyring) {
        key_age::loaded(&keyring, Some(&self.in_use.load()));
        keyring.plugins().iter().for_each(Plugin::put_in_use);
        let keyring = Arc::new(keyring);
        let replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        // The permit of the old one goes first.
        self.set(&keyring, Permit::Unknown);
        self.in_use.store(keyring);
        drop(replacing);
        self.replaced.send_replace(());
    }

    /// Notes what was found out about `keyring`; nothing, if it is not the one in use any more.
    pub fn permit(&self, keyring: &Arc<Keyring>, permit: Permit) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.writing.load();
        if Arc::ptr_eq(&now.keyring, keyring) && now.permit != permit {
            self.set(keyring, permit);
        }
    }

    /// Takes back a permit for `epoch`, which is over.
    pub fn is_over(&self, epoch: &Epoch) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.writing.load();
        if matches!(&now.permit, Permit::Fenced { epoch: known, .. } if known == epoch) {
            self.set(&now.keyring, Permit::Unknown);
        }
    }

    fn set(&self, keyring: &Arc<Keyring>, permit: Permit) {
        self.writing.store(Arc::new(Writing {
            keyring: Arc::clone(keyring),
            permit,
            since: SystemTime::now(),
        }));
        self.permits.send_replace(());
    }

    /// Sees a change whenever a keyring has been put in place of another.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// Sees a change whenever a permit is another one.
    pub fn permits(&self) -> watch::Receiver<()> {
        self.permits.subscribe()
    }

    /// Sees true once somebody waits for a permit that is not known.
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Waits until a permit is known, or refused.
    pub async fn permitted(&self) {
        let mut permits = self.permits.subscribe();
        while self.writing.load().permit == Permit::Unknown {
            self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
            // The sender is this handle's own.
            let _ = permits.changed().await;
        }
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
            retired: crate::config::Retired::default(),
        };
        Keyring::compile(
            &config,
            &KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap(),
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

    #[test]
    fn a_permit_is_of_one_keyring_and_one_epoch() {
        let handle = KeyringHandle::new(keyring(b"old"));
        let fenced = |nonce: &[u8]| Permit::Fenced {
            epoch: Epoch::found(nonce, 1).unwrap(),
            nests: false,
        };
        let old = handle.snapshot();
        assert_eq!(handle.writing().permit, Permit::Unknown);
        handle.permit(&old, fenced(b"1"));
        assert_eq!(handle.writing().permit, fenced(b"1"));
        // Over long ago: it is not the one that is known.
        handle.is_over(&Epoch::found(b"0", 1).unwrap());
        assert_eq!(handle.writing().permit, fenced(b"1"));
        handle.is_over(&Epoch::found(b"1", 1).unwrap());
        assert_eq!(handle.writing().permit, Permit::Unknown);
        handle.permit(&old, fenced(b"2"));
        // Another keyring has yet to get one, and what is found out of the old one is not for it.
        handle.store(keyring(b"new"));
        handle.permit(&old, fenced(b"2"));
        assert_eq!(handle.writing().permit, Permit::Unknown);
        assert_eq!(handle.writing().keyring.fingerprint(), Fingerprint::of(b"new"));
    }
}
