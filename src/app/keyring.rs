//! Runs the verbs that are about the keyring in etcd itself: another root, backup and restore, import and export, the archive.
//! Rotates no key and counts no value but before an import.

mod lossy;
mod needed;
mod report;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::place::{self, About};
use super::rotation::Etcd;
use super::store::must_be_etcd;
use super::strongbox::strongbox;
use super::user::user;
use super::{Common, Error, Origin, host, offline};
use crate::audit::{self, Audit};
use crate::config::{self, Options};
use crate::etcd::Client;
use crate::files::{self, NewFile, Permissions};
use crate::kms::Plugins;
use crate::managed::{self, Archived, Current, KnownRoot, MAX_BACKUP_BYTES, RootId, Strongbox};
use crate::members::Roster;
use crate::sweep::{self, Observer};
use crate::types::Fingerprint;

pub use report::{Document, Kept, KeyringError, KeyringReport};

/// How often records are sealed anew while others write them.
const ATTEMPTS: usize = 10;

/// How long etcd may be in trouble while values are counted.
const LOOK_WAIT: Duration = Duration::from_secs(30);

/// Asks the operator; whether they want it.
pub type Confirm = Arc<dyn Fn(&str) -> io::Result<bool> + Send + Sync>;

/// What a verb is told.
#[derive(Clone)]
pub struct KeyringSettings {
    /// The cluster, and the roots.
    pub common: Common,
    /// Where the audit log is written; `None`: nowhere.
    pub audit_log: Option<PathBuf>,
    /// Asked before something that cannot be taken back.
    pub confirm: Confirm,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum KeyringWork {
    /// To seal everything anew under a root.
    RotateRoot {
        /// Which; `None`: the last one at hand, which is the plugin's where there is one.
        to: Option<RootId>,
        /// Whether only to tell what would be done.
        is_dry_run: bool,
    },
    /// To write the configuration to this file, in the clear.
    Export(PathBuf),
    /// To remove documents from the archive.
    Purge {
        /// Which; `None`: all.
        documents: Option<Vec<Fingerprint>>,
        /// Whether only to tell which.
        is_dry_run: bool,
    },
    /// To write all records to this file, sealed.
    Backup(PathBuf),
    /// To put a backup back.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Whether over a keyring that it is no successor of.
        force: bool,
    },
    /// To make a configuration the keyring, where there is none.
    Import {
        /// The configuration.
        file: PathBuf,
        /// Whether though values do not open with it.
        force: bool,
    },
}

/// Does `work`, and blocks the calling thread meanwhile. The first SIGTERM or SIGINT lets what is under way end.
///
/// # Errors
/// It was refused, or ended before its end.
pub fn keyring(
    settings: &KeyringSettings,
    work: KeyringWork,
    observer: &Arc<dyn Observer>,
) -> Result<KeyringReport, KeyringError> {
    let (settings, told) = (settings.clone(), Arc::clone(observer));
    let common = settings.common.clone();
    let Origin::Managed(root) = common.origin.clone() else {
        return Err(KeyringError::Start(Error::Managed(managed::Error::Absent)));
    };
    let stopped = || KeyringError::Stopped;
    offline::run(&common, &|text| observer.notice(text), stopped, async move |hands| {
        let client = hands.on_etcd.client;
        let heard = Arc::clone(&told);
        let patience = place::patience(LOOK_WAIT, move |text| heard.notice(text));
        let looked = place::look(&client, &settings.common, About::Records, &patience).await;
        looked.map_err(Error::from)?;
        must_be_etcd(&client, "a keyring in the store").await?;
        let job = Job {
            strongbox: strongbox(&settings.common, &root, client.clone())?,
            client,
            plugins: hands.plugins,
            settings,
            observer: told,
            stop: hands.stopped,
        };
        job.run(work).await
    })
}

/// How long members are given to see a root that was put into their files: they look each second, and say so with their
/// next sign of life.
const ROOT_WAIT: Duration = Duration::from_secs(15);

/// Between two looks at their records.
const ROOT_POLL: Duration = Duration::from_millis(500);

struct Job {
    strongbox: Strongbox<Client>,
    client: Client,
    plugins: Arc<Plugins>,
    settings: KeyringSettings,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
}

impl Job {
    async fn run(self, work: KeyringWork) -> Result<KeyringReport, KeyringError> {
        match work {
            KeyringWork::RotateRoot { to, is_dry_run } => self.rotate_root(to, is_dry_run).await,
            KeyringWork::Export(file) => self.export(file).await,
            KeyringWork::Purge { documents, is_dry_run } => self.purge(documents, is_dry_run).await,
            KeyringWork::Backup(file) => self.backup(file).await,
            KeyringWork::Restore { file, force } => self.restore(file, force).await,
            KeyringWork::Import { file, force } => self.import(file, force).await,
        }
    }

    async fn current(&self) -> Result<Current, KeyringError> {
        Ok(self.strongbox.read().await?.ok_or(managed::Error::Absent)?)
    }

    async fn roster(&self) -> Result<Roster, KeyringError> {
        let roster = Roster::read(&self.client, &self.settings.common.state_prefix).await;
        Ok(roster.map_err(managed::Error::Call)?)
    }

    /// Members that start meanwhile and lack the root cannot open the keyring, so they do not serve.
    async fn rotate_root(&self, to: Option<RootId>, is_dry_run: bool) -> Result<KeyringReport, KeyringError> {
        let current = self.current().await?;
        let to = self.target(to, &current).await?;
        let wait = if is_dry_run { Duration::ZERO } else { ROOT_WAIT };
        let roster = self.all_have(to.id, wait).await?;
        let records = if is_dry_run {
            None
        } else {
            Some(self.reseal(to.id).await?)
        };
        Ok(KeyringReport::Rerooted {
            from: current.root,
            lacking: self.roster().await?.without_root(&to.id.to_string()),
            to,
            records,
            members: roster.len(),
        })
    }

    /// Everybody who is there, once all have the root; it may have been given to them just now.
    async fn all_have(&self, root: RootId, wait: Duration) -> Result<Roster, KeyringError> {
        let until = Instant::now() + wait;
        let mut is_told = false;
        loop {
            let roster = self.roster().await?;
            let Some(dissent) = roster.without_root(&root.to_string()) else {
                return Ok(roster);
            };
            if Instant::now() >= until {
                return Err(KeyringError::Members { root, dissent });
            }
            if !is_told {
                is_told = true;
                self.observer
                    .notice(&format!("waiting for members to see the root {root}: {dissent}"));
            }
            let mut stop = self.stop.clone();
            tokio::select! {
                () = sleep(ROOT_POLL) => {}
                Ok(_) = stop.wait_for(|stops| *stops) => return Err(KeyringError::Stopped),
            }
        }
    }

    async fn target(&self, to: Option<RootId>, current: &Current) -> Result<KnownRoot, KeyringError> {
        let known = self.strongbox.known_roots(current).await?;
        let found = match to {
            Some(id) => known.iter().find(|root| root.id == id),
            None => known.last(),
        };
        Ok(found.cloned().ok_or(managed::Error::UnknownRoot {
            wanted: to.unwrap_or(current.root),
            known,
        })?)
    }

    /// A rotation may replace the keyring meanwhile; then it is done again, for what is left.
    async fn reseal(&self, to: RootId) -> Result<usize, KeyringError> {
        let mut attempts = 1;
        loop {
            match self.strongbox.reseal(to).await {
                Ok(resealed) => return Ok(resealed.records),
                Err(managed::Error::Changed) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Told of in etcd and in the audit log before the first byte of a key is written.
    async fn export(mut self, path: PathBuf) -> Result<KeyringReport, KeyringError> {
        let current = self.current().await?;
        self.confirmed(format!(
            "Write all keys of the keyring (generation {}) to {}, in the clear?",
            current.generation,
            path.display()
        ))
        .await?;
        let file = NewFile::create(&path)?;
        let (host, user) = (host(), user());
        let shown = path.display();
        self.audited(|audit| {
            audit.keyring_exported(&shown, &current.fingerprint, current.generation, (&host, &user));
        })?;
        self.strongbox.note_export(&current, &user).await?;
        file.fill(current.document.expose())?;
        Ok(KeyringReport::Exported(Kept::of(&current)))
    }

    async fn purge(
        mut self,
        wanted: Option<Vec<Fingerprint>>,
        is_dry_run: bool,
    ) -> Result<KeyringReport, KeyringError> {
        let archived = self.strongbox.archived().await?;
        let current = self.strongbox.read().await?;
        let in_use = current.as_ref().map(|current| current.fingerprint);
        let strange = archived.iter().filter(|entry| entry.fingerprint.is_none()).count();
        let documents = chosen(&archived, wanted.as_deref(), in_use)?;
        if !is_dry_run && !documents.is_empty() {
            let document = current.as_ref().map(|current| &current.document);
            self.refuse_needed(&archived, document, &documents).await?;
            let shown: Vec<_> = documents.iter().map(ToString::to_string).collect();
            let mut question = shown.join("\n");
            question.push_str(
                "\nRemove these from the archive for good? Snapshots of etcd from their time can then not be read, unless a \
                 backup of the keyring or the keys themselves are kept elsewhere.",
            );
            self.confirmed(question).await?;
            let fingerprints: Vec<_> = documents.iter().map(|document| document.fingerprint).collect();
            let (host, user) = (host(), user());
            self.audited(|audit| audit.archive_purged(fingerprints.iter(), (&host, &user)))?;
            self.strongbox.purge(&fingerprints).await?;
        }
        Ok(KeyringReport::Purged {
            documents,
            is_dry_run,
            strange,
        })
    }

    async fn backup(&self, path: PathBuf) -> Result<KeyringReport, KeyringError> {
        let file = NewFile::create(&path)?;
        // One that does not open is none, and that is better known now.
        let current = self.current().await?;
        let archived = self.strongbox.archived().await?;
        file.fill(&self.strongbox.backup().await?)?;
        Ok(KeyringReport::BackedUp {
            keyring: Kept::of(&current),
            root: current.root,
            archived: archived.len(),
            unopened: archived.into_iter().filter_map(|entry| entry.document.err()).collect(),
        })
    }

    /// What is stored is looked at before: a keyring that opens less of it than the one that stands would be a loss, though
    /// nothing was deleted.
    async fn restore(&self, path: PathBuf, force: bool) -> Result<KeyringReport, KeyringError> {
        let backup = files::read(&path, MAX_BACKUP_BYTES)?;
        if !force {
            self.refuse_lossy(&backup.bytes).await?;
        }
        let restored = self.strongbox.restore(&backup.bytes, force).await?;
        Ok(KeyringReport::Restored {
            keyring: Kept::of(&restored.current),
            archived: restored.archived,
            left_out: restored.left_out,
        })
    }

    /// The document is taken over byte by byte: members that still have it from its file and those that have it from etcd
    /// agree.
    async fn import(&self, path: PathBuf, force: bool) -> Result<KeyringReport, KeyringError> {
        let file = files::read(&path, config::MAX_DOCUMENT_BYTES)?;
        let permissions = Permissions::new(self.settings.common.strict_permissions);
        permissions.admit(file.exposure).map_err(KeyringError::Exposed)?;
        let wanted = Fingerprint::of(&file.bytes);
        let before = self.strongbox.read().await?;
        let opened = match &before {
            Some(current) if current.fingerprint != wanted => return Err(stands(current)),
            Some(_) => 0,
            None => self.look(&path, &file.bytes, force).await?,
        };
        let current = self.strongbox.create(&file.bytes).await?;
        if current.fingerprint != wanted {
            return Err(stands(&current));
        }
        Ok(KeyringReport::Imported {
            keyring: Kept::of(&current),
            root: current.root,
            was_there: before.is_some(),
            opened,
        })
    }

    /// Whether the values that are stored open with a configuration: how many were looked at.
    async fn look(&self, path: &Path, document: &[u8], force: bool) -> Result<u64, KeyringError> {
        let parsed = config::parse(document, Options { reload: true });
        let config = parsed.map_err(|problems| {
            let path = path.to_owned();
            KeyringError::Start(Error::Config { path, problems })
        })?;
        if force {
            return Ok(0);
        }
        let counts = self.site()?.look(&config, self.stop.clone()).await?.counts;
        match counts.undecryptable {
            0 => Ok(counts.scanned),
            values => Err(KeyringError::NotOpened { values }),
        }
    }

    /// etcd, for looking at values.
    fn site(&self) -> Result<Etcd, Error> {
        let options = sweep::Options {
            limits: sweep::Limits::default(),
            max_wait: LOOK_WAIT,
            restart: false,
            dry_run: true,
        };
        let (client, plugins) = (self.client.clone(), Arc::clone(&self.plugins));
        Etcd::new(
            client,
            &self.settings.common,
            plugins,
            options,
            Arc::clone(&self.observer),
        )
    }

    /// Writes an event, where there is an audit log, and waits until it is written.
    fn audited(&self, tell: impl FnOnce(&Audit)) -> Result<(), KeyringError> {
        let Some(path) = &self.settings.audit_log else {
            return Ok(());
        };
        let (audit, log) = audit::open(path)?;
        tell(&audit);
        if log.finish() {
            Ok(())
        } else {
            Err(KeyringError::Unaudited)
        }
    }

    async fn confirmed(&mut self, question: String) -> Result<(), KeyringError> {
        let confirm = Arc::clone(&self.settings.confirm);
        // Whoever reads a terminal cannot be woken: the process ends beside it.
        let asking = spawn_blocking(move || confirm(&question));
        let answer = tokio::select! {
            answer = asking => answer.map_err(|_| KeyringError::Stopped)?,
            _ = self.stop.wait_for(|stop| *stop) => return Err(KeyringError::Stopped),
        };
        if answer.map_err(KeyringError::Unanswered)? {
            Ok(())
        } else {
            Err(KeyringError::Declined)
        }
    }
}

fn stands(current: &Current) -> KeyringError {
    KeyringError::Stands {
        generation: current.generation,
        fingerprint: current.fingerprint,
    }
}

/// The documents of the archive that are wanted, each of which has to be there.
fn chosen(
    archived: &[Archived],
    wanted: Option<&[Fingerprint]>,
    in_use: Option<Fingerprint>,
) -> Result<Vec<Document>, KeyringError> {
    let is_archived = |wanted: &&Fingerprint| archived.iter().any(|entry| entry.fingerprint == Some(**wanted));
    let missing: Vec<_> = wanted
        .into_iter()
        .flatten()
        .filter(|wanted| !is_archived(wanted))
        .copied()
        .collect();
    if !missing.is_empty() {
        return Err(KeyringError::NotArchived(missing));
    }
    let documents = archived.iter().filter_map(|entry| {
        let fingerprint = entry.fingerprint?;
        let is_wanted = wanted.is_none_or(|wanted| wanted.contains(&fingerprint));
        is_wanted.then(|| Document {
            fingerprint,
            about: entry.about.clone(),
            opens: entry.document.is_ok(),
            is_in_use: in_use == Some(fingerprint),
        })
    });
    Ok(documents.collect())
}
