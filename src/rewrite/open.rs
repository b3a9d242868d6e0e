//! Opens the values of an answer, a few at a time if it is long, and makes the message that the client gets.
//!
//! What a value that does not open becomes:
//!
//! | | sealed | not sealed, though the rule lacks identity |
//! |---|---|---|
//! | a read | ciphertext, or a failure: [`OnUndecryptable`] | a failure: it is plaintext that nobody vouches for |
//! | after a write, or a watch's `prev_kv` | ciphertext | the empty value |
//!
//! A value of which nothing is known because its KMS could not be asked just now fails a read, whatever the policy: what is
//! well must not be taken for corrupt. In a watch, where an error would end all watches of its stream, it is passed on.
//!
//! A committed write must not look failed, for the client would do it again; and a watch must not end over a previous
//! value that few clients look at. Neither is a reason to hand out unauthenticated plaintext, so there it is emptied.

use std::{mem, vec};

use bytes::{Bytes, BytesMut};

use super::{Context, EscapedKey, OnUndecryptable, OpenFailure, Undecryptable};
use crate::{
    types::StorageKey,
    value::{self, OpenError},
    wire::{
        Body, Field, Fields, Frame, Script, Spliced,
        etcd::{event, key_value, watch_response},
        once,
    },
};

/// From this length on, what is opened is put in its ciphertext's place (where nobody else holds the message), lest a list
/// of many megabytes lie in memory twice.
const IN_PLACE_FROM: usize = 256 * 1024;

/// How many values are looked at, at most, for DEKs that they lack, before those found missing are fetched. It bounds how
/// long other calls wait.
const SURVEYED: usize = 4096;

/// An answer on its way to be opened.
#[derive(Debug)]
#[must_use = "an answer is of no use before it is opened"]
pub struct OpenJob {
    message: Message,
    script: Script,
    /// What is being opened, and what comes behind it.
    leaf: Option<Leaf>,
    leaves: vec::IntoIter<Leaf>,
    undecryptable: Undecryptable,
}

/// How far an [`OpenJob`] has come.
#[derive(Debug)]
pub enum Progress {
    /// There is more to open.
    More(OpenJob),
    /// DEKs are missing: to be fetched ([`crate::value::Deks::fetch`]) before the next step.
    Waiting(OpenJob),
    /// All is open.
    Done(Opened),
}

/// An opened answer.
#[derive(Debug)]
pub struct Opened {
    /// What the client gets.
    pub message: Spliced,
    /// What did not open but was passed on all the same. Worth a line in the log.
    pub undecryptable: Undecryptable,
}

/// A part of an answer whose fields are to be opened.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) frame: Frame,
    /// Where its next field begins.
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) items: Items,
    /// Whether a value that does not open may fail the call.
    pub(super) may_fail: bool,
}

/// Where a [`Leaf`] has its values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Items {
    /// Its fields of this number are `KeyValue`s.
    KeyValues(u32),
    /// It is a `WatchResponse`.
    Events,
}

impl OpenJob {
    /// Opens the fields `items` of `message` itself.
    pub(super) fn of(message: Bytes, items: Items, may_fail: bool) -> Self {
        let leaf = Leaf {
            frame: Frame::TOP,
            at: 0,
            end: message.len(),
            items,
            may_fail,
        };
        let mut job = Self::nothing(message);
        job.leaf = Some(leaf);
        job
    }

    /// Opens nothing.
    pub(super) fn nothing(message: Bytes) -> Self {
        Self::new(message, Script::new(), Vec::new())
    }

    /// Opens `leaves`, whose frames have been entered in `script`.
    pub(super) fn new(message: Bytes, script: Script, leaves: Vec<Leaf>) -> Self {
        Self {
            message: Message::new(message),
            script,
            leaf: None,
            leaves: leaves.into_iter(),
            undecryptable: Undecryptable::default(),
        }
    }

    /// Opens values until about `budget` bytes of the message are dealt with; at least one value. Every step of a job
    /// takes the same keyring.
    ///
    /// # Errors
    /// [`OpenFailure`] if the answer must not be given to the client.
    pub fn step(mut self, ctx: &Context<'_>, budget: usize) -> Result<Progress, OpenFailure> {
        let mut spent = 0;
        while let Some(mut leaf) = self.leaf.take().or_else(|| self.leaves.next()) {
            while leaf.at < leaf.end {
                if spent > 0 && spent >= budget {
                    self.leaf = Some(leaf);
                    return Ok(Progress::More(self));
                }
                let before = leaf.at;
                if self.field(&mut leaf, ctx)? == Outcome::Pending {
                    leaf.at = before;
                    self.leaf = Some(leaf);
                    self.survey(ctx);
                    return Ok(Progress::Waiting(self));
                }
                spent += leaf.at - before;
            }
        }
        Ok(Progress::Done(Opened {
            message: self.script.apply(self.message.into_bytes()),
            undecryptable: self.undecryptable,
        }))
    }

    /// Opens all values at once, of which none lacks a DEK.
    #[cfg(test)]
    pub(super) fn run(self, ctx: &Context<'_>) -> Result<Opened, OpenFailure> {
        match self.step(ctx, usize::MAX)? {
            Progress::Done(opened) => Ok(opened),
            rest => unreachable!("nothing to pause for: {rest:?}"),
        }
    }

    /// Notes which DEKs the values lack that are not open yet, as far as it pays to fetch them in one go.
    fn survey(&self, ctx: &Context<'_>) {
        let mut looked_at = 0;
        for leaf in self.leaf.iter().chain(self.leaves.as_slice()) {
            let bytes = self.message.as_bytes().get(leaf.at..leaf.end).unwrap_or_default();
            // What is malformed ends the job when it is reached.
            for field in Fields::from(bytes, leaf.at).filter_map(Result::ok) {
                if ctx.deks.is_full() || looked_at == SURVEYED {
                    return;
                }
                looked_at += 1;
                for found in values(leaf.items, &field).unwrap_or([None, None]).into_iter().flatten() {
                    self.is_pending(&found, ctx);
                }
            }
        }
    }

    /// Whether opening the value of one `KeyValue` has to wait for DEKs, which are then noted.
    fn is_pending(&self, kv: &Found, ctx: &Context<'_>) -> bool {
        let message = self.message.as_bytes();
        let key = message.get(kv.key.0..kv.key.1).unwrap_or_default();
        let stored = message.get(kv.value.0..kv.value.1).unwrap_or_default();
        ctx.keyring
            .chain(key)
            .is_some_and(|chain| chain.is_pending(stored, ctx.deks))
    }

    /// Deals with the next field of `leaf`. Leaves no trace where that is pending.
    fn field(&mut self, leaf: &mut Leaf, ctx: &Context<'_>) -> Result<Outcome, OpenFailure> {
        let bytes = self.message.as_bytes().get(leaf.at..leaf.end).unwrap_or_default();
        let Some(field) = Fields::from(bytes, leaf.at).next().transpose()? else {
            leaf.at = leaf.end;
            return Ok(Outcome::Done);
        };
        leaf.at = field.end;
        let [kv, prev_kv] = values(leaf.items, &field)?;
        let Items::Events = leaf.items else {
            let policy = Policy {
                may_fail: leaf.may_fail,
                ..Policy::READ
            };
            return kv.map_or(Ok(Outcome::Done), |kv| self.open(&kv, leaf.frame, policy, ctx));
        };
        let both = [
            kv.map(|kv| (kv, Policy::EVENT)),
            prev_kv.map(|kv| (kv, Policy::PREV_KV)),
        ];
        // Before either is opened: an event is opened as a whole or not yet. What is at hand for it now stays so.
        if ctx.keyring.may_wait() && both.iter().flatten().any(|(kv, _)| self.is_pending(kv, ctx)) {
            return Ok(Outcome::Pending);
        }
        if both.iter().any(Option::is_some) {
            let frame = self.script.enter(leaf.frame, field.body()?.extent);
            for (kv, policy) in both.into_iter().flatten() {
                self.open(&kv, frame, policy, ctx)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Opens the value of one `KeyValue`.
    fn open(&mut self, kv: &Found, parent: Frame, policy: Policy, ctx: &Context<'_>) -> Result<Outcome, OpenFailure> {
        let message = self.message.as_bytes();
        let key = message.get(kv.key.0..kv.key.1).unwrap_or_default();
        let stored = message.get(kv.value.0..kv.value.1).unwrap_or_default();
        let Some(chain) = ctx.keyring.chain(key) else {
            return Ok(Outcome::Done);
        };
        let mark = self.script.mark();
        let opened = chain.from_storage(StorageKey(key), stored, ctx.deks, self.script.fresh());
        match opened {
            Err(OpenError::Pending) => {
                self.script.discard(mark);
                return Ok(Outcome::Pending);
            }
            Ok(_) if self.script.fresh_since(mark) == stored => self.script.discard(mark),
            Ok(_) => {
                let frame = self.script.enter(parent, kv.extent);
                match self.message.overwrite(kv.value, self.script.fresh_since(mark)) {
                    Some(written) => {
                        self.script.discard(mark);
                        self.script
                            .set_field_in_place(frame, kv.field, key_value::VALUE, written);
                    }
                    None => self
                        .script
                        .set_field(frame, kv.field.0, kv.field.1, key_value::VALUE, mark),
                }
            }
            Err(source) => {
                self.script.discard(mark);
                let sealed = value::is_sealed(stored);
                let passes = sealed
                    && ctx.on_undecryptable == OnUndecryptable::ReturnCiphertext
                    && !(policy.waits_for_kms && source.is_transient());
                if policy.may_fail && !passes {
                    let key = EscapedKey::new(key);
                    return Err(OpenFailure::Value {
                        key,
                        sealed_by: value::sealed_by(stored).map(Box::new),
                        source,
                    });
                }
                self.undecryptable.add(key, stored, source);
                if policy.may_fail {
                    self.undecryptable.could_fail();
                }
                if !sealed && !stored.is_empty() {
                    let frame = self.script.enter(parent, kv.extent);
                    self.script.remove(frame, kv.field.0, kv.field.1);
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// What became of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// DEKs have to be fetched first.
    Pending,
}

/// What may come of a value that does not open.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// It may fail the call.
    may_fail: bool,
    /// It does so where only its KMS could not be asked, even if ciphertext would otherwise be passed on.
    waits_for_kms: bool,
}

impl Policy {
    const READ: Self = Self {
        may_fail: true,
        waits_for_kms: true,
    };
    const EVENT: Self = Self {
        may_fail: true,
        waits_for_kms: false,
    };
    const PREV_KV: Self = Self {
        may_fail: false,
        waits_for_kms: false,
    };
}

/// Where a `KeyValue` has what. Offsets into the outermost message, each a start and an end.
struct Found {
    extent: crate::wire::Extent,
    key: (usize, usize),
    /// The value's bytes.
    value: (usize, usize),
    /// The whole value field; where there is none, the empty stretch at the end.
    field: (usize, usize),
}

/// The values of one field of a [`Leaf`] with `items`: one, or an event's two.
fn values(items: Items, field: &Field<'_>) -> Result<[Option<Found>; 2], OpenFailure> {
    match items {
        Items::KeyValues(number) if field.number == number => Ok([Some(find(field.body()?)?), None]),
        Items::Events if field.number == watch_response::EVENTS => {
            let (kv, prev_kv) = find_in_event(field.body()?)?;
            Ok([kv, prev_kv])
        }
        Items::KeyValues(_) | Items::Events => Ok([None, None]),
    }
}

fn find(kv: Body<'_>) -> Result<Found, OpenFailure> {
    let (mut key, mut value) = (None, None);
    for field in kv.fields() {
        let field = field?;
        match field.number {
            key_value::KEY => once(&mut key, key_value::KEY, field.body()?.extent)?,
            key_value::VALUE => {
                let content = field.body()?.extent;
                once(&mut value, key_value::VALUE, (content, (field.start, field.end)))?;
            }
            _ => {}
        }
    }
    let end = (kv.extent.end, kv.extent.end);
    Ok(Found {
        extent: kv.extent,
        key: key.map_or(end, |key| (key.start, key.end)),
        value: value.map_or(end, |(content, _)| (content.start, content.end)),
        field: value.map_or(end, |(_, field)| field),
    })
}

/// The `kv` and `prev_kv` of an event, so far as they have values: the `kv` of a DELETE is but a key and a revision, and
/// its absent value no empty one.
fn find_in_event(event: Body<'_>) -> Result<(Option<Found>, Option<Found>), OpenFailure> {
    let (mut kind, mut kv, mut prev_kv) = (None, None, None);
    for field in event.fields() {
        let field = field?;
        match field.number {
            event::TYPE => once(&mut kind, event::TYPE, field.enumeration()?)?,
            event::KV => once(&mut kv, event::KV, field.body()?)?,
            event::PREV_KV => once(&mut prev_kv, event::PREV_KV, field.body()?)?,
            _ => {}
        }
    }
    let kv = kv.filter(|_| kind != Some(event::TYPE_DELETE));
    Ok((kv.map(find).transpose()?, prev_kv.map(find).transpose()?))
}

/// The message being opened.
#[derive(Debug)]
enum Message {
    /// Not to be written to: it is short, or someone else holds it too.
    Shared(Bytes),
    /// Long, and ours alone.
    Own(BytesMut),
}

impl Message {
    fn new(message: Bytes) -> Self {
        if message.len() < IN_PLACE_FROM {
            return Self::Shared(message);
        }
        message.try_into_mut().map_or_else(Self::Shared, Self::Own)
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    /// Puts `content` at the start of `place`, if it may and fits there; says where it is then.
    fn overwrite(&mut self, place: (usize, usize), content: &[u8]) -> Option<(usize, usize)> {
        let Self::Own(bytes) = self else { return None };
        let end = place.0 + content.len();
        if end > place.1 {
            return None;
        }
        bytes.get_mut(place.0..end)?.copy_from_slice(content);
        Some((place.0, end))
    }

    fn into_bytes(mut self) -> Bytes {
        match &mut self {
            Self::Shared(bytes) => mem::take(bytes),
            Self::Own(bytes) => mem::take(bytes).freeze(),
        }
    }
}
