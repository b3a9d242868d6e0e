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
use crate::rotation::{Audience, Error, Site, Source, barred};
use crate::sweep::{self, Limits, Observer, Options as SweepOptions, Progress, Report, Scope, Uncovered, Wanted};
use crate::types::{Epoch, StatePrefix};

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
            keyring: Arc::new(Keyring::compile(config, keyspace, &Plugins::none()).unwrap()),
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
