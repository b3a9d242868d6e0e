//! Why a command is not carried out: what was found, where, and what to do. In k3s's words where it has words for it.

use std::fmt;

use super::machine::Command;
use super::record::Record;
use super::stage::Stage;
use super::stores::{User, way_on};
use crate::config::{Conflict, KeyId, KeyType};
use crate::members::Dissent;

/// Why a command is not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is another command's turn.
    Stage {
        /// The stage that was found.
        found: Stage,
        /// The host that brought it there.
        node: String,
        /// The commands that go on from there.
        next: &'static str,
    },
    /// Not all members have loaded the same.
    Hash {
        /// The source of the configuration, or a member.
        one: String,
        /// A member.
        other: String,
        /// In what they differ.
        dissent: Dissent,
    },
    /// A member could not read what would be written.
    Unreadable {
        /// The member.
        member: String,
        /// What it does not read with.
        keys: Vec<KeyId>,
    },
    /// A KMS writes, and there is no key here.
    Kms(String),
    /// A KMS writes, and a key of the configuration was to take over.
    FromKms {
        /// The plugin.
        name: String,
        /// What the key was to be for.
        wanted: KeyType,
    },
    /// The rotation that is under way brings in keys of another type than was asked for.
    OtherType(Vec<KeyId>),
    /// A migration that is under way goes over to something else.
    OtherTarget(String),
    /// Nothing says what to go over to.
    NoTarget,
    /// A KMS plugin cannot be listed as it was named.
    Conflict(Box<Conflict>),
    /// Nothing is encrypted.
    Disabled,
    /// There is no second key that could take over.
    NoOtherKey,
    /// Somebody has taken a key out of the configuration that the rotation needs.
    KeyMissing(KeyId),
    /// There is nothing to take back.
    NothingToAbort(Stage),
    /// No record stands in the way that no other command gets past.
    NothingToForget(Stage),
    /// An old key is gone already.
    Dropped(KeyId),
    /// A new key writes where the old one is not listed, so that nothing could write in its place.
    NoWayBack {
        /// The key that wrote before.
        old: KeyId,
        /// The key that writes now.
        new: KeyId,
    },
    /// The configuration is used for a store that the command was not told of.
    OtherStore(Box<User>),
    /// Another store that the command was told of has a rotation of its own under way.
    RotatesElsewhere {
        /// What operators call that store.
        name: String,
        /// Its stage.
        stage: Stage,
    },
}

impl Refusal {
    /// The stage, or the members' hashes, or the configuration: what would have to be another.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stage { .. }
            | Self::NothingToAbort(_)
            | Self::NothingToForget(_)
            | Self::Dropped(_)
            | Self::OtherType(_)
            | Self::OtherTarget(_)
            | Self::RotatesElsewhere { .. } => Kind::Stage,
            Self::Hash { .. } | Self::Unreadable { .. } => Kind::Members,
            Self::Kms(_)
            | Self::FromKms { .. }
            | Self::NoTarget
            | Self::Conflict(_)
            | Self::Disabled
            | Self::NoOtherKey
            | Self::KeyMissing(_)
            | Self::NoWayBack { .. }
            | Self::OtherStore(_) => Kind::Configuration,
        }
    }
}

/// What would have to be another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The stage.
    Stage,
    /// What members have loaded.
    Members,
    /// The configuration.
    Configuration,
}

/// The commands that go on from where a rotation stands, for people.
pub(super) fn next(record: &Record) -> &'static str {
    match (record.underway, record.stage) {
        (Some(Command::Abort), _) => "`abort` goes on with what was begun",
        _ if record.is_recovering() => "`recover` goes on with what was begun, `abort` takes it back",
        (Some(Command::Migrate), _) => {
            "`migrate` with the same --to goes on with what was begun, `abort` takes it back"
        }
        (Some(Command::RotateKeys), _) => "`rotate-keys` goes on with what was begun, `abort` takes it back",
        (Some(command), Stage::Start | Stage::ReencryptFinished) => goes_on(command),
        (None, Stage::Start | Stage::ReencryptFinished) => "`prepare`, or `rotate-keys` for all at once",
        (_, Stage::Prepare) => "`rotate`, or `abort` to take it back",
        (_, Stage::Rotate) => "`reencrypt`, or `abort` to take it back",
        (_, Stage::ReencryptRequest | Stage::ReencryptActive) => {
            "`reencrypt` goes on with what was begun, `abort` takes it back"
        }
    }
}

/// What goes on with a command that has changed no stage.
fn goes_on(command: Command) -> &'static str {
    match command {
        Command::Prepare => "`prepare` goes on with what was begun",
        Command::Rotate => "`rotate` goes on with what was begun",
        Command::Reencrypt => "`reencrypt` goes on with what was begun",
        Command::RotateKeys => "`rotate-keys` goes on with what was begun, `abort` takes it back",
        Command::Migrate => "`migrate` with the same --to goes on with what was begun, `abort` takes it back",
        Command::Enable => "`enable` goes on with what was begun",
        Command::Disable => "`disable` goes on with what was begun",
        Command::Abort => "`abort` goes on with what was begun",
        Command::Recover => "`recover` goes on with what was begun, `abort` takes it back",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { found, node, next } => {
                write!(f, "incorrect stage: {found} found on node {node}; next: {next}")
            }
            Self::Hash { one, other, dissent } => write!(
                f,
                "hash does not match between {one} and {other}: {dissent}. Bring the same configuration to every member and \
                 run this again once `status` says that all hashes match"
            ),
            Self::Unreadable { member, keys } => write!(
                f,
                "{member} has not shown that it reads with {}, so nothing may be written with that yet: bring it the \
                 configuration, or stop it",
                listed(keys)
            ),
            Self::Kms(name) => write!(
                f,
                "the KMS plugin {name:?} writes, and its key is not in the configuration: rotate the key in the KMS, then \
                 run `reencrypt` to have every stored value under the new one. To have another provider write in its place, run \
                 `migrate`"
            ),
            Self::FromKms { name, wanted } => write!(
                f,
                "the KMS plugin {name:?} writes: to have a {wanted} key write in its place, run `migrate --to {wanted}`"
            ),
            Self::OtherType(keys) => write!(
                f,
                "{} is to take over in the rotation that is under way: run this again without --key-type to bring it to its \
                 end, or `abort` first",
                listed(keys)
            ),
            Self::OtherTarget(to) => write!(
                f,
                "a migration to {to} is under way: run `migrate --to {to}` to bring it to its end, with the same flags as before, or \
                 `abort` first"
            ),
            Self::NoTarget => f.write_str("nothing says what to go over to: give --to"),
            Self::Conflict(conflict) => match &**conflict {
                Conflict::Name(kms) => write!(
                    f,
                    "the configuration has a KMS plugin of that name already, {kms}, and values name their plugin and nothing else: give \
                     the new one another name"
                ),
                Conflict::Version(kms) => write!(
                    f,
                    "the configuration has that endpoint already under the other version of the protocol, {kms}: a socket speaks one \
                     of them. Have the new version at another socket, and give that"
                ),
            },
            Self::Disabled => f.write_str(
                "nothing is encrypted with a key of this configuration: run `enable` first, or `migrate --to PROVIDER`, which encrypts \
                 what is stored too",
            ),
            Self::NoOtherKey => f.write_str("there is no other key that could write: run `prepare` first"),
            Self::KeyMissing(key) => write!(
                f,
                "{key} is part of this rotation and no longer in the configuration: put back the kept file that has it, or \
                 run `abort`"
            ),
            Self::NothingToAbort(stage) => write!(f, "there is no rotation to take back, the stage is {stage}"),
            Self::NothingToForget(stage) => write!(
                f,
                "the record of the rotation is well, its stage is {stage}, and every record of a process ends with a lease: there is \
                 nothing to forget. `abort` without --forget takes a rotation back"
            ),
            Self::Dropped(key) => write!(
                f,
                "{key} has been removed, since nothing that is stored needs it: there is no way back from there. \
                 `reencrypt` brings the rotation to its end"
            ),
            Self::NoWayBack { old, new } => write!(
                f,
                "{new} writes in an entry that does not list {old}, so nothing there could write in its place, and nothing was \
                 changed. List {old} behind it there, from the kept file that has it, and run this again; or bring the rotation \
                 to its end with `rotate` and `reencrypt`"
            ),
            Self::OtherStore(user) => write!(
                f,
                "the configuration is used for another etcd too ({user}). What is stored there may need any of its keys, so \
                 nothing was changed. {}",
                way_on(user)
            ),
            Self::RotatesElsewhere { name, stage } => write!(
                f,
                "a rotation of its own is under way at the etcd {name}, its stage is {stage}: bring it to its end, or `abort` it, \
                 with --etcd-servers={name} and this etcd as --also-etcd-servers"
            ),
        }
    }
}

/// Keys in a line of text.
pub(super) fn listed(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
