//! What came of a verb on the keyring in etcd, as data, and why nothing did. Holds no document.

use std::{fmt, io};

use thiserror::Error;

use crate::app::Error;
use crate::managed::{self, ArchivedAbout, KnownRoot, RootId, Time};
use crate::members::Dissent;
use crate::types::Fingerprint;
use crate::{audit, files, rotation};

/// What came of it.
#[derive(Debug)]
pub enum KeyringReport {
    /// The keyring and its archive are under a root, or would be.
    Rerooted {
        /// The root that the keyring was under.
        from: RootId,
        /// The root that it is under now.
        to: KnownRoot,
        /// Records that were sealed anew; `None` if nothing was to be done yet.
        records: Option<usize>,
        /// How many members said that they have it.
        members: usize,
        /// Who came meanwhile and has not said so.
        lacking: Option<Dissent>,
    },
    /// The configuration is in the file.
    Exported(Kept),
    /// Documents are gone from the archive, or would be.
    Purged {
        /// Which.
        documents: Vec<Document>,
        /// Whether they are only to be told.
        is_dry_run: bool,
        /// How many records of the archive are none of its own, and stay.
        strange: usize,
    },
    /// A backup is in the file.
    BackedUp {
        /// The keyring in it.
        keyring: Kept,
        /// What opens it.
        root: RootId,
        /// Documents of the archive that are in it.
        archived: usize,
        /// Why some of them do not open.
        unopened: Vec<managed::Error>,
    },
    /// A backup was put back.
    Restored {
        /// The keyring that is there now.
        keyring: Kept,
        /// Records of the archive that were written.
        archived: usize,
        /// Records of the backup that do not open and were left out.
        left_out: Vec<managed::Error>,
    },
    /// A configuration has become the keyring.
    Imported {
        /// The keyring that is there now.
        keyring: Kept,
        /// What it is sealed under.
        root: RootId,
        /// Whether it was there before, the very same.
        was_there: bool,
        /// Values that were found to open with it.
        opened: u64,
    },
}

/// A keyring by name.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Goes up with each replacement.
    pub generation: u64,
    /// SHA-256 of the configuration.
    pub fingerprint: Fingerprint,
    /// When it was written.
    pub updated: Time,
}

impl Kept {
    pub(super) fn of(current: &managed::Current) -> Self {
        Self {
            generation: current.generation,
            fingerprint: current.fingerprint,
            updated: current.updated,
        }
    }
}

/// A document of the archive.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its SHA-256.
    pub fingerprint: Fingerprint,
    /// What is said of it, if its record can be read.
    pub about: Option<ArchivedAbout>,
    /// Whether it opens with the roots at hand.
    pub opens: bool,
    /// Whether the keyring is this very document, so that no key is lost with it.
    pub is_in_use: bool,
}

/// Why nothing came of it, or not all.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] Error),
    /// The keyring in etcd is not to be had, or not to be written.
    #[error(transparent)]
    Managed(#[from] managed::Error),
    /// Members lack the root.
    #[error(
        "not every member has the root {root}: {dissent}. Nothing was sealed anew. Give them the root file that has it (they look at it every \
         second, and their records follow within some more), or stop them, and run this again"
    )]
    Members {
        /// The root that they should have.
        root: RootId,
        /// Who lacks it.
        dissent: Dissent,
    },
    /// The archive has no such documents.
    #[error("the archive has no {}. Nothing was removed; `purge --all --dry-run` lists what it has", listed(.0))]
    NotArchived(Vec<Fingerprint>),
    /// Another keyring is there.
    #[error(
        "etcd has a keyring already, of generation {generation} ({fingerprint}); a configuration is imported only where there is \
         none. Nothing was changed"
    )]
    Stands {
        /// Its generation.
        generation: u64,
        /// SHA-256 of its document.
        fingerprint: Fingerprint,
    },
    /// Values would not open.
    #[error(
        "{values} stored values do not open with this configuration, so it is not imported: is it the one that they were encrypted with, \
         and its KMS plugins well? `sweep --dry-run --encryption-provider-config=FILE` names them. --force imports it all the same"
    )]
    NotOpened {
        /// How many.
        values: u64,
    },
    /// A backup would be a loss.
    #[error(
        "{then} stored values would not open with the keyring of this backup and the archives, and {now} do not open now: it was \
         made before keys came that they need. `secrets-encrypt status --count` names those that do not open now; restore a later \
         backup. --force puts this one back all the same"
    )]
    Lossy {
        /// How many would not open.
        then: u64,
        /// How many do not open as it is.
        now: u64,
    },
    /// The archive alone has a key that values need.
    #[error(
        "{0}: the archive alone still has a key that these name, so nothing was removed. List it behind the key that writes, under a \
         rule for them, and run `reencrypt --force --skip`; or delete them. Then run this again"
    )]
    Needed(String),
    /// A file was not written.
    #[error(transparent)]
    Write(#[from] files::NewFileError),
    /// A file was not read.
    #[error(transparent)]
    Read(#[from] files::Error),
    /// Others can read the configuration.
    #[error("--strict-permissions: {0}")]
    Exposed(files::Exposure),
    /// The audit log cannot be opened.
    #[error("--audit-log-path")]
    Audit(#[from] audit::Error),
    /// The audit log did not take the event.
    #[error("--audit-log-path: the event was not written, so nothing was done")]
    Unaudited,
    /// Values could not be counted.
    #[error(transparent)]
    Look(#[from] rotation::Error),
    /// The operator does not want it.
    #[error("nothing was done")]
    Declined,
    /// The operator was not to be asked.
    #[error("no answer could be read; --yes goes on without asking")]
    Unanswered(#[source] io::Error),
    /// It was told to stop.
    #[error("stopped. Run this again to go on")]
    Stopped,
}

fn listed(fingerprints: &[Fingerprint]) -> String {
    let all: Vec<_> = fingerprints.iter().map(ToString::to_string).collect();
    all.join(", ")
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fingerprint)?;
        if let Some(about) = &self.about {
            write!(f, ", generation {}, retired {}", about.generation, about.retired)?;
        }
        if !self.opens {
            f.write_str(", does not open with the roots given")?;
        }
        if self.is_in_use {
            f.write_str(", in use now: its keys stay in the keyring")?;
        }
        Ok(())
    }
}
