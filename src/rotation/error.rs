//! Why a command ended before its end. No variant holds a byte of a key.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::damaged::Damaged;
use super::machine::Command;
use super::proof::NoProof;
use super::refusal::Refusal;
use super::stage::Stage;
use crate::election::Holder;
use crate::members::Dissent;
use crate::sweep::{Report, Uncovered};
use crate::{config, etcd, files, keyring, managed, sweep};

/// Why a command ended before its end.
#[derive(Debug, Error)]
pub enum Error {
    /// It may not be done now.
    #[error("{0}")]
    Refused(Refusal),
    /// Another command took over.
    #[error("another command has taken over{}; see `status`", by(.0.as_ref()))]
    Overtaken(Option<Command>),
    /// The record in etcd cannot be read.
    #[error(
        "the record of the rotation{} cannot be read: {damaged}. So it is not known how far a rotation has come, nothing was done, \
         and nothing is done by itself. {}", at(.servers), .damaged.way_out()
    )]
    Record {
        /// What lies there.
        damaged: Box<Damaged>,
        /// Where, as operators call it; empty for the etcd that the command works on.
        servers: String,
    },
    /// The right to take steps, or the sweep, is held by a record that no lease ends.
    #[error("held by {0}")]
    Leaseless(Box<Holder>),
    /// The record cannot be changed, however often it is tried.
    #[error("others change the record of the rotation in etcd all the time")]
    Contended,
    /// etcd gave no usable answer.
    #[error("etcd: {0}")]
    Call(etcd::CallError),
    /// The keyring in etcd is not to be had.
    #[error(transparent)]
    Managed(managed::Error),
    /// The configuration cannot be read.
    #[error("encryption provider configuration")]
    Read(#[source] files::Error),
    /// Others can read the configuration.
    #[error("--strict-permissions: {0}")]
    Exposed(String),
    /// Who uses the configuration cannot be seen.
    #[error("it cannot be seen which other etcd clusters {path:?} is used for, so nothing is changed")]
    Users {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A process uses the configuration and does not know yet for which store.
    #[error(
        "a process on this machine uses {source_name} and has not reached its etcd yet, so it cannot be told which one that is. \
         See its log; run this again when it serves, or stop it"
    )]
    Unplaced {
        /// What it uses.
        source_name: String,
    },
    /// Two stores are one.
    #[error("--also-etcd-servers={name} is the etcd of --etcd-servers, or named twice: it is for others alone")]
    SameStore {
        /// What operators call it.
        name: String,
    },
    /// There is no configuration.
    #[error("there is no configuration file {0:?}")]
    NoFile(PathBuf),
    /// The configuration is not valid.
    #[error("{path:?} is refused:\n{problems}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: config::Error,
    },
    /// The configuration was changed by somebody else. It is looked at anew.
    #[error("the configuration was changed by somebody else")]
    Changed,
    /// The configuration cannot be replaced.
    #[error("the configuration was not changed")]
    Replace(#[source] files::ReplaceError),
    /// What a step would make of the configuration is not valid: it would be too long, say.
    #[error("the changed configuration would not be valid: {0}")]
    WouldBeInvalid(config::Error),
    /// The configuration needs something that is not there.
    #[error("the configuration cannot be used for re-encryption")]
    Keyring(#[source] keyring::Error),
    /// The KMS plugin to go over to does not work from here.
    #[error("{to} does not work on this machine, so nothing was begun: {why}")]
    Plugin {
        /// As it was named.
        to: String,
        /// What it said.
        why: String,
    },
    /// A step has a plugin, or identity, where it takes a key.
    #[error("a step that takes a key was given none; this is a fault of this program")]
    NoKey,
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// Members did not load the configuration in time.
    #[error("waited {} for members to load {source_name}: {dissent}. {advice}", humantime::format_duration(*.after))]
    NotLoaded {
        /// How long.
        after: Duration,
        /// What they should load.
        source_name: String,
        /// Who has not.
        dissent: Dissent,
        /// What to do.
        advice: &'static str,
    },
    /// History is still there.
    #[error(
        "everything is re-encrypted, but etcd's history before revision {revision} still holds values under the old keys, \
         which stay until that is compacted away. kube-apiserver does it every five minutes: run this again then, or now \
         with --compact"
    )]
    History {
        /// From this revision on they are not needed.
        revision: i64,
    },
    /// It was told not to wait.
    #[error("not all members have loaded {source_name} yet{}. Run this again to go on", said(.dissent.as_ref()))]
    NotWaited {
        /// What they should load.
        source_name: String,
        /// Who has not.
        dissent: Option<Dissent>,
    },
    /// Another process takes the steps.
    #[error("{0} carries it out. See `status`, or run this again with --wait to follow it")]
    Driven(String),
    /// Members re-encrypt.
    #[error("the members re-encrypt now. Run this again to prove it and to bring the rotation to its end")]
    LeftToMembers,
    /// Some values stand in the way of a key's removal.
    #[error("{why}, so no key was removed. {advice}")]
    NotProved {
        /// What the sweep found.
        why: NoProof,
        /// What to do.
        advice: &'static str,
        /// All that it found.
        report: Option<Box<Report>>,
    },
    /// Values need a key that is about to go, and no sweep brings them under another.
    #[error("{found}: re-encryption does not reach these, so no key was removed. {way_on}. Then run this again")]
    Uncovered {
        /// How many of what, under which key.
        found: String,
        /// What to do about them.
        way_on: String,
    },
    /// The sweep ended before its proof.
    #[error(transparent)]
    Sweep(#[from] sweep::Error),
    /// Something changes faster than it can be proved.
    #[error("members keep changing what they have loaded, so nothing could be proved. Run this again to go on")]
    Unsettled,
    /// It was told to stop.
    #[error("stopped. Run this again to go on")]
    Stopped,
}

// Not as its source: what it says is told already.
impl From<etcd::CallError> for Error {
    fn from(error: etcd::CallError) -> Self {
        Self::Call(error)
    }
}

impl Error {
    /// Whether running the command again goes on where it was left.
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::History { .. }
            | Self::NotWaited { .. }
            | Self::Driven(_)
            | Self::Leaseless(_)
            | Self::LeftToMembers
            | Self::Unsettled
            | Self::Unplaced { .. }
            | Self::Stopped
            | Self::Contended => true,
            Self::Sweep(error) => error.is_resumable(),
            _ => false,
        }
    }

    /// The same, where the keys are those that `recover` has listed.
    pub(super) fn not_recovered(why: NoProof, report: Option<Report>) -> Self {
        match Self::not_proved(why, report) {
            Self::NotProved {
                why: why @ NoProof::Undecryptable(_),
                report,
                ..
            } => Self::NotProved {
                why,
                advice: "The report names them and says why. Do as it says and run this again; or run `abort --skip`, which keeps \
                         the keys of kept files for them until the next rotation",
                report,
            },
            other => other,
        }
    }

    /// Of what was found.
    pub(super) fn uncovered(found: &Uncovered) -> Self {
        Self::Uncovered {
            found: found.to_string(),
            way_on: found.way_on(),
        }
    }

    /// What to do about values that stand in the way.
    pub(super) fn not_proved(why: NoProof, report: Option<Report>) -> Self {
        let advice = match why {
            NoProof::Undecryptable(stuck) if stuck.refused > 0 => {
                "The report names them and says why. Do as it says and run this again; or run `reencrypt --skip`, which ends the \
                 rotation and keeps the old keys for them; or `abort`, which goes back"
            }
            NoProof::Undecryptable(_) => {
                "The report names them: restore or delete them and run this again; or keep the old keys with `reencrypt --skip`, \
                 after which `recover` looks for theirs in kept files"
            }
            NoProof::Nothing => {
                "Is --etcd-prefix the one that kube-apiserver has? If there is nothing yet, --skip keeps the old key"
            }
            _ => {
                "Somebody writes with another configuration: a kube-apiserver that bypasses the proxies, or a proxy without a \
                 member record. Find it, and run this again"
            }
        };
        Self::NotProved {
            why,
            advice,
            report: report.map(Box::new),
        }
    }
}

impl From<Damaged> for Error {
    fn from(damaged: Damaged) -> Self {
        Self::Record {
            damaged: Box::new(damaged),
            servers: String::new(),
        }
    }
}

fn at(servers: &str) -> String {
    match servers {
        "" => " in etcd".to_owned(),
        servers => format!(" in the etcd {servers} (to be given as --etcd-servers for that)"),
    }
}

fn by(command: Option<&Command>) -> String {
    command.map_or_else(String::new, |command| format!(": `{}`", command.as_str()))
}

fn said(dissent: Option<&Dissent>) -> String {
    dissent.map_or_else(String::new, |dissent| format!(": {dissent}"))
}

/// What to do where members do not load.
pub(super) fn advice(stage: Stage, underway: Option<Command>) -> &'static str {
    match (stage, underway) {
        (Stage::ReencryptFinished | Stage::Start, _) => "Bring it to them; nothing else is left to do",
        (_, Some(Command::Abort)) => "Bring it to them, and run this again to go on",
        _ => "Bring it to them and run this again to go on, or run `abort`",
    }
}
