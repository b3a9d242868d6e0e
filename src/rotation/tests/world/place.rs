//! The world as the driver has it: the store with the real sweep, the file as the configuration's place, nobody who listens.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Loaded, World};
use crate::config::{Draft, EncryptionConfiguration};
use crate::etcd::{CallError, epoch};
use crate::keyring::Keyring;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::rotation::{Audience, Error, Kept, Site, Source, barred};
use crate::sweep::{
    self, Limits, Observer, Options as SweepOptions, Progress, Report, Scope, Spare, Uncovered, Unopenable, Wanted,
};
use crate::types::{Epoch, StatePrefix, StorageKey};
use crate::value::Deks;

/// Hears nothing.
pub(in crate::rotation::tests) struct Deaf;

impl Observer for Deaf {
    fn notice(&self, _: &str) {}
    fn progress(&self, _: &Progress) {}
}

impl Audience for Deaf {
    fn says(&self, _: &str) {}
    fn notice(&self, _: &str) {}
    fn follows(&self, _: &sweep::Work) {}
}

/// The store as a site: with the real sweep. And the other ones.
pub(in crate::rotation::tests) struct Place<'a>(
    pub(in crate::rotation::tests) &'a World,
    pub(in crate::rotation::tests) Vec<Place<'a>>,
);

const OPTIONS: SweepOptions = SweepOptions {
    limits: Limits {
        is_adaptive: false,
        concurrency: 2,
        keys_per_second: None,
        bytes_per_second: None,
    },
    max_wait: Duration::from_secs(60),
    restart: false,
    dry_run: false,
};

impl Place<'_> {
    fn scope(&self, config: &EncryptionConfiguration) -> Scope {
        let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
        Scope {
            keyring: Arc::new(Keyring::compile(config, &keyspace, &Plugins::none()).unwrap()),
            epoch: Epoch::FIRST,
            state: self.0.state.clone(),
            resources: Vec::new(),
            prefixes: Vec::new(),
            lays_bare: true,
            written_until: None,
        }
    }
}

impl<'a> Site for Place<'a> {
    type Store = &'a World;

    fn store(&self) -> &&'a World {
        &self.0
    }

    fn state(&self) -> &StatePrefix {
        &self.0.state
    }

    fn paths(&self, _: &EncryptionConfiguration) -> Vec<String> {
        Vec::new()
    }

    fn prefixes(&self) -> Vec<String> {
        vec!["/registry".to_owned()]
    }

    fn name(&self) -> String {
        // Only the first one has others.
        if self.1.is_empty() { "etcd-two" } else { "etcd-one" }.to_owned()
    }

    fn beside(&self) -> &[Self] {
        &self.1
    }

    async fn sweep(
        &self,
        config: &EncryptionConfiguration,
        stop: tokio::sync::watch::Receiver<bool>,
    ) -> Result<Report, Error> {
        let mut scope = self.scope(config);
        scope.epoch = epoch::read(&self.0, &self.0.state).await?;
        if barred(&self.0, &self.0.state, &scope.keyring).await?.is_some() {
            return Err(Error::Changed);
        }
        Ok(sweep::sweep(&self.0, &scope, &OPTIONS, Arc::new(Deaf), stop).await?)
    }

    async fn uncovered(
        &self,
        config: &EncryptionConfiguration,
        wanted: Wanted,
        stop: tokio::sync::watch::Receiver<bool>,
    ) -> Result<Uncovered, Error> {
        let scope = self.scope(config);
        Ok(sweep::uncovered(&self.0, &scope, wanted, &OPTIONS, Arc::new(Deaf), stop).await?)
    }

    async fn unopenable(
        &self,
        config: &EncryptionConfiguration,
        spares: &[Spare],
        stop: tokio::sync::watch::Receiver<bool>,
    ) -> Result<Unopenable, Error> {
        let scope = self.scope(config);
        Ok(sweep::unopenable(&self.0, &scope, spares, &OPTIONS, Arc::new(Deaf), stop).await?)
    }

    async fn compact(&self, revision: i64) -> Result<(), CallError> {
        self.0.compacted.set(self.0.compacted.get().max(revision));
        Ok(())
    }
}

impl World {
    /// Puts `text` in the file, by a command or by hand.
    pub(in crate::rotation::tests) fn edit(&self, text: &str) {
        let former = self.file.replace(Loaded::of(text));
        self.former.borrow_mut().push(former);
        self.remember();
        self.check();
    }
}

/// What turns up that an earlier configuration has sealed.
impl World {
    /// Keeps `text` as what the file was, last of all.
    pub(in crate::rotation::tests) fn keep(&self, text: &str) {
        self.former.borrow_mut().push(Loaded::of(text));
    }

    /// What the file was at first, or after so many changes.
    pub(in crate::rotation::tests) fn former_loaded(&self, index: usize) -> Loaded {
        self.former.borrow()[index].clone()
    }

    /// Stores a secret called `name` as `former` has sealed it.
    pub(in crate::rotation::tests) fn restore(&self, former: &Loaded, name: &str) {
        self.restore_at(former, &secret(name));
    }

    /// The same under any key: by the rule for it, or the first one.
    pub(in crate::rotation::tests) fn restore_at(&self, former: &Loaded, key: &[u8]) {
        let by_rule = former.keyring.chain(key).map(|sealer| sealer.chain());
        let chain = by_rule.unwrap_or_else(|| former.keyring.rules()[0].chain());
        let mut stored = Vec::new();
        chain
            .to_storage(StorageKey(key), key, &Deks::default(), &mut stored)
            .unwrap();
        self.put(key, &stored);
    }

    /// Whether the secret called `name` is as the file's rule writes it, and opens.
    pub(in crate::rotation::tests) fn is_fresh(&self, name: &str) -> bool {
        self.is_fresh_at(&secret(name))
    }

    /// The same of any key.
    pub(in crate::rotation::tests) fn is_fresh_at(&self, key: &[u8]) -> bool {
        let stored = self.keys.borrow()[key].value.clone();
        let file = self.file.borrow();
        let (chain, mut plaintext) = (file.keyring.chain(key).expect("a rule").chain(), Vec::new());
        let opened = chain.from_storage(StorageKey(key), &stored, &Deks::default(), &mut plaintext);
        opened.is_ok_and(|opened| !opened.stale) && plaintext == key
    }
}

fn secret(name: &str) -> Vec<u8> {
    format!("/registry/secrets/default/{name}").into_bytes()
}

impl Source for World {
    fn name(&self) -> String {
        "the file".to_owned()
    }

    async fn read(&self) -> Result<EncryptionConfiguration, Error> {
        Ok((*self.file.borrow().config).clone())
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn kept(&self) -> Result<Vec<Kept>, Error> {
        let former = self.former.borrow();
        let kept = former.iter().enumerate().rev().map(|(index, former)| Kept {
            name: format!("former {index}"),
            config: (*former.config).clone(),
        });
        Ok(kept.collect())
    }

    async fn replace(
        &self,
        was: &EncryptionConfiguration,
        next: &Draft,
        comment: &str,
    ) -> Result<Option<PathBuf>, Error> {
        // Dead from here on: with the file written, or before.
        if self.is_dead.get() || (self.ages() && self.random(2) == 0) {
            return Ok(None);
        }
        if self.file.borrow().config.fingerprint != was.fingerprint {
            return Err(Error::Changed);
        }
        self.edit(&next.render(comment));
        Ok(None)
    }
}
