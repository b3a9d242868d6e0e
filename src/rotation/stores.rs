//! One configuration, several stores: kube-apiserver's `--etcd-servers-overrides` has an etcd of its own for events, and both are
//! served with one file. A key of the file may go only when no store needs it, so a command has to be told of all of them, and
//! is refused while the file says that there is one more.

use std::fmt;
use std::path::PathBuf;

use super::record::Record;
use crate::config::KeyId;
use crate::files::StoreNumber;
use crate::members::{StoreId, StoreMark};

/// Another store that the command was told of.
#[derive(Clone, Debug)]
pub struct Beside {
    /// What operators call it.
    pub name: String,
    /// Which it is; `None` where no process of a version that says so has ever served it.
    pub store: Option<StoreId>,
    /// What it keeps of rotations of its own, and which keys its processes are told are going.
    pub record: Record,
    /// The revision at which that was last written; 0 where there is none.
    pub revision: i64,
    /// The revision of that store at which one of its members' records was last written.
    pub changed: i64,
}

/// A store that the configuration is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The store, as the configuration's file tells it.
    pub store: StoreNumber,
    /// Whether a process that runs now uses it.
    pub is_running: bool,
    /// The mark beside the file, where it lies, and what it says; `None` where there is but a lock.
    pub mark: Option<(PathBuf, StoreMark)>,
}

impl Beside {
    /// Whether a rotation of its own is under way.
    pub fn is_rotating(&self) -> bool {
        self.record.underway.is_some() || !self.record.stage.is_rest()
    }

    /// A revision at which it has been noted there that `keys` are going; `None` where it is not. It may have been noted earlier:
    /// a sweep of the time between is repeated, which does no harm.
    pub(super) fn noted(&self, keys: &[KeyId]) -> Option<i64> {
        let is_noted = keys.iter().all(|key| self.record.dropped.contains(key));
        is_noted.then_some(self.revision)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.store.hex();
        match &self.mark {
            None => write!(
                f,
                "store {number}, by a process on this machine (find its --etcd-servers: it could leave no mark that says so)"
            ),
            Some((_, mark)) => write!(f, "store {number}, {mark}"),
        }?;
        f.write_str(if self.is_running {
            "; a process that runs uses it"
        } else {
            "; no process that runs on this machine uses it"
        })
    }
}

/// What to do about a store that the command was not told of.
pub(super) fn way_on(user: &User) -> String {
    let named = match &user.mark {
        Some((_, mark)) if !mark.servers.is_empty() => mark.servers(),
        _ => "URL,…".to_owned(),
    };
    let gone = match &user.mark {
        Some((path, _)) => format!(
            ", or, if nothing of what it stores is needed any more, stop its proxies and remove {}",
            path.display()
        ),
        None => String::new(),
    };
    let same = match &user.mark {
        Some((_, mark)) if !mark.state_prefix.is_empty() => {
            format!("; with --state-prefix={}, if it is this very etcd", mark.state_prefix())
        }
        _ => String::new(),
    };
    format!(
        "Run this with --also-etcd-servers={named} (one for each other etcd){same}; give the proxies of that store a file of their \
         own{gone}"
    )
}
