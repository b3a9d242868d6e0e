//! Runs `secrets-encrypt`: the configuration's file, etcd, and sweeps with keyrings that are compiled from the file as it
//! is at that moment.

mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

use super::build::{Dialers, client_tls, dialers};
use super::offline;
use super::place::{self, About};
use super::run::examine;
use super::store::must_be_etcd;
use super::strongbox::strongbox;
use super::survey::look;
use super::trial::trial;
use super::{Common, Error, Misplaced, Origin};
use crate::config::EncryptionConfiguration;
use crate::etcd::{CallError, Client, epoch};
use crate::files::Permissions;
use crate::keyring::{self, Keyring};
use crate::keyspace::KeySpace;
use crate::kms::Plugins;
use crate::members::{Roster, StoreId};
use crate::rotation::{
    self, Ask, Audience, Command, ConfigFile, Driver, ManagedConfig, Outcome, Pace, Site, Source, Status, barred,
    going, outline,
};
use crate::sweep::{self, Latest, Observer, Report, Scope, Spare, Uncovered, Unopenable, Wanted};
use crate::transport::Endpoint;
use crate::types::{Epoch, StatePrefix};
use status::status;

/// Between two looks of who watches.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Settings of `secrets-encrypt`.
#[derive(Clone, Debug)]
pub struct RotationSettings {
    /// The cluster, and the file.
    pub common: Common,
    /// Whether something has to be stored.
    pub about: About,
    /// The members of each other cluster that is served with the same file.
    pub also: Vec<Vec<Endpoint>>,
    /// How long, and by what.
    pub limits: rotation::Limits,
    /// How fast a sweep is.
    pub pace: sweep::Limits,
    /// How long etcd may be in trouble before a sweep gives up.
    pub max_wait: Duration,
    /// Whether `reencrypt` writes everything again that is there, not only what is stale.
    pub rewrite_all: bool,
    /// Whether sweeps begin anew, whatever an earlier one left.
    pub restart: bool,
    /// Files in which `recover` looks for keys, in place of those that are kept beside the configuration's.
    pub from: Vec<PathBuf>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum RotationWork {
    /// To tell how things stand; with the values in etcd counted, if `count`.
    Status {
        /// Whether to count.
        count: bool,
    },
    /// To tell the audience how things stand, every second, until it is told to stop.
    Watch,
    /// To carry out a command.
    Run(Ask),
    /// To tell what that would do.
    Plan(Ask),
    /// To give up a record that leaves no way out; or to tell that alone, if `only_tells`.
    Forget {
        /// In whose name.
        ask: Ask,
        /// Whether nothing is changed.
        only_tells: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum RotationReport {
    /// How things stand.
    Status(Box<Status>),
    /// A command is done.
    Done(Box<Outcome>),
    /// What it would do.
    Plan(Vec<String>),
    /// What was given up.
    Forgotten(Vec<String>),
    /// It was watched for long enough.
    Watched,
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum RotationError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] Error),
    /// It was refused, or ended before its end.
    #[error(transparent)]
    Rotation(#[from] rotation::Error),
}

impl From<Misplaced> for RotationError {
    fn from(why: Misplaced) -> Self {
        Self::Start(why.into())
    }
}

/// Does `work`, and blocks the calling thread meanwhile. The first SIGTERM or SIGINT lets what is under way end.
pub fn rotation<A>(
    settings: &RotationSettings,
    work: RotationWork,
    audience: &Arc<A>,
) -> Result<RotationReport, RotationError>
where
    A: Audience + Observer + 'static,
{
    let (settings, told) = (settings.clone(), Arc::clone(audience));
    let common = settings.common.clone();
    let also = settings.also.iter().map(|members| reach(&common, members));
    let also = also.collect::<Result<Vec<_>, _>>()?;
    let notice = |text: &str| Audience::notice(&**audience, text);
    let stopped = || RotationError::Rotation(rotation::Error::Stopped);
    offline::run(&common, &notice, stopped, async move |hands| {
        let (heard, timeout) = (told.clone(), settings.limits.timeout);
        let patience = place::patience(timeout, move |text| Audience::notice(&*heard, text));
        let changes = !matches!(work, RotationWork::Status { .. } | RotationWork::Watch);
        if changes {
            place::look(&hands.on_etcd.client, &settings.common, settings.about, &patience).await?;
        }
        let options = sweep::Options {
            limits: settings.pace,
            max_wait: settings.max_wait,
            restart: settings.restart,
            dry_run: false,
        };
        let client = hands.on_etcd.client;
        let only_tells = matches!(work, RotationWork::Status { count: false } | RotationWork::Watch);
        if !only_tells {
            must_be_etcd(&client, "this command of `secrets-encrypt`").await?;
        }
        let site = |client, common: &Common| {
            let site = Etcd::new(client, common, hands.plugins.clone(), options, told.clone())?;
            Ok::<_, RotationError>(Etcd {
                rewrites_all: settings.rewrite_all,
                ..site
            })
        };
        let mut others = Vec::new();
        for (common, members) in &also {
            let client = super::sweep::client(Arc::clone(members), &hands.on_etcd.flusher);
            if changes {
                place::look(&client, common, About::Records, &patience).await?;
            }
            others.push(site(client, common)?);
        }
        let site = site(client.clone(), &settings.common)?.beside(others);
        let job = Job {
            site: &site,
            audience: &*told,
            limits: settings.limits.clone(),
            stop: hands.stopped,
        };
        match &settings.common.origin {
            Origin::File(path) => {
                let permissions = Permissions::new(settings.common.strict_permissions);
                let file = ConfigFile::new(path.clone(), permissions).with_former(settings.from.clone());
                Box::pin(job.run(&file, None, work)).await
            }
            Origin::Managed(root) => {
                let strongbox = strongbox(&settings.common, root, client)?;
                let source = ManagedConfig::new(strongbox);
                Box::pin(job.run(&source, Some(&source), work)).await
            }
        }
    })
}

/// Another cluster, of which all else is as of `common`, and how its members are reached.
fn reach(common: &Common, members: &[Endpoint]) -> Result<(Common, Dialers), Error> {
    let common = Common {
        members: members.to_vec(),
        ..common.clone()
    };
    let tls = client_tls(&common, &Permissions::new(common.strict_permissions))?;
    let (members, _) = dialers(&common, tls.as_ref())?;
    Ok((common, members))
}

/// Work on one site.
struct Job<'a, A> {
    site: &'a Etcd,
    audience: &'a A,
    limits: rotation::Limits,
    stop: watch::Receiver<bool>,
}

impl<A: Audience> Job<'_, A> {
    /// `keyring` is the source too, where that is the keyring in etcd.
    async fn run<C: Source>(
        self,
        source: &C,
        keyring: Option<&ManagedConfig<Client>>,
        work: RotationWork,
    ) -> Result<RotationReport, RotationError> {
        let site = self.site;
        let driver = Driver {
            site,
            source,
            audience: self.audience,
            limits: self.limits,
            stop: self.stop.clone(),
        };
        Ok(match work {
            RotationWork::Run(ask) => {
                if ask.command == Command::Migrate {
                    let (facts, _) = driver.facts().await?;
                    trial(&site.plugins, &ask, &facts, driver.audience).await?;
                }
                RotationReport::Done(Box::new(driver.run(&ask).await?))
            }
            RotationWork::Plan(ask) => {
                let (facts, _) = driver.facts().await?;
                trial(&site.plugins, &ask, &facts, driver.audience).await?;
                let counted = site.look_everywhere(&facts.config, &self.stop).await?;
                let wanted = Wanted {
                    keys: going(&ask, &facts),
                    others: false,
                };
                let uncovered = if wanted.keys.is_empty() {
                    None
                } else {
                    Some(site.uncovered(&facts.config, wanted, self.stop.clone()).await?)
                };
                let recovery = match ask.command {
                    Command::Recover => Some(driver.search(&facts, &driver.stop).await?),
                    _ => None,
                };
                let latest = Latest::read(&site.client, &site.state).await;
                let pace = Pace::of(&latest.map_err(rotation::Error::Call)?);
                let plan = outline(
                    &ask,
                    &facts,
                    Some(counted.counts.scanned),
                    pace,
                    uncovered.as_ref(),
                    recovery.as_ref(),
                );
                RotationReport::Plan(plan.map_err(rotation::Error::Refused)?)
            }
            RotationWork::Forget { ask, only_tells } => {
                let lines = driver.forget(&ask, only_tells).await?;
                if only_tells {
                    RotationReport::Plan(lines)
                } else {
                    RotationReport::Forgotten(lines)
                }
            }
            RotationWork::Status { count } => {
                let (status, config) = status(&driver, count, keyring).await?;
                RotationReport::Status(Box::new(
                    status.with_survey(look(&site.client, site.scope(&config)).await),
                ))
            }
            RotationWork::Watch => {
                let mut stop = self.stop;
                while !*stop.borrow() {
                    let status = status(&driver, false, keyring).await;
                    driver.audience.stands(status.as_ref().map(|(status, _)| status));
                    // Whoever could tell to stop is gone: that is one way to tell.
                    let _ = timeout(WATCH_EVERY, stop.wait_for(|stop| *stop)).await;
                }
                RotationReport::Watched
            }
        })
    }
}

/// etcd itself, with the real sweep.
pub(super) struct Etcd {
    name: String,
    beside: Vec<Self>,
    client: Client,
    state: StatePrefix,
    keyspace: KeySpace,
    plugins: Arc<Plugins>,
    options: sweep::Options,
    observer: Arc<dyn Observer>,
    rewrites_all: bool,
    /// Up to which revision, once that is known: all sweeps of a command have the same in mind.
    written_until: OnceCell<i64>,
}

impl Etcd {
    /// The cluster that `common` names, over `client`.
    ///
    /// # Errors
    /// Its prefixes make no key space.
    pub(super) fn new(
        client: Client,
        common: &Common,
        plugins: Arc<Plugins>,
        options: sweep::Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let members: Vec<_> = common.members.iter().map(ToString::to_string).collect();
        Ok(Self {
            name: members.join(","),
            beside: Vec::new(),
            client,
            state: common.state_prefix.clone(),
            keyspace: common.keyspace()?,
            plugins,
            options,
            observer,
            rewrites_all: false,
            written_until: OnceCell::new(),
        })
    }

    /// The same, with other clusters that are served with the same configuration.
    fn beside(self, beside: Vec<Self>) -> Self {
        Self { beside, ..self }
    }

    /// Counts what there is here and there, and writes nothing.
    async fn look_everywhere(
        &self,
        config: &EncryptionConfiguration,
        stop: &watch::Receiver<bool>,
    ) -> Result<Report, rotation::Error> {
        let mut report = self.look(config, stop.clone()).await?;
        for other in &self.beside {
            report.join(other.look(config, stop.clone()).await?);
        }
        Ok(report)
    }

    /// Counts what there is, and writes nothing.
    pub(super) async fn look(
        &self,
        config: &EncryptionConfiguration,
        stop: watch::Receiver<bool>,
    ) -> Result<Report, rotation::Error> {
        let options = sweep::Options {
            dry_run: true,
            ..self.options
        };
        self.sweep_with(config, &options, stop).await
    }

    /// Everything under the rules of `config`.
    fn scope(&self, config: &EncryptionConfiguration) -> Result<Scope, rotation::Error> {
        let keyring = Keyring::compile(config, &self.keyspace, &self.plugins);
        Ok(Scope {
            keyring: Arc::new(keyring.map_err(rotation::Error::Keyring)?),
            epoch: Epoch::FIRST,
            state: self.state.clone(),
            resources: Vec::new(),
            prefixes: Vec::new(),
            // Whoever asks for it after `disable` wants just that.
            lays_bare: true,
            written_until: None,
        })
    }

    async fn sweep_with(
        &self,
        config: &EncryptionConfiguration,
        options: &sweep::Options,
        stopped: watch::Receiver<bool>,
    ) -> Result<Report, rotation::Error> {
        let mut scope = self.scope(config)?;
        examine(scope.keyring.plugins()).await;
        if !options.dry_run {
            if self.rewrites_all {
                let has_plugins = !scope.keyring.plugins().is_empty();
                if has_plugins && let Some(text) = Roster::read(&self.client, &self.state).await?.renews_not() {
                    self.observer.notice(&text);
                }
                let ask = || sweep::begin_everything(&self.client, &self.state, has_plugins);
                scope.written_until = Some(*self.written_until.get_or_try_init(ask).await?);
            }
            scope.epoch = admitted(&self.client, &self.state, &scope.keyring).await?;
        }
        let observer = Arc::clone(&self.observer);
        Ok(sweep::sweep(&self.client, &scope, options, observer, stopped).await?)
    }
}

/// The epoch that a sweep with `keyring` may write in: read before it is asked whether a key of it was dropped.
async fn admitted(client: &Client, state: &StatePrefix, keyring: &Keyring) -> Result<Epoch, rotation::Error> {
    let epoch = epoch::read(client, state).await?;
    match barred(client, state, keyring).await? {
        None => Ok(epoch),
        // What this configuration was made for is over; the facts are looked at anew.
        Some(_) => Err(rotation::Error::Changed),
    }
}

impl Site for Etcd {
    type Store = Client;

    fn store(&self) -> &Client {
        &self.client
    }

    fn state(&self) -> &StatePrefix {
        &self.state
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn identity(&self) -> Result<Option<StoreId>, CallError> {
        let cluster = self.client.status().await?.cluster;
        StoreId::read(&self.client, &self.state, cluster).await
    }

    fn beside(&self) -> &[Self] {
        &self.beside
    }

    fn restarts(&self) -> bool {
        self.options.restart
    }

    fn prefixes(&self) -> Vec<String> {
        self.keyspace.prefixes().iter().map(ToString::to_string).collect()
    }

    fn paths(&self, config: &EncryptionConfiguration) -> Vec<String> {
        keyring::paths(config, &self.keyspace)
    }

    async fn sweep(
        &self,
        config: &EncryptionConfiguration,
        stop: watch::Receiver<bool>,
    ) -> Result<Report, rotation::Error> {
        self.sweep_with(config, &self.options, stop).await
    }

    async fn uncovered(
        &self,
        config: &EncryptionConfiguration,
        wanted: Wanted,
        stop: watch::Receiver<bool>,
    ) -> Result<Uncovered, rotation::Error> {
        let (scope, observer) = (self.scope(config)?, Arc::clone(&self.observer));
        Ok(sweep::uncovered(&self.client, &scope, wanted, &self.options, observer, stop).await?)
    }

    async fn unopenable(
        &self,
        config: &EncryptionConfiguration,
        spares: &[Spare],
        stop: watch::Receiver<bool>,
    ) -> Result<Unopenable, rotation::Error> {
        let (scope, observer) = (self.scope(config)?, Arc::clone(&self.observer));
        Ok(sweep::unopenable(&self.client, &scope, spares, &self.options, observer, stop).await?)
    }

    async fn compact(&self, revision: i64) -> Result<(), CallError> {
        self.client.compact(revision, true).await
    }
}
