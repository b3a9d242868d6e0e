//! Says beside the configuration's file which store this process serves with it, so that a rotation against another etcd does not
//! remove a key that is needed here: by a lock on the file, which needs no right to write, and by a mark that stays when no
//! process runs, where the folder takes one.

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Origin, Settings, host};
use crate::etcd::{CallError, Client};
use crate::files::{self, StoreNumber, Use};
use crate::members::{Serves, StoreId, StoreMark};
use crate::types::StatePrefix;

/// Between two looks at whether the file, the mark and the store are still the same.
const EVERY: Duration = Duration::from_secs(10);

/// Between two attempts to learn which store it is.
const RETRY: Duration = Duration::from_secs(1);

/// What a process has said, for its record among the members.
pub(super) type Said = Arc<Mutex<Option<Serves>>>;

/// Keeps lock and mark for as long as the process serves.
pub(super) struct Marking {
    /// None where there is no file to mark: the keyring in etcd serves that etcd alone.
    path: Option<PathBuf>,
    state: StatePrefix,
    text: StoreMark,
    said: Said,
    replaced: watch::Receiver<()>,
    leave: watch::Receiver<bool>,
    used: Option<Use>,
    store: Option<StoreId>,
    told: Option<String>,
}

impl Marking {
    /// Of the process called `name`; `replaced` when it has taken another configuration into use, until it is to `leave`.
    pub(super) fn new(
        settings: &Settings,
        name: &str,
        replaced: watch::Receiver<()>,
        leave: watch::Receiver<bool>,
    ) -> Self {
        let common = &settings.common;
        Self {
            path: match &common.origin {
                Origin::File(path) => Some(path.clone()),
                Origin::Managed(_) => None,
            },
            state: common.state_prefix.clone(),
            text: StoreMark {
                store: None,
                servers: common.members.iter().map(ToString::to_string).collect(),
                state_prefix: common.state_prefix.as_bytes().escape_ascii().to_string(),
                name: name.to_owned(),
                host: host(),
                pid: std::process::id(),
                since: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            },
            said: Said::default(),
            replaced,
            leave,
            used: None,
            store: None,
            told: None,
        }
    }

    /// What has been said so far.
    pub(super) fn said(&self) -> Said {
        Arc::clone(&self.said)
    }

    /// Says it for the first time; to be done before this process looks at the file anew and serves: who removes a key looks for
    /// users after it has changed the file. So one of the two sees the other. Where etcd does not answer yet, others are told
    /// that somebody uses the file, which holds up their rotations until it is known for what.
    pub(super) async fn first(&mut self, client: &Client) {
        let Some(path) = self.path.clone() else { return };
        self.used = Use::announce(&path, StoreNumber::UNKNOWN).ok();
        let mut leave = self.leave.clone();
        tokio::select! {
            said = self.say(client, &path) => note(said),
            _ = leave.wait_for(|leave| *leave) => {}
        }
    }

    /// Says it anew whenever that is needed.
    pub(super) async fn keep(mut self, client: &Client) -> Infallible {
        let Some(path) = self.path.clone() else {
            return pending().await;
        };
        loop {
            let pause = if self.store.is_some() { EVERY } else { RETRY };
            tokio::select! {
                () = sleep(pause) => {}
                Ok(()) = self.replaced.changed() => {}
            }
            note(self.say(client, &path).await);
        }
    }

    async fn say(&mut self, client: &Client, path: &Path) -> Result<(), CallError> {
        let cluster = client.status().await?.cluster;
        let Some(store) = StoreId::ensure(client, &self.state, cluster, self.store.as_ref()).await? else {
            return Ok(());
        };
        let number = store.number();
        let mut trouble = None;
        if !self.used.as_ref().is_some_and(|used| used.is_of(number)) {
            // The one before goes when this one is there.
            match Use::announce(path, number) {
                Ok(used) => self.used = Some(used),
                Err(error) => trouble = Some(error),
            }
        }
        let text = StoreMark {
            store: Some(store.clone()),
            ..self.text.clone()
        };
        let is_there = self.store.as_ref() == Some(&store) && has_mark(path, number);
        let marked = if is_there {
            Ok(())
        } else {
            files::leave_mark(path, number, &text.encode())
        };
        if let Err(error) = &marked {
            tracing::debug!(%error, "no mark beside the configuration's file");
        }
        let is_marked = trouble.is_none() || marked.is_ok();
        self.tell(trouble.filter(|_| !is_marked).map(|error| error.to_string()));
        self.store = Some(store.clone());
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(Serves { store, is_marked });
        Ok(())
    }

    fn tell(&mut self, trouble: Option<String>) {
        if let Some(error) = trouble.as_ref().filter(|_| self.told != trouble) {
            tracing::warn!(
                error,
                "others cannot see that the configuration's file is used for this etcd: its file system takes neither a lock nor \
                 a mark. If other etcd clusters are served with the same file, name this one to their `secrets-encrypt` with \
                 --also-etcd-servers"
            );
        }
        self.told = trouble;
    }
}

fn note(said: Result<(), CallError>) {
    if let Err(error) = said {
        tracing::debug!(%error, "which store this is cannot be learnt now");
    }
}

fn has_mark(path: &Path, number: StoreNumber) -> bool {
    files::marks(path).is_ok_and(|marks| marks.iter().any(|mark| mark.store == number))
}
