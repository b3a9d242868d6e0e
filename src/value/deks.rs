//! The DEKs that one message needs beyond those at hand: noted while it is rewritten, fetched all at once, and kept until
//! it is done, so that a cache that forgets cannot make the same message wait for ever. Belongs to one message.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;

use super::{DekV1, DekV2, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, OpenError, SealError, WrappedDek};

/// How many DEKs are fetched for one message at a time. One that needs more (a list of values that KMS v1 has sealed, each
/// with its own) is opened so many at a time: this bounds what its DEKs take here, some 500 KiB.
const MAX_MISSING: usize = 512;

/// Whether a value can be opened with what is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It can, or it can't whatever is fetched.
    Nothing,
    /// A DEK has been noted as missing.
    Pending,
}

/// The DEKs of one message.
///
/// [`super::Chain::to_storage`] and [`super::Chain::from_storage`] fail with `Pending` where one is missing; after
/// [`Deks::fetch`] the same is tried again, and gets further.
#[derive(Debug, Default)]
pub struct Deks(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By who unwraps it, and a digest of what it is wrapped in.
    v1: HashMap<Id, Slot<V1, DekV1>>,
    v2: HashMap<Id, Slot<V2, DekV2>>,
    missing: usize,
    /// Unused DEKs to seal with, in the order in which the message takes them.
    fresh: Vec<(usize, Result<FreshDek, KmsFailure>)>,
    /// How many of them have been taken since the message was begun anew.
    taken: usize,
    /// Who is to make the next one.
    wanted: Option<Arc<dyn KmsV1Keys>>,
}

type Id = (usize, [u8; 32]);

/// A DEK that a value is sealed with.
#[derive(Debug)]
enum Slot<M, D> {
    /// To be fetched.
    Missing(M),
    Fetched(Result<Arc<D>, KmsFailure>),
}

/// Who is to unwrap what.
type V1 = (Arc<dyn KmsV1Keys>, Vec<u8>);
type V2 = (Arc<dyn KmsV2Keys>, WrappedDek<'static>);

impl Deks {
    /// Whether nothing more should be noted before what is missing has been fetched.
    pub fn is_full(&self) -> bool {
        self.lock().missing >= MAX_MISSING
    }

    /// Asks the plugins for all that is missing, and forgets what was fetched before for values that are open by now. What
    /// fails is noted as well: whoever needed it learns why.
    ///
    /// Returns within the plugins' timeouts.
    pub async fn fetch(&mut self) {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.missing = 0;
        inner.taken = 0;
        let v1 = inner.v1.drain().filter_map(|(id, slot)| match slot {
            Slot::Missing((keys, wrapped)) => Some(async move { (id, keys.unwrap(wrapped).await) }),
            Slot::Fetched(_) => None,
        });
        let v1 = join_all(v1.collect::<Vec<_>>());
        let v2 = inner.v2.drain().filter_map(|(id, slot)| match slot {
            Slot::Missing((keys, wrapped)) => Some(async move { (id, keys.unwrap(wrapped).await) }),
            Slot::Fetched(_) => None,
        });
        let v2 = join_all(v2.collect::<Vec<_>>());
        let fresh = inner.wanted.take().map(|keys| {
            let id = address(&keys);
            async move { (id, keys.generate().await) }
        });
        let fresh = join_all(fresh);
        let (v1, v2, fresh) = futures_util::join!(v1, v2, fresh);
        inner
            .v1
            .extend(v1.into_iter().map(|(id, dek)| (id, Slot::Fetched(dek))));
        inner
            .v2
            .extend(v2.into_iter().map(|(id, dek)| (id, Slot::Fetched(dek))));
        inner.fresh.extend(fresh);
    }

    /// Never waits: a message is rewritten by one thread at a time.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A DEK of `keys` that no other value of the message is sealed with.
    pub(super) fn fresh(&self, keys: &Arc<dyn KmsV1Keys>) -> Result<FreshDek, SealError> {
        let inner = &mut *self.lock();
        match inner.fresh.get(inner.taken) {
            // Each pass over a message takes them in the same order; were it another, a DEK of another plugin must not be
            // taken for one of this.
            Some((id, fresh)) if *id == address(keys) => {
                inner.taken += 1;
                fresh.clone().map_err(SealError::Kms)
            }
            _ => {
                inner.fresh.truncate(inner.taken);
                inner.wanted = Some(Arc::clone(keys));
                Err(SealError::Pending)
            }
        }
    }

    /// The DEK in `wrapped`, if it has been fetched.
    pub(super) fn v1(&self, keys: &Arc<dyn KmsV1Keys>, wrapped: &[u8]) -> Result<Arc<DekV1>, OpenError> {
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, wrapped).as_ref());
        let inner = &mut *self.lock();
        let missing = || Slot::Missing((Arc::clone(keys), wrapped.to_vec()));
        lookup(inner.v1.entry((address(keys), sum)), missing, &mut inner.missing)
    }

    /// What is in `wrapped`, if it has been fetched.
    pub(super) fn v2(&self, keys: &Arc<dyn KmsV2Keys>, wrapped: &WrappedDek<'_>) -> Result<Arc<DekV2>, OpenError> {
        let inner = &mut *self.lock();
        let missing = || Slot::Missing((Arc::clone(keys), wrapped.clone().into_owned()));
        let id = (address(keys), wrapped.digest());
        lookup(inner.v2.entry(id), missing, &mut inner.missing)
    }
}

fn lookup<M, D>(
    entry: Entry<'_, Id, Slot<M, D>>,
    missing: impl FnOnce() -> Slot<M, D>,
    count: &mut usize,
) -> Result<Arc<D>, OpenError> {
    match entry {
        Entry::Occupied(slot) => match slot.get() {
            Slot::Fetched(dek) => dek.clone().map_err(OpenError::Kms),
            Slot::Missing(_) => Err(OpenError::Pending),
        },
        Entry::Vacant(slot) => {
            slot.insert(missing());
            *count += 1;
            Err(OpenError::Pending)
        }
    }
}

/// Tells plugins apart: the message's keyring keeps them alive, so no other comes to lie at the same address.
fn address<T: ?Sized>(keys: &Arc<T>) -> usize {
    Arc::as_ptr(keys).cast::<()>() as usize
}
