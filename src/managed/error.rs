//! Why a root or a record is not to be had. No variant holds a byte of a root or of a document, nor words of a record that
//! were not made fit to be shown.

use std::path::PathBuf;

use thiserror::Error;

use super::generated::SealedValue;
use super::root_file::RootFileError;
use super::root_id::RootId;
use super::roots::KnownRoot;
use super::time::Time;
use crate::config;
use crate::etcd::CallError;
use crate::files::{self, Exposure};
use crate::kms::WrapError;
use crate::types::Fingerprint;

/// Why roots are not to be had, or do not seal.
#[derive(Debug, Error)]
pub enum RootError {
    /// There is neither a root file nor a plugin.
    #[error("no root: give --keyring-root-file or --keyring-root-kms")]
    None,
    /// The root file is not read.
    #[error("the root file")]
    Read(#[from] files::Error),
    /// Others can read the root file.
    #[error("--strict-permissions: {0}")]
    Exposed(Exposure),
    /// The root file holds something else.
    #[error("the root file {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RootFileError,
    },
    /// Argon2id did not run.
    #[error("a passphrase of the root file cannot be used: Argon2id did not get the memory that it needs (64 MiB)")]
    Stretch,
    /// The process is ending.
    #[error("the process is ending")]
    Stopped,
    /// The plugin did not wrap or unwrap.
    #[error(transparent)]
    Kms(#[from] WrapError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The cryptographic library failed where it cannot.
    #[error("the cryptographic library failed")]
    Derive,
}

/// Why a record's document does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Roots are not to be had.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The root that it is sealed under is not in the root file.
    #[error(
        "it is sealed under the root {wants}, and {}; give --keyring-root-file the file that has that root",
        listed(.has)
    )]
    NoRoot {
        /// Which root it is sealed under.
        wants: RootId,
        /// Those of the root file.
        has: Vec<RootId>,
    },
    /// It is sealed under a plugin's key.
    #[error("it is sealed under a key of a KMS (root {0}); give --keyring-root-kms the plugin that has that key")]
    NoKms(RootId),
    /// It is not as it was sealed, or not where it was put.
    #[error(
        "it does not open under the root {0} that it names: it was changed, or belongs to another key or cluster; restore a \
         backup of the keyring"
    )]
    Altered(RootId),
}

fn listed(ids: &[RootId]) -> String {
    match ids {
        [] => "there is no root file".to_owned(),
        ids => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            format!("the root file has {}", ids.join(", "))
        }
    }
}

impl OpenError {
    /// Whether it says something of the record, and not of what opening it needs.
    fn is_of_record(&self) -> bool {
        !matches!(self, Self::Root(_))
    }
}

/// Why the keyring in etcd was not read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// etcd gave no usable answer. Whether a write happened is not known; it is recognised when it is made again.
    #[error("etcd: {0}")]
    Call(CallError),
    /// Roots are not to be had.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A record is not what this version writes.
    #[error("the record {name} in etcd is refused: {field}: {why}")]
    Record {
        /// Its key below the state prefix.
        name: String,
        /// What of it is refused.
        field: String,
        /// Why.
        why: String,
    },
    /// A record does not open.
    #[error("the record {name} in etcd")]
    Open {
        /// Its key below the state prefix.
        name: String,
        /// Why.
        source: OpenError,
    },
    /// What is to be sealed is no configuration.
    #[error("the configuration is refused:\n{0}")]
    Invalid(config::Error),
    /// etcd would not take the record.
    #[error("the keyring's record would have {bytes} bytes, and etcd takes {limit}; remove keys that nothing needs")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// As long as one may be.
        limit: usize,
    },
    /// Somebody else has replaced the keyring meanwhile, or removed it.
    #[error("the keyring in etcd was changed by somebody else")]
    Changed,
    /// There is no keyring.
    #[error("there is no keyring in etcd")]
    Absent,
    /// The root that is asked for is none of those at hand.
    #[error("there is no root {wanted}; at hand are {}", offered(.known))]
    UnknownRoot {
        /// What was asked for.
        wanted: RootId,
        /// What there is.
        known: Vec<KnownRoot>,
    },
    /// More is archived than is ever read.
    #[error("the archive has {entries} records or more, of {bytes} bytes: purge those that no snapshot needs any more")]
    ArchiveTooLarge {
        /// Records that were read.
        entries: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// A backup is not what this version writes, or of something else.
    #[error("the backup is refused: {why}")]
    Backup {
        /// Why.
        why: String,
    },
    /// A keyring stands where a backup was to be restored.
    #[error("{0}")]
    Standing(Box<StandingKeyring>),
    /// A keyring is to be generated over values that another one has sealed.
    #[error(
        "etcd has no keyring and holds values that are sealed ({0}): the keyring was lost. Restore a backup of it, or import the \
         configuration that the values were sealed with; a new keyring would leave them unreadable"
    )]
    Lost(SealedValue),
    /// The keyring that was there is not there any more.
    #[error(
        "the keyring of generation {seen} is gone from etcd: was etcd restored from a snapshot, or set up anew? Restore the latest \
         backup of the keyring (`keyring restore`)"
    )]
    Gone {
        /// The generation that this process has seen.
        seen: u64,
    },
    /// The keyring is older than one that was there.
    #[error(
        "the keyring in etcd is of generation {found}, and this process has seen generation {seen}: was etcd restored from a \
         snapshot? Restore the latest backup of the keyring (`keyring restore`), or restart this member to go on with the older one"
    )]
    WentBack {
        /// The generation that this process has seen.
        seen: u64,
        /// The generation that is there.
        found: u64,
    },
    /// The keyring is another one of the same generation.
    #[error(
        "the keyring in etcd is another one of the same generation {generation} ({found}, and this process has seen {seen}): was \
         etcd restored from a snapshot? Restore the latest backup of the keyring (`keyring restore`), or restart this member to go \
         on with the one that is there"
    )]
    Forked {
        /// Whose generation.
        generation: u64,
        /// What this process has seen.
        seen: Fingerprint,
        /// What is there.
        found: Fingerprint,
    },
}

// Not as its source: what it says is told already.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

fn offered(known: &[KnownRoot]) -> String {
    let known: Vec<_> = known
        .iter()
        .map(|root| format!("{} ({})", root.id, root.from))
        .collect();
    known.join(", ")
}

/// Two keyrings, each with its generation and the time of its cluster's first one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "etcd has a keyring of generation {} (of a cluster that began at {}), and the backup's is of generation {} (at {}): it is not \
     a later one of the same cluster. What was sealed with a key that only the one in etcd has would not be read any more; if that is \
     wanted, force it, and the one in etcd is archived",
    .standing.0, .standing.1, .backup.0, .backup.1
)]
pub struct StandingKeyring {
    /// What stands.
    pub standing: (u64, Time),
    /// What was to be restored.
    pub backup: (u64, Time),
}

impl Error {
    /// Whether the same may work later, with nothing changed: etcd or a plugin is away.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call(error) => error.trouble().is_passing(),
            Self::Root(RootError::Kms(error))
            | Self::Open {
                source: OpenError::Root(RootError::Kms(error)),
                ..
            } => error.is_transient(),
            _ => false,
        }
    }

    /// Whether the keyring that this process has is not the one in etcd, nor an earlier one of it: who writes with it then
    /// writes what nobody else can open, nor this process after its end. A keyring under a root that is not at hand
    /// here is there for others.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Absent | Self::Gone { .. } | Self::WentBack { .. } | Self::Forked { .. } | Self::Record { .. } => {
                true
            }
            Self::Open { source, .. } => matches!(source, OpenError::Altered(_)),
            _ => false,
        }
    }

    /// Whether it says that a record does not open here, and not that it could not be tried.
    pub(super) fn is_of_record(&self) -> bool {
        match self {
            Self::Record { .. } => true,
            Self::Open { source, .. } => source.is_of_record(),
            _ => false,
        }
    }
}
