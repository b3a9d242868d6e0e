//! The roots that a process has: those of its root file, and a KMS plugin. Read anew when the file has changed; a passphrase
//! is stretched once for each salt, on a thread where nobody waits behind it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::error::RootError;
use super::root::Root;
use super::root_file::{MAX_ROOT_FILE_BYTES, RootSecret, parse_root_file};
use super::root_id::RootId;
use super::stretch::Stretch;
use crate::files::{self, Permissions};
use crate::kms::Wrapper;
use crate::types::SecretBytes;

/// Salts whose roots are kept for each passphrase: a cluster has one, and records come from whoever can write to etcd.
const MAX_STRETCHED: usize = 4;

/// All roots.
#[derive(Debug)]
pub struct Roots {
    file: Option<RootFile>,
    kms: Option<Wrapper>,
}

#[derive(Debug)]
struct RootFile {
    path: PathBuf,
    permissions: Arc<Permissions>,
    held: ArcSwap<Vec<Held>>,
}

/// A root of the file.
#[derive(Clone, Debug)]
struct Held {
    line: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Key(Arc<Root>),
    Passphrase(Arc<Passphrase>),
}

/// A passphrase, and what it has become.
struct Passphrase {
    text: SecretBytes,
    /// The latest last. Held while one is being made, so that nobody makes it twice.
    stretched: Mutex<Vec<(Stretch, Arc<Root>)>>,
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(REDACTED)")
    }
}

/// A root that is at hand, for people and for whoever chooses one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRoot {
    /// Its name in records.
    pub id: RootId,
    /// Where it is from: `line 2 of /etc/root`, `the KMS plugin at unix:///run/kms.sock`.
    pub from: String,
}

/// What seals.
#[derive(Clone, Debug)]
pub(super) enum Means<'a> {
    /// A root of the file.
    Key(Arc<Root>),
    /// The plugin, with whichever key it has.
    Kms(&'a Wrapper),
}

impl Roots {
    /// The roots of a file, a plugin, or both: to move from one to the other, both are given until nothing is sealed under
    /// the first. Blocks.
    ///
    /// # Errors
    /// The file is not read, is open to others and those are refused, or holds no roots; or there is neither.
    pub fn load(file: Option<PathBuf>, permissions: Arc<Permissions>, kms: Option<Wrapper>) -> Result<Self, RootError> {
        let file = match file {
            Some(path) => Some(RootFile {
                held: ArcSwap::new(Arc::new(read(&path, &permissions, &[])?)),
                path,
                permissions,
            }),
            None => None,
        };
        if file.is_none() && kms.is_none() {
            return Err(RootError::None);
        }
        Ok(Self { file, kms })
    }

    /// Reads the file again, and takes what is in it in the place of what was. Says whether anything has changed. Blocks for
    /// no longer than reading takes: a passphrase that was there before keeps what it has become.
    ///
    /// # Errors
    /// As [`Self::load`]; then all stays as it was.
    pub fn reload(&self) -> Result<bool, RootError> {
        let Some(file) = &self.file else { return Ok(false) };
        let before = file.held.load();
        let now = read(&file.path, &file.permissions, &before)?;
        let is_same = |(a, b): (&Held, &Held)| a.line == b.line && a.kind.is(&b.kind);
        if now.len() == before.len() && now.iter().zip(before.iter()).all(is_same) {
            return Ok(false);
        }
        file.held.store(Arc::new(now));
        Ok(true)
    }

    /// Where the root file is, if there is one: to be followed.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// All that are at hand in a cluster with this salt. Asks the plugin for the ID of its key.
    pub(super) async fn known(&self, stretch: &Stretch) -> Result<Vec<KnownRoot>, RootError> {
        let mut known = Vec::new();
        if let Some(file) = &self.file {
            for held in file.held.load().iter() {
                known.push(KnownRoot {
                    id: held.kind.root(stretch).await?.id(),
                    from: match held.line {
                        0 => file.path.display().to_string(),
                        line => format!("line {line} of {}", file.path.display()),
                    },
                });
            }
        }
        if let Some(kms) = &self.kms {
            let key_id = kms.key_id().await?;
            known.push(KnownRoot {
                id: RootId::of_kms_key(&key_id).ok_or(RootError::Derive)?,
                from: format!("the KMS plugin at {}", kms.endpoint()),
            });
        }
        Ok(known)
    }

    /// What a new cluster's first record is sealed with: the plugin if there is one, else the file's first root.
    pub(super) async fn first(&self, stretch: &Stretch) -> Result<Means<'_>, RootError> {
        if let Some(kms) = &self.kms {
            return Ok(Means::Kms(kms));
        }
        let held = self.file.as_ref().map(|file| file.held.load_full());
        match held.as_ref().and_then(|held| held.first()) {
            Some(first) => Ok(Means::Key(first.kind.root(stretch).await?)),
            None => Err(RootError::None),
        }
    }

    /// The root of that name, if the file has it. Passphrases are tried last, since they cost.
    pub(super) async fn key(&self, id: RootId, stretch: &Stretch) -> Result<Option<Arc<Root>>, RootError> {
        let Some(file) = &self.file else { return Ok(None) };
        let held = file.held.load_full();
        let is_cheap = |held: &&Held| matches!(held.kind, Kind::Key(_));
        let (cheap, costly): (Vec<_>, Vec<_>) = held.iter().partition(is_cheap);
        for held in cheap.into_iter().chain(costly) {
            let root = held.kind.root(stretch).await?;
            if root.id() == id {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }

    /// The roots of the file in a cluster with this salt.
    pub(super) async fn of_file(&self, stretch: &Stretch) -> Result<Vec<RootId>, RootError> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let held = file.held.load_full();
        let mut ids = Vec::new();
        for held in held.iter() {
            ids.push(held.kind.root(stretch).await?.id());
        }
        Ok(ids)
    }

    /// The plugin.
    pub(super) fn kms(&self) -> Option<&Wrapper> {
        self.kms.as_ref()
    }
}

impl Kind {
    async fn root(&self, stretch: &Stretch) -> Result<Arc<Root>, RootError> {
        match self {
            Self::Key(root) => Ok(Arc::clone(root)),
            Self::Passphrase(passphrase) => passphrase.root(stretch).await,
        }
    }

    /// Whether it is the very same: what a file still holds is taken over when it is read again.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one.id() == other.id(),
            (Self::Passphrase(one), Self::Passphrase(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Passphrase {
    async fn root(&self, stretch: &Stretch) -> Result<Arc<Root>, RootError> {
        let mut stretched = self.stretched.lock().await;
        if let Some((_, root)) = stretched.iter().find(|(by, _)| by == stretch) {
            return Ok(Arc::clone(root));
        }
        let (by, text) = (stretch.clone(), self.text.clone());
        let made = spawn_blocking(move || by.root_of(text.expose())).await;
        let key = made.map_err(|_| RootError::Stopped)?.ok_or(RootError::Stretch)?;
        let root = Arc::new(Root::new(key).ok_or(RootError::Derive)?);
        if stretched.len() == MAX_STRETCHED {
            stretched.remove(0);
        }
        stretched.push((stretch.clone(), Arc::clone(&root)));
        Ok(root)
    }
}

/// The roots in a file; passphrases that `before` has as well are the same ones.
fn read(path: &Path, permissions: &Permissions, before: &[Held]) -> Result<Vec<Held>, RootError> {
    let contents = files::read(path, MAX_ROOT_FILE_BYTES)?;
    permissions.admit(contents.exposure).map_err(RootError::Exposed)?;
    let lines = parse_root_file(&contents.bytes).map_err(|source| RootError::File {
        path: path.to_owned(),
        source,
    })?;
    let lines = lines.into_iter().map(|root| {
        let kind = match root.secret {
            RootSecret::Key(key) => Kind::Key(Arc::new(Root::new(key).ok_or(RootError::Derive)?)),
            RootSecret::Passphrase(text) => Kind::Passphrase(passphrase(text, before)),
        };
        Ok(Held { line: root.line, kind })
    });
    lines.collect()
}

fn passphrase(text: SecretBytes, before: &[Held]) -> Arc<Passphrase> {
    let known = before.iter().find_map(|held| match &held.kind {
        Kind::Passphrase(known) if known.text == text => Some(Arc::clone(known)),
        _ => None,
    });
    known.unwrap_or_else(|| {
        Arc::new(Passphrase {
            text,
            stretched: Mutex::default(),
        })
    })
}
