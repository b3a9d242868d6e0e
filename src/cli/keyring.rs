//! `keyring`: backup, restore and import of the keyring in etcd; and what `secrets-encrypt` has in common with it: how such
//! work is run, its words, its exit codes.

mod output;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::common::ManagedFlags;
use super::confirm::never;
use super::log::LogFlags;
use super::output::print;
use super::sweep::progress::display;
use super::{MISPLACED, is_misplaced};
use crate::app::{KeyringError, KeyringSettings, KeyringWork, keyring};
use crate::managed;
use crate::sweep::Observer;

/// Exit codes beside 0, 1 and 2: those of `secrets-encrypt`.
const MEMBERS: u8 = 4;
const UNFINISHED: u8 = 6;
const NOT_OPENED: u8 = 7;
const STANDS: u8 = 8;

/// What stands below the verbs in `--help`.
pub(super) const AFTER_HELP: &str = "\
A backup holds the records as they lie in etcd, sealed: without the root that they are sealed under it opens nothing. Keep \
the root elsewhere, and keep it: whoever loses it loses every encrypted value.

Exit codes: 0 if it is done; 1 if it could not start, or failed; 2 for wrong usage; 6 if it ended before its end and goes on \
when run again; 7 if stored values do not open with what is to be imported; 8 if another keyring stands in its way; 9 if it is aimed at \
something else: a proxy in etcd's place, or a --state-prefix that the proxies of these keys do not have.";

/// The verbs below `keyring`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Write the keyring and its archive, sealed as they lie in etcd, to a new file
    Backup(Box<BackupFlags>),
    /// Put a backup back: where there is no keyring, or an earlier one of the same cluster
    Restore(Box<RestoreFlags>),
    /// Make an EncryptionConfiguration the keyring where there is none: how a cluster moves from a file to a keyring in etcd
    Import(Box<ImportFlags>),
}

/// Flags of every verb about the keyring in etcd.
#[derive(Debug, Args)]
pub(super) struct SharedFlags {
    #[command(flatten)]
    pub(super) common: ManagedFlags,
    #[command(flatten)]
    pub(super) log: LogFlags,
}

/// Flags of `backup`.
#[derive(Debug, Args)]
pub(super) struct BackupFlags {
    /// The file, which must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shared: SharedFlags,
}

/// Flags of `restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreFlags {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put it in the place of whatever keyring stands, which goes into the archive; and leave out what of the backup does not
    /// open
    #[arg(short, long, help_heading = "Operation")]
    force: bool,
    #[command(flatten)]
    shared: SharedFlags,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// The EncryptionConfiguration that what is stored was encrypted with
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Import it without looking whether what is stored opens with it
    #[arg(short, long, help_heading = "Operation")]
    force: bool,
    #[command(flatten)]
    shared: SharedFlags,
}

/// Carries out `verb`.
pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let (shared, work) = match verb {
        Verb::Backup(flags) => (flags.shared, KeyringWork::Backup(flags.file)),
        Verb::Restore(flags) => {
            let (file, force) = (flags.file, flags.force);
            (flags.shared, KeyringWork::Restore { file, force })
        }
        Verb::Import(flags) => {
            let (file, force) = (flags.file, flags.force);
            (flags.shared, KeyringWork::Import { file, force })
        }
    };
    shared.log.init()?;
    let settings = KeyringSettings {
        common: shared.common.settings(),
        audit_log: None,
        confirm: never(),
    };
    carry_out(&settings, work)
}

/// Does it, prints what came of it, and says how the process ends.
pub(super) fn carry_out(settings: &KeyringSettings, work: KeyringWork) -> anyhow::Result<ExitCode> {
    let display = display();
    let observer: Arc<dyn Observer> = display.clone();
    let outcome = keyring(settings, work, &observer);
    display.finish();
    match outcome {
        Ok(report) => {
            print(&output::text(&report))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let code = code_of(&error);
            super::report(&anyhow::Error::from(error));
            Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
        }
    }
}

fn code_of(error: &KeyringError) -> Option<u8> {
    match error {
        KeyringError::Start(start) if is_misplaced(start) => Some(MISPLACED),
        KeyringError::Members { .. } => Some(MEMBERS),
        KeyringError::Stopped | KeyringError::Managed(managed::Error::Changed) => Some(UNFINISHED),
        KeyringError::NotOpened { .. } | KeyringError::Lossy { .. } | KeyringError::Needed(_) => Some(NOT_OPENED),
        KeyringError::Stands { .. } | KeyringError::Managed(managed::Error::Standing(_)) => Some(STANDS),
        _ => None,
    }
}
