//! `secrets-encrypt`: flags, what is printed, exit codes. The words are those of k3s and RKE2, so that what was written for
//! them works.

mod managed;
mod migrate;
mod output;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::common::{CommonFlags, EmptyFlags, KeyTypeName, positive};
use super::log::LogFlags;
use super::output::print;
use super::switch::SWITCH;
use super::{MISPLACED, USAGE, is_misplaced};
use crate::app::{About, Origin, RotationError, RotationReport, RotationSettings, RotationWork, host, rotation};
use crate::config::Target;
use crate::etcd::Trouble;
use crate::rotation::{Ask, Command, Error, How, Kind, Limits};
use crate::sweep;
use crate::transport::Endpoint;
use migrate::MigrateFlags;
use output::Voice;
use status::StatusFlags;

/// Exit codes beside 0, 1 and 2.
const STAGE: u8 = 3;
const MEMBERS: u8 = 4;
const OVERTAKEN: u8 = 5;
const UNFINISHED: u8 = 6;
const NOT_PROVED: u8 = 7;
const CONFIGURATION: u8 = 8;

/// What stands below the verbs in `--help`.
pub(super) const AFTER_HELP: &str = "\
The configuration's file is edited in place, as a whole, and what it was is kept beside it; who distributes that file to \
the members does so as ever. How far a rotation has come stands in etcd, under --state-prefix, so that any of these \
commands can be interrupted, or killed, and goes on when it is run again.

With --keyring-root-file or --keyring-root-kms the configuration is the keyring in etcd instead, which every member follows, and \
no file is there to distribute. `rotate-root`, `export` and `purge` are about that keyring alone; `keyring` backs it up.

Exit codes: 0 if it is done; 1 if it could not start, or failed; 2 for wrong usage; 3 if the stage is another one's, or its record cannot be read; 4 if not \
all members have loaded the same configuration; 5 if another command has taken over; 6 if it ended before its end and goes on \
when run again; 7 if values stand in the way of a key's removal, or \
no key at hand opens them; 8 if the configuration cannot be rotated like this, such as \
one that other etcd clusters are served with that --also-etcd-servers does not name; 9 if it is aimed at something else: a proxy \
in etcd's place, a --state-prefix that the proxies of these keys do not have, a --etcd-prefix below which nothing lies.";

/// What stands below the flags of a verb that changes something.
const STAGES: &str = "\
Stages: start -> prepare -> rotate -> reencrypt_request -> reencrypt_active -> reencrypt_finished, from which the next rotation \
begins. `prepare` takes start or reencrypt_finished, `rotate` takes prepare, `reencrypt` takes rotate; `rotate-keys` goes through \
all; `abort` goes back until a key is removed; `enable` and `disable` leave the stage as it is.

Exit codes: 0 done; 1 could not start, or failed; 2 wrong usage; 3 another stage's turn; 4 members differ, or have not loaded it; 5 \
overtaken by another command; 6 unfinished: run it again; 7 values stand in the way of a key's removal; 8 the configuration does not \
allow it; 9 aimed at something else than this cluster's etcd, --state-prefix or --etcd-prefix. `secrets-encrypt --help` says more.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Tell how far a rotation is, who has loaded which configuration, and what is stored under which key
    Status(Box<StatusFlags>),
    /// Encrypt values again when they are written: move identity last
    #[command(after_help = STAGES)]
    Enable(Box<RunFlags>),
    /// Store values in the clear when they are written: move identity first
    #[command(after_help = STAGES)]
    Disable(Box<RunFlags>),
    /// Add a new key that only reads
    #[command(after_help = STAGES)]
    Prepare(Box<PrepareFlags>),
    /// Have the new key write
    #[command(after_help = STAGES)]
    Rotate(Box<ForceFlags>),
    /// Store everything under the key that writes, prove it, and remove the old key
    #[command(after_help = STAGES)]
    Reencrypt(Box<ReencryptFlags>),
    /// Prepare, rotate and reencrypt in one
    #[command(after_help = STAGES)]
    RotateKeys(Box<RotateKeysFlags>),
    /// Have another provider take over, from any to any: it reads, every member loads it, it writes, everything that is stored is
    /// re-encrypted and looked at a second time, and the old provider is taken out
    #[command(after_help = STAGES)]
    Migrate(Box<MigrateFlags>),
    /// Take a rotation back, as long as no key has been removed
    #[command(after_help = STAGES)]
    Abort(Box<AbortFlags>),
    /// Bring values that no key of the configuration opens, but one of a kept configuration does, under the key that writes
    #[command(after_help = STAGES)]
    Recover(Box<RecoverFlags>),
    #[command(flatten)]
    Managed(managed::Verb),
}

/// Flags of every verb.
#[derive(Debug, Args)]
pub(super) struct SharedFlags {
    #[command(flatten)]
    common: CommonFlags,
    /// Another etcd cluster whose proxies have the same configuration file, as --etcd-servers names this one: kube-apiserver's
    /// --etcd-servers-overrides. Repeat it for more clusters. TLS files, --etcd-prefix and --state-prefix are those given for
    /// this one
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ALSO_ETCD_SERVERS",
        value_name = "URL,…",
        value_delimiter = ' ',
        value_parser = cluster,
        conflicts_with_all = ["keyring_root_file", "keyring_root_kms"],
        help_heading = "etcd"
    )]
    also_etcd_servers: Vec<OtherCluster>,
    #[command(flatten)]
    log: LogFlags,
}

/// The members of another cluster.
#[derive(Clone, Debug)]
struct OtherCluster(Vec<Endpoint>);

fn cluster(given: &str) -> Result<OtherCluster, String> {
    let members = given.split(',').map(str::parse::<Endpoint>);
    let members = members.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok(OtherCluster(members))
}

/// Flags of every verb that changes something.
#[derive(Debug, Args)]
pub(super) struct RunFlags {
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    empty: EmptyFlags,
    /// Tell what would be done, and do nothing
    #[arg(long, help_heading = "Rotation")]
    dry_run: bool,
    /// Wait for what others do: until every member has loaded the configuration, or etcd's history is compacted away.
    /// Otherwise what can be done at once is done
    #[arg(long, default_value_t = true, value_name = SWITCH, help_heading = "Rotation")]
    wait: bool,
    /// How long one such wait may last
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration,
          help_heading = "Rotation")]
    timeout: Duration,
}

/// Flags of verbs that can be forced.
#[derive(Debug, Args)]
pub(super) struct ForceFlags {
    #[command(flatten)]
    run: RunFlags,
    /// Do it whatever the stage is, and though not all members have loaded the same. What would be written has to be readable
    /// for every member all the same, and no key is removed without proof
    #[arg(short, long, help_heading = "Rotation")]
    force: bool,
}

/// What a new key is for.
#[derive(Debug, Args)]
pub(super) struct KeyTypeFlags {
    /// Change the algorithm: the new key is for this provider, which is added behind the one that writes. By default it is
    /// for the same one
    #[arg(long, value_enum, value_name = "PROVIDER", help_heading = "Rotation")]
    key_type: Option<KeyTypeName>,
}

/// Flags of `prepare`.
#[derive(Debug, Args)]
pub(super) struct PrepareFlags {
    #[command(flatten)]
    force: ForceFlags,
    #[command(flatten)]
    key: KeyTypeFlags,
}

/// Flags of verbs that re-encrypt.
#[derive(Debug, Args)]
pub(super) struct SweepFlags {
    /// At most so many keys a second, read or written
    #[arg(long, value_name = "KEYS", value_parser = positive, help_heading = "Re-encryption")]
    rate: Option<f64>,
    /// At most so many bytes of values a second, as they are stored
    #[arg(long, value_name = "BYTES", value_parser = positive, help_heading = "Re-encryption")]
    rate_bytes: Option<f64>,
    /// How long etcd (or a KMS) may be unable to go on before the sweep gives up
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration,
          help_heading = "Re-encryption")]
    max_wait: Duration,
    /// Compact etcd's history once everything is re-encrypted, rather than wait until somebody does. Watches that are further
    /// behind have to start over
    #[arg(long, help_heading = "Re-encryption")]
    compact: bool,
    /// Begin the sweep anew, whatever an earlier one left, as `sweep --restart` does: also where the record of how far that came
    /// cannot be read
    #[arg(long, help_heading = "Re-encryption")]
    restart: bool,
}

/// Flags of `reencrypt`.
#[derive(Debug, Args)]
pub(super) struct ReencryptFlags {
    #[command(flatten)]
    force: ForceFlags,
    #[command(flatten)]
    sweep: SweepFlags,
    /// Leave the old key where it is: it reads, and goes with the next rotation
    #[arg(long, help_heading = "Rotation")]
    skip: bool,
    /// Write every value again that is there now, whatever it is sealed with, and remove no key (--force and --skip are implied):
    /// for a KMS whose key was rotated under the same key ID, KMS v1, and the many seeds that restarts of proxies leave behind
    #[arg(long, help_heading = "Re-encryption")]
    all: bool,
}

/// Flags of `rotate-keys`.
#[derive(Debug, Args)]
pub(super) struct RotateKeysFlags {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    key: KeyTypeFlags,
    #[command(flatten)]
    sweep: SweepFlags,
}

/// Flags of `abort`.
#[derive(Debug, Args)]
pub(super) struct AbortFlags {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    sweep: SweepFlags,
    /// Leave the new key where it is: it reads, and goes with the next rotation. Nothing is re-encrypted
    #[arg(long, help_heading = "Rotation")]
    skip: bool,
    /// Give up a record in etcd that leaves no way out, and change no configuration: a record of the rotation that cannot be read
    /// is replaced by a fresh one, if all members have loaded the same configuration; records of processes that no lease ends
    /// are removed. Refused (code 3) where there is none
    #[arg(long, conflicts_with_all = ["skip", "compact", "restart", "also_etcd_servers"], help_heading = "Rotation")]
    forget: bool,
}

/// Flags of `recover`.
#[derive(Debug, Args)]
pub(super) struct RecoverFlags {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    sweep: SweepFlags,
    /// Look for keys in this file, an EncryptionConfiguration, in place of those that are kept beside the configuration's; repeat
    /// it for more. Of keys that share a name the one that opens most is used first
    #[arg(long, value_name = "FILE", help_heading = "Recovery")]
    from: Vec<PathBuf>,
}

/// A command with all its flags, those that it does not have at rest.
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
struct Wanted {
    command: Command,
    run: RunFlags,
    force: bool,
    skip: bool,
    forget: bool,
    key_type: Option<KeyTypeName>,
    to: Option<Target>,
    sweep: Option<SweepFlags>,
    rewrite_all: bool,
    from: Vec<PathBuf>,
}

/// A verb that is no command of a rotation.
enum Other {
    Unusable(anyhow::Error),
    Status(Box<StatusFlags>),
    Managed(managed::Verb),
}

impl Verb {
    fn wanted(self) -> Result<Wanted, Other> {
        let plain = |command, run| Wanted {
            command,
            run,
            force: false,
            skip: false,
            forget: false,
            key_type: None,
            to: None,
            sweep: None,
            rewrite_all: false,
            from: Vec::new(),
        };
        Ok(match self {
            Self::Status(flags) => return Err(Other::Status(flags)),
            Self::Managed(verb) => return Err(Other::Managed(verb)),
            Self::Enable(run) => plain(Command::Enable, *run),
            Self::Disable(run) => plain(Command::Disable, *run),
            Self::Prepare(flags) => Wanted {
                force: flags.force.force,
                key_type: flags.key.key_type,
                ..plain(Command::Prepare, flags.force.run)
            },
            Self::Rotate(flags) => Wanted {
                force: flags.force,
                ..plain(Command::Rotate, flags.run)
            },
            Self::Reencrypt(flags) => Wanted {
                force: flags.force.force || flags.all,
                skip: flags.skip || flags.all,
                sweep: Some(flags.sweep),
                rewrite_all: flags.all,
                ..plain(Command::Reencrypt, flags.force.run)
            },
            Self::RotateKeys(flags) => Wanted {
                key_type: flags.key.key_type,
                sweep: Some(flags.sweep),
                ..plain(Command::RotateKeys, flags.run)
            },
            Self::Migrate(flags) => Wanted {
                to: Some(flags.target().map_err(Other::Unusable)?),
                sweep: Some(flags.sweep),
                ..plain(Command::Migrate, flags.run)
            },
            Self::Abort(flags) => Wanted {
                skip: flags.skip,
                forget: flags.forget,
                sweep: Some(flags.sweep),
                ..plain(Command::Abort, flags.run)
            },
            Self::Recover(flags) => Wanted {
                sweep: Some(flags.sweep),
                from: flags.from,
                ..plain(Command::Recover, flags.run)
            },
        })
    }
}

/// Carries it out.
pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb.wanted() {
        Ok(wanted) => command(wanted),
        Err(Other::Unusable(error)) => {
            super::report(&error);
            Ok(ExitCode::from(USAGE))
        }
        Err(Other::Status(flags)) => status::run(*flags),
        Err(Other::Managed(verb)) => managed::run(verb),
    }
}

fn command(wanted: Wanted) -> anyhow::Result<ExitCode> {
    let Wanted {
        command,
        run,
        force,
        skip,
        forget,
        key_type,
        to,
        sweep,
        rewrite_all,
        from,
    } = wanted;
    if rewrite_all && !run.wait {
        anyhow::bail!("--all takes --wait: members that sweep by themselves write again only what is stale");
    }
    let ask = Ask {
        command,
        how: How {
            force,
            skip,
            key_type: key_type.map(Into::into),
            to,
            compact: sweep.as_ref().is_some_and(|flags| flags.compact),
        },
        wait: run.wait,
        now: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        host: host(),
    };
    let settings = RotationSettings {
        // A record that leaves no way out may be all that there is.
        about: if forget { About::Records } else { run.empty.about() },
        rewrite_all,
        from,
        ..settings(run.shared, run.timeout, sweep)?
    };
    if command == Command::Recover && matches!(settings.common.origin, Origin::Managed(_)) {
        let why = "`recover` is for a configuration in a file: the keyring in etcd has an archive of the keys that were replaced, which \
                   is read by itself";
        super::report(&anyhow::anyhow!(why));
        return Ok(ExitCode::from(USAGE));
    }
    let work = if forget {
        RotationWork::Forget {
            ask,
            only_tells: run.dry_run,
        }
    } else if run.dry_run {
        RotationWork::Plan(ask)
    } else {
        RotationWork::Run(ask)
    };
    let voice = Arc::new(Voice::new());
    let outcome = rotation(&settings, work, &voice);
    voice.finish();
    match outcome {
        Ok(RotationReport::Done(done)) => {
            print(&output::done(command, &done))?;
            for left in &done.left {
                super::report(&anyhow::anyhow!("{left}"));
            }
            if !done.left.is_empty() {
                return Ok(ExitCode::from(NOT_PROVED));
            }
        }
        Ok(RotationReport::Plan(lines)) => print(&output::plan(command, forget, &lines))?,
        Ok(RotationReport::Forgotten(lines)) => print(&output::forgotten(&lines))?,
        Ok(RotationReport::Status(_) | RotationReport::Watched) => {}
        Err(error) => return failed(error),
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(shared: SharedFlags, timeout: Duration, sweep: Option<SweepFlags>) -> anyhow::Result<RotationSettings> {
    shared.log.init()?;
    let default = sweep::Limits::default();
    let (pace, max_wait, restart) = match sweep {
        None => (default, timeout, false),
        Some(flags) => {
            let pace = sweep::Limits {
                keys_per_second: flags.rate,
                bytes_per_second: flags.rate_bytes,
                ..default
            };
            (pace, flags.max_wait, flags.restart)
        }
    };
    Ok(RotationSettings {
        common: shared.common.settings(),
        about: About::Records,
        also: shared.also_etcd_servers.into_iter().map(|other| other.0).collect(),
        limits: Limits { timeout },
        pace,
        max_wait,
        restart,
        rewrite_all: false,
        from: Vec::new(),
    })
}

/// Says why, and with which code the process ends.
fn failed(error: RotationError) -> anyhow::Result<ExitCode> {
    let rotation = match &error {
        RotationError::Rotation(rotation) => rotation,
        RotationError::Start(start) if is_misplaced(start) => {
            super::report(&error.into());
            return Ok(ExitCode::from(MISPLACED));
        }
        RotationError::Start(_) => return Err(error.into()),
    };
    let code = code_of(rotation);
    if let Error::NotProved {
        report: Some(report), ..
    } = rotation
    {
        super::report(&anyhow::anyhow!("{report}"));
    }
    let error = anyhow::Error::from(error);
    super::report(&error);
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn code_of(error: &Error) -> Option<u8> {
    Some(match error {
        Error::Refused(refusal) => match refusal.kind() {
            Kind::Stage => STAGE,
            Kind::Members => MEMBERS,
            Kind::Configuration => CONFIGURATION,
        },
        Error::Record { .. } => STAGE,
        Error::Call(error) if error.trouble() == Trouble::NotEtcd => MISPLACED,
        Error::NotLoaded { .. } => MEMBERS,
        Error::Overtaken(_) => OVERTAKEN,
        Error::NotProved { .. } | Error::Uncovered { .. } => NOT_PROVED,
        Error::Plugin { .. }
        | Error::Invalid { .. }
        | Error::WouldBeInvalid(_)
        | Error::Replace(_)
        | Error::NoFile(_) => CONFIGURATION,
        error if error.is_resumable() => UNFINISHED,
        _ => return None,
    })
}
