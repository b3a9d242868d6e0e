//! `snapshot inspect`: its flags, its report on standard output, its exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::common::{ClusterFlags, PlaceFlags, RootFlags, common};
use super::log::LogFlags;
use super::output::OutputFlags;
use super::switch::SWITCH;
use crate::app::{Origin, SnapshotSettings, inspect_snapshot};
use crate::snapshot::Finding;

/// Exit codes beside 0, 1 and 2.
const HISTORY: u8 = 3;
const MISSING: u8 = 4;
const UNASKED: u8 = 6;

/// The verbs below `snapshot`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Say what a snapshot of etcd holds, which keys open it, and which are missing, before it is restored
    #[command(after_long_help = AFTER_HELP)]
    Inspect(Box<Flags>),
}

/// What stands below the flags in `--help`.
const AFTER_HELP: &str = "\
Every value in the snapshot is opened with the keys of the configurations given, and counted by resource, provider and key: \
what is stored, and what stood there before and has not been compacted away. No etcd is needed, nothing is written, and no \
value is shown. KMS plugins are asked, if the configurations list any and the snapshot needs them.

With --keyring-root-file or --keyring-root-kms, keyrings in etcd are such configurations, and so is each document of their \
archives: behind the files, those of --etcd-servers if that is given, then those in the snapshot itself.

Exit codes: 0 if every value opens; 1 if the snapshot or a configuration could not be read, or is damaged; 2 for wrong usage; 3 \
if all that is stored opens, but not all of its history; 4 if values do not open: restored with these configurations alone \
they would be lost; 6 if all others open, but a KMS could not be asked.";

/// Flags of `snapshot inspect`.
#[derive(Debug, Args)]
#[command(mut_arg("etcd_servers", |servers| servers
    .default_value(None::<&str>)
    .help("With a root: use the keyring and the archive of this running etcd; separated by commas")))]
#[command(mut_arg("keyring_root_file", |root| root
    .help("The root file that opens keyrings in etcd: the one in the snapshot, and that of --etcd-servers")))]
#[command(mut_arg("keyring_root_kms", |root| root
    .help("The KMS v2 plugin that opens them, `unix:///PATH`")))]
pub(super) struct Flags {
    /// The snapshot, as `etcdctl snapshot save` writes it, or a copy of a member's `member/snap/db`
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Configurations whose keys may open it, the one to be restored with first; separated by commas
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ENCRYPTION_PROVIDER_CONFIG",
        value_name = "FILE,…",
        value_delimiter = ',',
        required_unless_present_any = ["keyring_root_file", "keyring_root_kms"],
        help_heading = "Encryption"
    )]
    encryption_provider_config: Vec<PathBuf>,
    #[command(flatten)]
    root: RootFlags,
    /// With a root: use the keyring and the archive that lie in the snapshot itself, which a restored etcd would have
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_SNAPSHOT_KEYRING",
        default_value_t = true,
        value_name = SWITCH,
        help_heading = "Encryption"
    )]
    snapshot_keyring: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    places: PlaceFlags,

    /// Inspect the file whatever its SHA-256 says; as etcdutl's flag of this name
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_SKIP_HASH_CHECK",
        value_name = SWITCH,
        help_heading = "Operation"
    )]
    skip_hash_check: bool,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// Carries out `verb`.
pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let Verb::Inspect(flags) = verb;
    flags.log.init()?;
    let (is_live, has_root) = (flags.cluster.is_given(), flags.root.is_given());
    let common = common(flags.cluster, Origin::Managed(flags.root.settings()), flags.places);
    let report = inspect_snapshot(&SnapshotSettings {
        file: flags.file,
        skip_hash_check: flags.skip_hash_check,
        encryption_configs: flags.encryption_provider_config,
        uses_live_keyring: has_root && is_live,
        uses_own_keyring: has_root && flags.snapshot_keyring,
        common,
    })?;
    flags.output.output.print(&report)?;
    Ok(match report.finding {
        Finding::Opens => ExitCode::SUCCESS,
        Finding::History => ExitCode::from(HISTORY),
        Finding::Missing => ExitCode::from(MISSING),
        Finding::Unasked => ExitCode::from(UNASKED),
    })
}
