//! Watch: one session per client stream. Requests are checked; in responses events are opened, and those of the proxy's
//! own records left out. Every message is dealt with by itself: none is held back, joined or made up.

use bytes::Bytes;

use super::{Context, OpenFailure, OpenJob, Refusal, bounds, bounds::whole, found::Items, oneof};
use crate::{
    types::{KeyRange, Reach, StatePrefix},
    wire::{
        Body, Fields, Frame, Script, Spliced, WireError,
        etcd::{
            event, key_value, watch_request,
            watch_response::{CANCELED, COMPACT_REVISION, CREATED, EVENTS, FRAGMENT, WATCH_ID},
        },
        once, put_bytes,
    },
};

/// What one client's watch stream has to remember.
#[derive(Debug, Default)]
pub struct WatchSession {
    /// Whether any of its watches spans the proxy's own records. If not, no event can be of them.
    spans_state: bool,
    /// Watches that etcd has confirmed and not cancelled since.
    open: u32,
    /// Watches of which a fragment has been passed on and the last one is yet to come. etcd sends the fragments of one
    /// watch in a row, so there is hardly more than one.
    fragmented: Vec<i64>,
}

/// What of a `WatchResponse` decides whether it may be left out.
#[derive(Debug, Default)]
struct Head {
    watch_id: Option<i64>,
    created: Option<bool>,
    canceled: Option<bool>,
    compact_revision: Option<i64>,
    fragment: Option<bool>,
    events: usize,
    /// Events of the proxy's own records.
    hidden: usize,
}

impl WatchSession {
    /// A stream without a watch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks a `WatchRequest`; what goes on to etcd is the message as it is, but for a watch without a key: it gets the one that
    /// etcd takes it for.
    ///
    /// # Errors
    /// [`Refusal::StatePrefix`] for a watch of nothing but the proxy's own records; [`Refusal::Malformed`];
    /// [`Refusal::UnknownKind`].
    pub fn request(&mut self, message: Bytes, ctx: &Context<'_>) -> Result<Spliced, Refusal> {
        if let Some(asked) = oneof::asked(whole(&message), watch_request::PROGRESS)?
            && asked.field.number == watch_request::CREATE
        {
            let bounds = bounds::parse(asked.body.fields())?;
            let (key, end) = bounds.watched();
            match ctx.state.reach(KeyRange::new(key, end)) {
                Reach::Clear => {}
                Reach::Inside => return Err(Refusal::StatePrefix),
                Reach::Around { .. } => self.spans_state = true,
            }
            if bounds.key().is_empty() {
                let mut create = Vec::new();
                bounds::put_with_bounds(&mut create, asked.body, (key, end), &[])?;
                let mut request = Vec::new();
                put_bytes(&mut request, watch_request::CREATE, &create);
                return Ok(Spliced::untouched(request.into()));
            }
        }
        Ok(Spliced::untouched(message))
    }

    /// Begins to open a `WatchResponse`. `None`: nothing is left of it, and the client must not get it, for a response
    /// without an event would tell it of progress.
    ///
    /// # Errors
    /// [`OpenFailure::Malformed`].
    pub fn response(&mut self, message: Bytes, ctx: &Context<'_>) -> Result<Option<OpenJob>, OpenFailure> {
        self.count(&message);
        let message = if self.spans_state {
            let Some(message) = self.without_state(message, ctx.state)? else {
                return Ok(None);
            };
            message
        } else {
            message
        };
        Ok(Some(OpenJob::of(message, Items::Events, true)))
    }

    /// How many watches are open on the stream: confirmed by etcd and not cancelled since.
    pub fn open_watches(&self) -> u32 {
        self.open
    }

    /// Takes note of a watch that begins or ends. Such a response has no events, so a long one is not read to its end; one
    /// that can't be read is not refused over a count.
    fn count(&mut self, message: &[u8]) {
        let head = Fields::new(message).map_while(Result::ok);
        for field in head.take_while(|field| field.number != EVENTS) {
            let is_set = field.flag().unwrap_or_default();
            match field.number {
                CREATED if is_set => self.open = self.open.saturating_add(1),
                CANCELED if is_set => self.open = self.open.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// The response without events of the proxy's own records; `None` if nothing is left of it.
    fn without_state(&mut self, message: Bytes, state: &StatePrefix) -> Result<Option<Bytes>, WireError> {
        let mut script = Script::new();
        let head = read(&message, state, &mut script)?;
        let watch_id = head.watch_id.unwrap_or_default();
        let fragment = head.fragment.unwrap_or_default();
        let other_news = head.created.unwrap_or_default()
            || head.canceled.unwrap_or_default()
            || head.compact_revision.unwrap_or_default() != 0;
        let emptied = head.hidden > 0 && head.hidden == head.events && !other_news;
        let begun = self.fragmented.iter().position(|&id| id == watch_id);
        match begun {
            // The rest of a series is emptied: only its end must be told, or the client would wait for it.
            Some(_) | None if emptied && (fragment || begun.is_none()) => return Ok(None),
            Some(begun) if !fragment => {
                self.fragmented.swap_remove(begun);
            }
            None if fragment => self.fragmented.push(watch_id),
            Some(_) | None => {}
        }
        Ok(Some(script.apply(message).into_bytes()))
    }
}

/// Reads the response and records in `script` which events go.
fn read(message: &[u8], state: &StatePrefix, script: &mut Script) -> Result<Head, WireError> {
    let mut head = Head::default();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            WATCH_ID => once(&mut head.watch_id, WATCH_ID, field.int64()?)?,
            CREATED => once(&mut head.created, CREATED, field.flag()?)?,
            CANCELED => once(&mut head.canceled, CANCELED, field.flag()?)?,
            COMPACT_REVISION => once(&mut head.compact_revision, COMPACT_REVISION, field.int64()?)?,
            FRAGMENT => once(&mut head.fragment, FRAGMENT, field.flag()?)?,
            EVENTS => {
                head.events += 1;
                if state.contains(key(field.body()?)?) {
                    head.hidden += 1;
                    script.remove(Frame::TOP, field.start, field.end);
                }
            }
            _ => {}
        }
    }
    Ok(head)
}

/// The key that an event is about.
fn key(event: Body<'_>) -> Result<&[u8], WireError> {
    let (mut kv, mut key) = (None, None);
    for field in event.fields() {
        let field = field?;
        if field.number == event::KV {
            once(&mut kv, event::KV, field.body()?)?;
        }
    }
    for field in kv.iter().flat_map(Body::fields) {
        let field = field?;
        if field.number == key_value::KEY {
            once(&mut key, key_value::KEY, field.body()?.bytes)?;
        }
    }
    Ok(key.unwrap_or_default())
}
