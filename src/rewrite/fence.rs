//! The fence: a request that stores a value under a rule is sent so that etcd applies it only in the epoch that its value was
//! sealed in. However late it arrives, it changes nothing once the epoch has been replaced.
//!
//! A layer around a request that is rewritten already: some bytes before the message, some behind it. What comes back is
//! made the answer that the client expects, or found to say that nothing was written.
//!
//! Two forms. *Flat*: one compare more in the client's transaction. Where a compare does not hold, the answer does not tell
//! whose; the epoch is then read, and as it never comes back once it was replaced, the answer is the client's if it is still the
//! request's. A put becomes a transaction of that form. Where the failure branch writes, that would write although the client's
//! compares hold; such a transaction is *nested* as a whole in one that compares the epoch. etcd up to 3.4 and early versions of
//! 3.5 do not check permissions within a nested transaction, so that is for requests that need none.

use bytes::Bytes;

use super::{
    OpenFailure, OpenJob, ResponsePlan, UnaryRequest,
    bounds::raw,
    oneof::{self, Member},
    plan::{OpPlan, Plan, Txns},
};
use crate::{
    types::{Epoch, StatePrefix},
    wire::{
        Body, Fields, Spliced, WireError,
        etcd::{compare, key_value, op, put_response, range_request, range_response, txn_request, txn_response},
        once, put_bytes, put_bytes_header, put_varint,
    },
};

/// The fence of one epoch: what every request that was sealed in it carries. Made once for all of them.
#[derive(Debug)]
pub struct Fence {
    epoch: Epoch,
    /// The compare, as a field of a `TxnRequest`.
    field: Vec<u8>,
}

/// A request under the fence: `head`, `message`, and [`Fence::field`] behind them are a `TxnRequest`.
#[derive(Debug)]
pub struct Fenced {
    /// Goes before the message.
    pub head: Vec<u8>,
    /// The client's message, rewritten.
    pub message: Spliced,
    /// How the answer is to be read.
    pub response: FencedResponse,
}

/// How the answer to a request under the fence is to be read.
#[derive(Debug)]
pub struct FencedResponse {
    form: Form,
    epoch: Epoch,
    response: ResponsePlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The client's put is all that the transaction does.
    Put,
    Flat,
    Nested,
}

/// A request that cannot be fenced, as it was.
#[derive(Debug)]
pub struct Unfenced(pub Box<UnaryRequest>);

/// What came of a request under the fence.
#[derive(Debug)]
pub enum Lifted {
    /// etcd has looked at it; its answer is to be opened.
    Answered(OpenJob),
    /// Nothing was written: a compare did not hold, of the client's, or that of this epoch. If it still is the one in etcd, the
    /// answer is the client's.
    Either(OpenJob, Epoch),
    /// The epoch was another one than this, and nothing was written.
    Over(Epoch),
}

impl Fence {
    /// Of `epoch`, which lies under `state`.
    pub fn new(epoch: &Epoch, state: &StatePrefix) -> Self {
        let key = Epoch::key(state);
        let mut guard = Vec::with_capacity(key.len() + 80);
        let target = match epoch.nonce() {
            Some(_) => compare::TARGET_VALUE,
            // With no revision, which is 0: the key does not exist.
            None => compare::TARGET_CREATE,
        };
        put_varint(&mut guard, compare::TARGET, u64::from(target.cast_unsigned()));
        put_bytes(&mut guard, compare::KEY, &key);
        if let Some(nonce) = epoch.nonce() {
            put_bytes(&mut guard, compare::VALUE, nonce);
        }
        let mut field = Vec::with_capacity(guard.len() + 8);
        if !cfg!(feature = "without-fence") {
            put_bytes(&mut field, txn_request::COMPARE, &guard);
        }
        Self {
            epoch: epoch.clone(),
            field,
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// What goes behind the message of a request under this fence.
    pub fn field(&self) -> &[u8] {
        &self.field
    }
}

/// A `RangeRequest` for the epoch under `state`.
pub fn epoch_request(state: &StatePrefix) -> Bytes {
    let mut request = Vec::new();
    put_bytes(&mut request, range_request::KEY, &Epoch::key(state));
    request.into()
}

/// Whether the epoch that etcd has answered with is this one.
///
/// # Errors
/// [`OpenFailure`] if `message` is no answer to [`epoch_request`].
pub fn is_epoch(message: &[u8], epoch: &Epoch, state: &StatePrefix) -> Result<bool, OpenFailure> {
    let mut found = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number != range_response::KVS {
            continue;
        }
        let (mut key, mut value) = (None, None);
        for field in field.body()?.fields() {
            let field = field?;
            match field.number {
                key_value::KEY => once(&mut key, field.number, field.body()?.bytes)?,
                key_value::VALUE => once(&mut value, field.number, field.body()?.bytes)?,
                _ => {}
            }
        }
        if key != Some(&Epoch::key(state)[..]) {
            return Err(OpenFailure::Mismatch);
        }
        once(&mut found, field.number, value.unwrap_or_default())?;
    }
    Ok(found == epoch.nonce())
}

impl UnaryRequest {
    /// Puts the fence around the request. `nests` is whether transactions may be nested: the request needs no permission.
    ///
    /// # Errors
    /// [`Unfenced`] for a transaction that can only be nested where that may not be.
    pub fn fenced(self, fence: &Fence, nests: bool) -> Result<Fenced, Unfenced> {
        let form = match &self.response.0 {
            Plan::Put(_) => Form::Put,
            Plan::Txn(txns) if !txns.writes_on_failure() => Form::Flat,
            _ if nests => Form::Nested,
            _ => return Err(Unfenced(Box::new(self))),
        };
        let mut head = Vec::new();
        let (len, member) = (self.message.len(), if form == Form::Put { op::PUT } else { op::TXN });
        if form != Form::Flat {
            let mut inner = Vec::with_capacity(8);
            put_bytes_header(&mut inner, member, len);
            head.reserve_exact(8 + inner.len());
            put_bytes_header(&mut head, txn_request::SUCCESS, inner.len() + len);
            head.extend_from_slice(&inner);
        }
        Ok(Fenced {
            head,
            message: self.message,
            response: FencedResponse {
                form,
                epoch: fence.epoch.clone(),
                response: self.response,
            },
        })
    }
}

impl FencedResponse {
    /// Begins to open `message`, etcd's answer.
    ///
    /// # Errors
    /// [`OpenFailure`] if the answer is not shaped as the request demands.
    pub fn open(self, message: Bytes) -> Result<Lifted, OpenFailure> {
        let answer = Answer::read(&message)?;
        match (self.form, answer.succeeded) {
            (Form::Flat, true) => self.response.open(message).map(Lifted::Answered),
            (Form::Flat, false) => Ok(Lifted::Either(self.response.open(message)?, self.epoch)),
            (Form::Put | Form::Nested, true) => {
                let (member, header) = match self.form {
                    Form::Put => (op::PUT, put_response::HEADER),
                    _ => (op::TXN, txn_response::HEADER),
                };
                let inner = member_of(answer.last.ok_or(OpenFailure::Mismatch)?, member)?;
                let answer = inner_answer(answer.header, inner, header)?;
                self.response.open(answer).map(Lifted::Answered)
            }
            // Nothing but the epoch was compared.
            (Form::Put | Form::Nested, false) => Ok(Lifted::Over(self.epoch)),
        }
    }
}

/// A `TxnResponse`, so far as the fence needs it.
struct Answer<'a> {
    succeeded: bool,
    /// The header, tag included.
    header: Option<&'a [u8]>,
    /// The last response.
    last: Option<Body<'a>>,
}

impl<'a> Answer<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let (mut succeeded, mut header, mut last) = (None, None, None);
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                txn_response::SUCCEEDED => once(&mut succeeded, field.number, field.flag()?)?,
                txn_response::HEADER => once(&mut header, field.number, raw(message, 0, &field))?,
                txn_response::RESPONSES => last = Some(field.body()?),
                _ => {}
            }
        }
        Ok(Self {
            succeeded: succeeded.unwrap_or_default(),
            header,
            last,
        })
    }
}

/// What a `ResponseOp` holds, if that is the member `number`.
fn member_of(response: Body<'_>, number: u32) -> Result<Body<'_>, OpenFailure> {
    match oneof::answered(response, op::TXN)? {
        Some(Member { field, body }) if field.number == number => Ok(body),
        _ => Err(OpenFailure::Mismatch),
    }
}

/// The answer to one operation as the answer to a call: with the header that only the whole transaction has.
fn inner_answer(header: Option<&[u8]>, inner: Body<'_>, header_number: u32) -> Result<Bytes, OpenFailure> {
    let header = header.unwrap_or_default();
    let mut out = Vec::with_capacity(header.len() + inner.bytes.len());
    out.extend_from_slice(header);
    for field in inner.fields() {
        let field = field?;
        if field.number != header_number {
            out.extend_from_slice(raw(inner.bytes, inner.extent.start, &field));
        }
    }
    Ok(out.into())
}

impl Txns {
    /// Whether the failure branch of the outermost transaction holds anything that writes, at whatever depth.
    fn writes_on_failure(&self) -> bool {
        let mut ops: Vec<&OpPlan> = self.0.first().map_or_else(Vec::new, |txn| txn.failure.iter().collect());
        while let Some(op) = ops.pop() {
            match op {
                OpPlan::Put(_) | OpPlan::DeleteRange { .. } => return true,
                OpPlan::Txn(nested) => {
                    let nested = self.0.get(*nested).into_iter();
                    ops.extend(nested.flat_map(|txn| txn.success.iter().chain(&txn.failure)));
                }
                OpPlan::Range(_) | OpPlan::Empty => {}
            }
        }
        false
    }
}
