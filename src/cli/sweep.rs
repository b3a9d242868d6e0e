//! `sweep`: its flags, its progress on standard error, its report on standard output, its exit codes.

pub(super) mod progress;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::common::{CommonFlags, EmptyFlags, positive};
use super::log::LogFlags;
use super::output::OutputFlags;
use super::switch::SWITCH;
use super::{MISPLACED, is_misplaced};
use crate::app::{SweepError, SweepSettings, sweep};
use crate::config::ResourceSelector;
use crate::sweep::{Error, Finding, Limits, Observer, Options, Report};

/// Exit codes beside 0, 1 and 2.
const STALE: u8 = 3;
const UNDECRYPTABLE: u8 = 4;
const HELD: u8 = 5;
const RESUMABLE: u8 = 6;
const DISSENT: u8 = 7;
const MISSED: u8 = 8;

/// What stands below the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Each value that is not as its rule writes it is written again: sealed by the first provider with its first key, or in the \
clear where the first provider is identity. Every write is a transaction of its own that changes the key only if nobody has \
written it since it was read; keys are never created, and keep their lease. Then everything is read once more, and what is \
found is the report. kube-apiserver, and proxies before it, may work meanwhile, but all of them must have loaded this \
configuration before: what one with an older configuration writes is stale again, and it may not be able to read what the \
sweep writes. Proxies keep records of what they have loaded, which are looked at before anything is written.

A sweep that is interrupted, or killed, goes on where it was when it is started again with the same configuration.

Exit codes: 0 if every value is as its rule writes it; 1 if the sweep could not start, or failed; 2 for wrong usage; 3 if \
stale or plaintext values were found at the end (or by --dry-run); 4 if all others are well, but some values do not open; 5 if \
another sweep is at work; 6 if it was stopped, or waited longer than --max-wait, and goes on when started again; 7 if some \
proxy has loaded another configuration; 8 if every value that a rule covers is well, but a rule matches nothing although \
something of that name is stored; 9 if it is aimed at something else: a proxy in etcd's place, a --state-prefix that the \
proxies of these keys do not have, a --etcd-prefix below which nothing lies.";

/// Flags of `sweep`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
pub(super) struct Flags {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    empty: EmptyFlags,

    /// Look and count, and write nothing: an inventory of what is encrypted with which key
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_DRY_RUN", value_name = SWITCH, help_heading = "Sweep")]
    dry_run: bool,
    /// Only these resources, as an EncryptionConfiguration names them: secrets, deployments.apps, *.apps
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_RESOURCES",
        value_name = "RESOURCE,…",
        value_delimiter = ',',
        help_heading = "Sweep"
    )]
    resources: Vec<ResourceSelector>,
    /// Only keys of etcd that begin with one of these, such as /registry/secrets/default/
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_PREFIX",
        value_name = "KEY,…",
        value_delimiter = ',',
        help_heading = "Sweep"
    )]
    prefix: Vec<String>,
    /// Write every value again that is there now, under a fresh data key where a KMS is the first provider: for a KMS whose key was
    /// rotated under the same key ID, KMS v1, and the many seeds that restarts leave behind. Interrupted, it goes on where it was
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_REWRITE_ALL", value_name = SWITCH, help_heading = "Sweep")]
    rewrite_all: bool,
    /// Begin anew, whatever an earlier sweep left
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_RESTART", value_name = SWITCH, help_heading = "Sweep")]
    restart: bool,

    /// Go on although some proxy of this cluster has loaded another configuration: what is written it might not be able to
    /// read
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_FORCE", value_name = SWITCH, help_heading = "Sweep")]
    force: bool,

    /// So many writes under way at once. Unless given, as many as keep etcd busy without making its other clients wait, by
    /// its latency
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_CONCURRENCY",
        value_name = "N",
        help_heading = "Pace"
    )]
    concurrency: Option<NonZeroUsize>,
    /// At most so many keys a second, read or written
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_RATE",
        value_name = "KEYS",
        value_parser = positive,
        help_heading = "Pace"
    )]
    rate: Option<f64>,
    /// At most so many bytes of values a second, as they are stored
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_RATE_BYTES",
        value_name = "BYTES",
        value_parser = positive,
        help_heading = "Pace"
    )]
    rate_bytes: Option<f64>,
    /// How long etcd (or a KMS) may be unable to go on, for want of space, a leader or a connection, before the sweep gives
    /// up
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_MAX_WAIT", value_name = "DURATION", default_value = "10m",
          value_parser = humantime::parse_duration, help_heading = "Pace")]
    max_wait: Duration,

    /// After a clean proof, compact etcd to its revision. Until that is done, by this or by kube-apiserver's own compaction
    /// every five minutes, old ciphertext can be read from etcd's history. Watches that are further behind have to start over
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_COMPACT", value_name = SWITCH, help_heading = "History")]
    compact: bool,
    /// After a clean proof, defragment each member of the cluster in turn, also those that --etcd-servers does not name: until
    /// then what was overwritten is in free pages of its file. A member serves nothing meanwhile, which can take minutes
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_DEFRAG", value_name = SWITCH, help_heading = "History")]
    defrag: bool,

    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// Carries it out.
pub(super) fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    flags.log.init()?;
    let output = flags.output.output;
    let settings = SweepSettings {
        common: flags.common.settings(),
        about: flags.empty.about(),
        options: Options {
            limits: Limits {
                concurrency: flags
                    .concurrency
                    .map_or(Limits::default().concurrency, NonZeroUsize::get),
                is_adaptive: flags.concurrency.is_none(),
                keys_per_second: flags.rate,
                bytes_per_second: flags.rate_bytes,
            },
            max_wait: flags.max_wait,
            restart: flags.restart,
            dry_run: flags.dry_run,
        },
        rewrite_all: flags.rewrite_all,
        resources: flags.resources,
        key_prefixes: flags.prefix.into_iter().map(String::into_bytes).collect(),
        force: flags.force,
        compact: flags.compact,
        defragment: flags.defrag,
    };
    let display = progress::display();
    let observer: Arc<dyn Observer> = Arc::<progress::Display>::clone(&display);
    let outcome = sweep(&settings, &observer);
    display.finish();
    match outcome {
        Ok(report) => {
            output.print(&report)?;
            Ok(code_of(&report))
        }
        Err(SweepError::Sweep(error)) => {
            let code = match &error {
                Error::Held(_) => HELD,
                error if error.is_resumable() => RESUMABLE,
                _ => return Err(error.into()),
            };
            super::report(&error.into());
            Ok(ExitCode::from(code))
        }
        Err(SweepError::Start(error)) if is_misplaced(&error) => {
            super::report(&error.into());
            Ok(ExitCode::from(MISPLACED))
        }
        Err(error @ (SweepError::Dissent(_) | SweepError::Barred(_))) => {
            super::report(&error.into());
            Ok(ExitCode::from(DISSENT))
        }
        Err(error) => {
            if let SweepError::Afterwards { report, .. } | SweepError::NotDefragmented { report, .. } = &error {
                output.print(report)?;
            }
            Err(error.into())
        }
    }
}

fn code_of(report: &Report) -> ExitCode {
    match report.finding {
        Finding::Clean if !report.survey.missed.is_empty() => ExitCode::from(MISSED),
        Finding::Clean => ExitCode::SUCCESS,
        Finding::Stale => ExitCode::from(STALE),
        Finding::Undecryptable => ExitCode::from(UNDECRYPTABLE),
    }
}
