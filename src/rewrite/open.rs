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

use std::vec;

use bytes::Bytes;

use super::{
    Context, EscapedKey, OnUndecryptable, OpenFailure, Undecryptable,
    found::{Found, Items, find, find_in_event, values},
    message::{Message, disjoint},
};
use crate::{
    keyring::{Lap, Lookup},
    types::StorageKey,
    value::{self, OpenError},
    wire::{
        Extent, Fields, Frame, Script, Spliced,
        etcd::{key_value, watch_response},
    },
};

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
    /// Room that ciphers need, for one value after the other.
    spare: Vec<u8>,
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
            spare: Vec::new(),
        }
    }

    /// Opens values until about `budget` bytes of the message are dealt with; at least one value. Every step of a job
    /// takes the same keyring.
    ///
    /// # Errors
    /// [`OpenFailure`] if the answer must not be given to the client.
    pub fn step(mut self, ctx: &Context<'_>, budget: usize) -> Result<Progress, OpenFailure> {
        let mut pass = Pass::new(ctx);
        let mut spent = 0;
        while let Some(mut leaf) = self.leaf.take().or_else(|| self.leaves.next()) {
            while leaf.at < leaf.end {
                if spent > 0 && spent >= budget {
                    self.leaf = Some(leaf);
                    return Ok(Progress::More(self));
                }
                let before = leaf.at;
                if self.field(&mut leaf, &mut pass)? == Outcome::Pending {
                    leaf.at = before;
                    self.leaf = Some(leaf);
                    self.survey(ctx);
                    return Ok(Progress::Waiting(self));
                }
                spent += leaf.at - before;
            }
        }
        Ok(Progress::Done(Opened {
            message: self.message.spliced(self.script),
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
        let (key, stored) = (self.message.get(&kv.key), self.message.get(&kv.value));
        ctx.keyring
            .chain(key)
            .is_some_and(|chain| chain.is_pending(stored, ctx.deks))
    }

    /// Deals with the next field of `leaf`. Leaves no trace where that is pending.
    fn field(&mut self, leaf: &mut Leaf, pass: &mut Pass<'_>) -> Result<Outcome, OpenFailure> {
        let bytes = self.message.as_bytes().get(leaf.at..leaf.end).unwrap_or_default();
        let Some(field) = Fields::from(bytes, leaf.at).next().transpose()? else {
            leaf.at = leaf.end;
            return Ok(Outcome::Done);
        };
        leaf.at = field.end;
        match leaf.items {
            Items::KeyValues(number) if field.number == number => {
                let policy = Policy {
                    may_fail: leaf.may_fail,
                    ..Policy::READ
                };
                self.open(&find(field.body()?)?, leaf.frame, policy, pass)
            }
            Items::Keys(number) if field.number == number => {
                self.check_key(&find(field.body()?)?, pass)?;
                Ok(Outcome::Done)
            }
            Items::Events if field.number == watch_response::EVENTS => {
                let event = field.body()?;
                let (extent, found) = (event.extent, find_in_event(event)?);
                self.event(extent, found, leaf.frame, pass)
            }
            Items::KeyValues(_) | Items::Keys(_) | Items::Events => Ok(Outcome::Done),
        }
    }

    /// A record of the proxy's own is in no answer to a client: ranges are asked for without them. A store that gives one all the same
    /// is not believed anything.
    fn check_key(&self, kv: &Found, pass: &Pass<'_>) -> Result<(), OpenFailure> {
        if pass.ctx.state.contains(self.message.get(&kv.key)) {
            return Err(OpenFailure::Stray);
        }
        Ok(())
    }

    /// Opens the values of one event.
    fn event(
        &mut self,
        event: Extent,
        (kv, prev_kv): (Option<Found>, Option<Found>),
        parent: Frame,
        pass: &mut Pass<'_>,
    ) -> Result<Outcome, OpenFailure> {
        if let Some(kv) = &kv {
            self.check_key(kv, pass)?;
        }
        let both = [
            kv.filter(Found::may_have_value).map(|kv| (kv, Policy::EVENT)),
            prev_kv.map(|kv| (kv, Policy::PREV_KV)),
        ];
        // Before either is opened: an event is opened as a whole or not yet. What is at hand for it now stays so.
        let ctx = pass.ctx;
        if ctx.keyring.may_wait() && both.iter().flatten().any(|(kv, _)| self.is_pending(kv, ctx)) {
            return Ok(Outcome::Pending);
        }
        if both.iter().any(Option::is_some) {
            let frame = self.script.enter(parent, event);
            for (kv, policy) in both.into_iter().flatten() {
                self.open(&kv, frame, policy, pass)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Opens the value of one `KeyValue`.
    fn open(&mut self, kv: &Found, parent: Frame, policy: Policy, pass: &mut Pass<'_>) -> Result<Outcome, OpenFailure> {
        self.check_key(kv, pass)?;
        let key = self.message.get(&kv.key);
        let Some(sealer) = pass.rules.chain(key) else {
            pass.lap.pause();
            return Ok(Outcome::Done);
        };
        let mark = self.script.mark();
        // Where it lies, or a copy of it. What fails leaves the place as it was.
        let (key, place) = match &mut self.message {
            Message::Own(message) => disjoint(message, &kv.key, &kv.value)?,
            Message::Shared(message) => {
                let fresh = self.script.fresh();
                fresh.extend_from_slice(message.get(kv.value.clone()).unwrap_or_default());
                let place = fresh.get_mut(mark..).unwrap_or_default();
                (message.get(kv.key.clone()).unwrap_or_default(), place)
            }
        };
        let opened =
            sealer.from_storage_in_place(StorageKey(key), place, pass.ctx.deks, &mut self.spare, &mut pass.lap);
        let at = match opened {
            Ok((_, at)) => at,
            Err(error) => {
                self.script.discard(mark);
                return if error == OpenError::Pending {
                    Ok(Outcome::Pending)
                } else {
                    self.unopened(kv, parent, policy, pass.ctx, error)
                };
            }
        };
        // Whatever is sealed is longer than its plaintext.
        if at.len() == kv.value.len() {
            self.script.discard(mark);
            return Ok(Outcome::Done);
        }
        let frame = self.script.enter(parent, kv.extent);
        match self.message {
            Message::Own(_) => {
                let content = (kv.value.start + at.start, kv.value.start + at.end);
                self.script
                    .set_field_in_place(frame, kv.field, key_value::VALUE, content);
            }
            Message::Shared(_) => {
                let content = (mark + at.start, mark + at.end);
                self.script.set_field_to(frame, kv.field, key_value::VALUE, content);
            }
        }
        Ok(Outcome::Done)
    }

    /// Decides what becomes of a value that did not open.
    #[cold]
    fn unopened(
        &mut self,
        kv: &Found,
        parent: Frame,
        policy: Policy,
        ctx: &Context<'_>,
        source: OpenError,
    ) -> Result<Outcome, OpenFailure> {
        let (key, stored) = (self.message.get(&kv.key), self.message.get(&kv.value));
        let sealed = value::is_sealed(stored);
        let passes = sealed
            && ctx.on_undecryptable == OnUndecryptable::ReturnCiphertext
            && !(policy.waits_for_kms && source.is_transient());
        if policy.may_fail && !passes {
            return Err(OpenFailure::Value {
                key: EscapedKey::new(key),
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
        Ok(Outcome::Done)
    }
}

/// One step: what values have in common that are opened one right behind the other.
struct Pass<'a> {
    ctx: &'a Context<'a>,
    rules: Lookup<'a>,
    lap: Lap,
}

impl<'a> Pass<'a> {
    fn new(ctx: &'a Context<'a>) -> Self {
        Self {
            ctx,
            rules: ctx.keyring.lookup(),
            lap: Lap::default(),
        }
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
