//! The verbs of `secrets-encrypt` that are about the keyring in etcd itself: `rotate-root`, `export`, `purge`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};

use crate::app::{KeyringSettings, KeyringWork};
use crate::cli::USAGE;
use crate::cli::confirm::{YesFlags, never};
use crate::cli::keyring::{SharedFlags, carry_out};
use crate::managed::RootId;
use crate::types::Fingerprint;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Verb {
    /// Seal the keyring in etcd anew under another root, once every member has that
    RotateRoot(Box<RotateRootFlags>),
    /// Write the keyring in etcd to a new file as an EncryptionConfiguration, IN THE CLEAR: to hand it back to kube-apiserver
    Export(Box<ExportFlags>),
    /// Remove documents from the keyring's archive for good: snapshots from their time cannot be read any more
    Purge(Box<PurgeFlags>),
}

/// Flags of `rotate-root`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateRootFlags {
    #[command(flatten)]
    shared: SharedFlags,
    /// The root to seal under, one of those at hand; by default the last line's of --keyring-root-file, or the plugin's key
    /// where --keyring-root-kms is given beside it. `status` lists them
    #[arg(long, value_name = "ID", value_parser = root_id, help_heading = "Rotation")]
    to_root: Option<RootId>,
    /// Tell what would be done, and do nothing
    #[arg(long, help_heading = "Rotation")]
    dry_run: bool,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportFlags {
    /// The file, which must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    yes: YesFlags,
    #[command(flatten)]
    audit: AuditFlags,
}

/// Flags of `purge`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("documents").args(["fingerprints", "all"]).required(true)))]
pub(in crate::cli) struct PurgeFlags {
    /// The documents, as `purge --all --dry-run` lists them
    #[arg(value_name = "FINGERPRINT", value_parser = fingerprint)]
    fingerprints: Vec<Fingerprint>,
    /// All that the archive has
    #[arg(long, help_heading = "Operation")]
    all: bool,
    /// Tell which would be removed, and remove none
    #[arg(long, help_heading = "Operation")]
    dry_run: bool,
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    yes: YesFlags,
    #[command(flatten)]
    audit: AuditFlags,
}

/// The flag of verbs that are accounted for.
#[derive(Debug, Args)]
struct AuditFlags {
    /// Write the event to this audit log, as serve's flag of this name; `-` is standard output
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_AUDIT_LOG_PATH",
        value_name = "FILE",
        help_heading = "Operation"
    )]
    audit_log_path: Option<PathBuf>,
}

/// Carries out `verb`.
pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let (shared, work, asks) = match verb {
        Verb::RotateRoot(flags) => {
            let (to, is_dry_run) = (flags.to_root, flags.dry_run);
            (flags.shared, KeyringWork::RotateRoot { to, is_dry_run }, None)
        }
        Verb::Export(flags) => {
            let asks = (flags.yes, flags.audit.audit_log_path);
            (flags.shared, KeyringWork::Export(flags.file), Some(asks))
        }
        Verb::Purge(flags) => {
            let documents = (!flags.all).then_some(flags.fingerprints);
            let is_dry_run = flags.dry_run;
            let asks = (!is_dry_run).then_some((flags.yes, flags.audit.audit_log_path));
            (flags.shared, KeyringWork::Purge { documents, is_dry_run }, asks)
        }
    };
    shared.log.init()?;
    let (confirm, audit_log) = match asks {
        None => (Some(never()), None),
        Some((yes, audit_log)) => (yes.confirm(), audit_log),
    };
    let Some(confirm) = confirm else {
        let why = "this cannot be taken back, and standard input is no terminal to ask on: give --yes";
        crate::cli::report(&anyhow::anyhow!(why));
        return Ok(ExitCode::from(USAGE));
    };
    let settings = KeyringSettings {
        common: shared.common.settings(),
        audit_log,
        confirm,
    };
    carry_out(&settings, work)
}

fn root_id(text: &str) -> Result<RootId, String> {
    RootId::parse(text).ok_or_else(|| "a root's ID is 16 hexadecimal digits".to_owned())
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    Fingerprint::parse(text).ok_or_else(|| "expected sha256: and 64 hexadecimal digits".to_owned())
}
