//! Opens the values of an answer, a few at a time if it is long, and makes the message that the client gets.
//!
//! What a value that does not open becomes:
//!
//! | | sealed | not sealed, though the rule lacks identity |
//! |---|---|---|
//! | a read | ciphertext, or a failure: [`OnUndecryptable`] | a failure: it is plaintext that nobody vouches for |
//! | after a write, or a watch's `prev_kv` | ciphertext | the empty value |
//!
//! A committed write must not look failed, for the client would do it again; and a watch must not end over a previous
//! value that few clients look at. Neither is a reason to hand out unauthenticated plaintext, so there it is emptied.

use std::{mem, vec};

use bytes::{Bytes, BytesMut};

use super::{Context, EscapedKey, OnUndecryptable, OpenFailure, Undecryptable};
use crate::{
    types::StorageKey,
    value,
    wire::{
        Body, Fields, Frame, Script, Spliced,
        etcd::{event, key_value, watch_response},
        once,
    },
};

/// From this length on, what is opened is put in its ciphertext's place (where nobody else holds the message), lest a list
/// of many megabytes lie in memory twice.
const IN_PLACE_FROM: usize = 256 * 1024;

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
                self.field(&mut leaf, ctx)?;
                spent += leaf.at - before;
            }
        }
        Ok(Progress::Done(Opened {
            message: self.script.apply(self.message.into_bytes()),
            undecryptable: self.undecryptable,
        }))
    }

    /// Opens all values at once. For messages that are known to be short.
    ///
    /// # Errors
    /// As [`OpenJob::step`].
    pub fn run(self, ctx: &Context<'_>) -> Result<Opened, OpenFailure> {
        let mut job = self;
        loop {
            match job.step(ctx, usize::MAX)? {
                Progress::More(rest) => job = rest,
                Progress::Done(opened) => return Ok(opened),
            }
        }
    }

    /// Deals with the next field of `leaf`.
    fn field(&mut self, leaf: &mut Leaf, ctx: &Context<'_>) -> Result<(), OpenFailure> {
        let bytes = self.message.as_bytes().get(leaf.at..leaf.end).unwrap_or_default();
        let Some(field) = Fields::from(bytes, leaf.at).next().transpose()? else {
            leaf.at = leaf.end;
            return Ok(());
        };
        leaf.at = field.end;
        match leaf.items {
            Items::KeyValues(number) if field.number == number => {
                let kv = find(field.body()?)?;
                self.open(&kv, leaf.frame, leaf.may_fail, ctx)
            }
            Items::Events if field.number == watch_response::EVENTS => {
                let event = field.body()?;
                let (kv, prev_kv) = find_in_event(event)?;
                let frame = self.script.enter(leaf.frame, event.extent);
                if let Some(kv) = kv {
                    self.open(&kv, frame, leaf.may_fail, ctx)?;
                }
                if let Some(prev_kv) = prev_kv {
                    self.open(&prev_kv, frame, false, ctx)?;
                }
                Ok(())
            }
            Items::KeyValues(_) | Items::Events => Ok(()),
        }
    }

    /// Opens the value of one `KeyValue`.
    fn open(&mut self, kv: &Found, parent: Frame, may_fail: bool, ctx: &Context<'_>) -> Result<(), OpenFailure> {
        let message = self.message.as_bytes();
        let key = message.get(kv.key.0..kv.key.1).unwrap_or_default();
        let stored = message.get(kv.value.0..kv.value.1).unwrap_or_default();
        let Some(chain) = ctx.keyring.chain(key) else {
            return Ok(());
        };
        let mark = self.script.mark();
        let opened = chain.from_storage(StorageKey(key), stored, self.script.fresh());
        match opened {
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
                let passes = sealed && ctx.on_undecryptable == OnUndecryptable::ReturnCiphertext;
                if may_fail && !passes {
                    let key = EscapedKey::new(key);
                    return Err(OpenFailure::Value { key, source });
                }
                self.undecryptable.add(key, source);
                if !sealed && !stored.is_empty() {
                    let frame = self.script.enter(parent, kv.extent);
                    self.script.remove(frame, kv.field.0, kv.field.1);
                }
            }
        }
        Ok(())
    }
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
