//! The machine of stages: what was asked for and the facts give the next step, or a refusal. Pure. Whoever takes a step asks
//! again with the facts as they are then, so each step stands for itself: it may be repeated, and may have been taken by
//! somebody else.

mod abort;
mod enable;
mod migrate;
mod recover;
mod rotation;
mod uncovered;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::proof::{NoProof, Proof};
use super::record::Record;
use super::recovery::{Reader, Recovery};
use super::refusal::Refusal;
use crate::config::{KeyId, KeyType, Target};
use crate::members::Dissent;
use crate::sweep::{Report, Uncovered};

pub(super) use abort::replaced;
pub(super) use rotation::once_each;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// A new key that reads only.
    Prepare,
    /// The new key writes.
    Rotate,
    /// Everything is stored under it, and the old key goes.
    Reencrypt,
    /// These three.
    RotateKeys,
    /// Values are encrypted again when they are written.
    Enable,
    /// Values are written in the clear.
    Disable,
    /// The rotation is taken back.
    Abort,
    /// Another provider takes over: it reads, it writes, everything is stored under it, and the old one goes.
    Migrate,
    /// Values that no key of the configuration opens are opened with those of kept ones, and stored under what writes.
    Recover,
}

impl Command {
    /// Whether it may re-encrypt what is stored.
    pub(super) fn sweeps(self) -> bool {
        matches!(self, Self::Reencrypt | Self::RotateKeys | Self::Migrate | Self::Abort)
    }

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Rotate => "rotate",
            Self::Reencrypt => "reencrypt",
            Self::RotateKeys => "rotate-keys",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Abort => "abort",
            Self::Migrate => "migrate",
            Self::Recover => "recover",
        }
    }
}

/// Flags that whoever goes on with a command has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct How {
    /// Whatever the stage is, and though not all members have loaded the same. No key is written with that a member cannot
    /// read with, and none is removed without proof, all the same.
    pub force: bool,
    /// Old keys stay.
    pub skip: bool,
    /// etcd's history is compacted, rather than waited for until somebody does.
    pub compact: bool,
    /// What new keys are for; without it each is for the provider of the key that it follows.
    pub key_type: Option<KeyType>,
    /// What `migrate` goes over to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
}

/// What was asked for, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The command.
    pub command: Command,
    /// With which flags.
    pub how: How,
    /// Wait for what is not in this process's hands.
    pub wait: bool,
    /// The time, RFC 3339, for names.
    pub now: String,
    /// This host's name, for the record.
    pub host: String,
}

/// What this process has done about it so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// Which command it has begun, or joined: [`Record::begun`].
    pub(super) begun: Option<u64>,
    /// Late writes of everybody who is there are refused by etcd; or all have agreed on this configuration for so long that what
    /// was sealed before should have arrived.
    pub(super) is_settled: bool,
    /// The record's revision when it was first seen to say that the keys are going that it names now; not before they were noted.
    pub(super) going_since: Option<i64>,
    /// How many sweeps it has made.
    pub(super) sweeps: u32,
    /// The last one.
    pub(super) report: Option<Report>,
    /// What it found in each other store; empty where they have to be swept.
    pub(super) beside: Vec<Report>,
    /// What no rule covers, as of the last look for it.
    pub(super) uncovered: Option<Uncovered>,
    /// What no key opens, as of the last search.
    pub(super) recovery: Option<Recovery>,
}

/// A change of the configuration that takes nothing away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// New keys that read only: each behind the key that writes.
    Append(Vec<(KeyId, KeyId)>),
    /// What of each pair comes second is listed behind what comes first, and reads only; a plugin as it is named.
    Introduce(Vec<(KeyId, KeyId)>, Target),
    /// Of each pair, the first one writes where the second one did, which is read with.
    Promote(Vec<(KeyId, KeyId)>),
    /// Of each pair, the first one writes again where the second one does now, and nowhere else.
    Reinstate(Vec<(KeyId, KeyId)>),
    /// Keys of kept configurations that read only, each for one rule.
    ReadWith(Vec<Reader>),
    /// A provider with a new key, where there is nothing but identity.
    AddProvider(KeyId),
    /// Values in the clear can be read everywhere.
    AddIdentity,
    /// Values are written in the clear.
    IdentityFirst,
    /// Values are encrypted when they are written.
    IdentityLast,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Put this record in the place of the one that was looked at.
    Note(Record),
    /// Change the configuration.
    Change(Change),
    /// Wait until every member has loaded it.
    Await,
    /// Wait a little, for writes without a fence that are on their way since before everybody had loaded the configuration.
    Settle,
    /// Write everything as it should be, and look whether it is.
    Sweep,
    /// Look at everything that etcd holds for values that no key of the configuration opens, and which key at hand does.
    Search,
    /// Look at everything that etcd holds for values that need these keys and that no sweep brings under others.
    Look(Vec<KeyId>),
    /// Wait until every member writes under the key that a KMS has now.
    AwaitKms(Dissent),
    /// Wait until every member has had something wrapped by a KMS plugin and given back.
    AwaitRoundTrip(Dissent),
    /// Wait until etcd's history before this revision is compacted away: until then it holds values under the old keys.
    AwaitHistory(i64),
    /// Remove keys.
    Remove {
        /// That nothing needs them.
        proof: Proof,
        /// The keys.
        keys: Vec<KeyId>,
        /// Only from entries that list one of these too; `None` for all in which they read.
        beside: Option<Vec<KeyId>>,
    },
    /// Nothing is left to do; put this record in the place of the one that was looked at, if it is another.
    Finish(Option<Record>),
}

/// Why there is no next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It may not be done.
    Refused(Refusal),
    /// Another command took over.
    Overtaken(Option<Command>),
    /// Values are left that are not as they should be, or that do not open.
    NotProved(NoProof),
    /// Values need a key that is about to go, and no sweep brings them under another.
    Uncovered(Box<Uncovered>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The next step of what was asked for.
///
/// # Errors
/// There is none.
pub(super) fn next(ask: &Ask, facts: &Facts, session: &Session) -> Result<Step, Stop> {
    let cx = Context { ask, facts, session };
    cx.refuse_other_stores()?;
    match ask.command {
        Command::Enable | Command::Disable => cx.switch(),
        Command::Recover => cx.recovery(),
        _ => cx.rotation(),
    }
}

#[derive(Clone, Copy)]
struct Context<'a> {
    ask: &'a Ask,
    facts: &'a Facts,
    session: &'a Session,
}

/// The stage of affairs between this command and the record.
enum Turn {
    /// It is to begin.
    Begin,
    /// It has begun, here or in a process that may be dead.
    Continue,
    /// Another process has brought it to its end.
    Over,
}

impl Context<'_> {
    fn record(&self) -> &Record {
        &self.facts.record
    }

    /// Each change of the configuration is one for every store that is served with it: a process there may write with a key
    /// before another one reads with it, or need a key that goes.
    fn refuse_other_stores(&self) -> Result<(), Stop> {
        let mut known = self.facts.strangers.iter().filter(|user| !user.store.is_unknown());
        if let Some(user) = known.next() {
            return Err(Refusal::OtherStore(Box::new(user.clone())).into());
        }
        // Of two that have begun at once, both may be taken back.
        let is_abort = self.ask.command == Command::Abort;
        match self.facts.beside.iter().find(|beside| beside.is_rotating()) {
            Some(beside) if !is_abort => Err(Refusal::RotatesElsewhere {
                name: beside.name.clone(),
                stage: beside.record.stage,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Whether the command begins or goes on.
    fn turn(&self) -> Result<Turn, Stop> {
        let record = self.record();
        let is_same = |begun: u64| begun == record.begun;
        match record.underway {
            Some(underway) if underway == self.ask.command && self.session.begun.is_none_or(is_same) => {
                Ok(Turn::Continue)
            }
            other => match self.session.begun {
                None => Ok(Turn::Begin),
                Some(begun) if begun == record.finished => Ok(Turn::Over),
                Some(_) => Err(Stop::Overtaken(other)),
            },
        }
    }

    /// The record, changed.
    fn note(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = self.record().clone();
        change(&mut record);
        record
    }

    /// The record with the command begun.
    fn begin(&self, change: impl FnOnce(&mut Record)) -> Step {
        Step::Note(self.note(|record| {
            record.underway = Some(self.ask.command);
            // What this record becomes when it is written.
            record.begun = record.generation + 1;
            record.how = self.ask.how.clone();
            record.removed.clear();
            // What is listed is wanted again, whatever became of it before; unless somebody may be removing it at this moment.
            if !record.removing {
                record.dropped.retain(|key| !self.facts.config.has_key(key));
            }
            change(record);
        }))
    }

    fn all_loaded(&self) -> bool {
        self.facts.dissent().is_none()
    }

    fn refuse_mismatch(&self) -> Result<(), Stop> {
        match self.facts.mismatch() {
            None => Ok(()),
            Some(mismatch) => Err(Refusal::Hash {
                one: mismatch.one,
                other: mismatch.other,
                dissent: mismatch.dissent,
            }
            .into()),
        }
    }

    /// Once the members have loaded everything, the command is done.
    fn end(&self, change: impl FnOnce(&mut Record)) -> Step {
        if self.ask.wait && !self.all_loaded() {
            return Step::Await;
        }
        Step::Finish(Some(self.note(|record| {
            record.underway = None;
            record.finished = record.begun;
            change(record);
        })))
    }

    /// A name for a key that none has or had.
    fn new_key(&self, provider: KeyType, taken: &[KeyId]) -> KeyId {
        let config = &self.facts.config;
        let known: Vec<_> = config.key_ids().into_iter().chain(config.retired.ids()).collect();
        let is_taken = |name: &str| {
            let mut ids = known.iter().chain(taken);
            let mut gone = self.record().dropped.iter();
            ids.any(|id| id.name.as_str() == name)
                || gone.any(|id| id.name.as_str() == name)
                || self.record().names.iter().any(|other| other == name)
        };
        let first = format!("{provider}key-{}", self.ask.now);
        let others = (2_u32..).map(|number| format!("{first}-{number}"));
        let mut names = std::iter::once(first.clone()).chain(others);
        KeyId {
            provider: provider.into(),
            name: crate::types::KeyName::new(names.find(|name| !is_taken(name)).unwrap_or_default()),
        }
    }
}
