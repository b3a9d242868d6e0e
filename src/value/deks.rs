//! The DEKs that one message needs beyond those at hand: noted while it is rewritten, fetched all at once, and kept until
//! it is done, so that a cache that forgets cannot make the same message wait for ever. Belongs to one message.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;

use super::{DekV1, DekV2, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys, OpenError, SealError, WrappedDek};

/// How many DEKs are fetched for one message at a time. One that needs more (a list of values that KMS v1 has sealed, each
/// with its own) is opened so many at a time: this bounds what its DEKs take here, some 500 KiB, and as much again for those
/// that it was opened with just before.
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
pub struct Deks {
    /// Nothing, for most messages: they need only what is at hand.
    inner: Mutex<Option<Box<Inner>>>,
    /// Whether the plugin is to unwrap a DEK of KMS v1 even where it is at hand.
    doubts: bool,
}

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
    /// Who is to make the next ones, in that order.
    wanted: Vec<Arc<dyn KmsV1Keys>>,
}

type Id = (usize, [u8; 32]);

/// A DEK that a value is sealed with.
#[derive(Debug)]
enum Slot<M, D> {
    /// To be fetched.
    Missing(M),
    /// Here until the message is done with it.
    Held {
        dek: Result<Arc<D>, KmsFailure>,
        /// Whether it was asked for since the last fetch: a value that is not open yet may want it.
        is_wanted: bool,
    },
}

impl<M, D> Slot<M, D> {
    fn held(dek: Result<Arc<D>, KmsFailure>) -> Self {
        Self::Held { dek, is_wanted: true }
    }
}

/// Who is to unwrap what.
type V1 = (Arc<dyn KmsV1Keys>, Vec<u8>);
type V2 = (Arc<dyn KmsV2Keys>, WrappedDek<'static>);

impl Deks {
    /// For who must know that a value can be read when nothing but the plugin is left that knows its DEK: those of KMS v1
    /// are unwrapped by the plugin, whatever is cached. A seed of KMS v2 writes only once the plugin has unwrapped it.
    pub fn past_caches() -> Self {
        Self {
            doubts: true,
            ..Self::default()
        }
    }

    /// What `keys` have at hand for `wrapped`, if that counts here.
    pub(super) fn cached_v1(&self, keys: &Arc<dyn KmsV1Keys>, wrapped: &[u8]) -> Option<Arc<DekV1>> {
        if self.doubts { None } else { keys.cached(wrapped) }
    }

    /// Whether nothing more should be noted before what is missing has been fetched.
    pub fn is_full(&self) -> bool {
        let inner = self.lock();
        inner
            .as_ref()
            .is_some_and(|inner| inner.missing + inner.wanted.len() >= MAX_MISSING)
    }

    /// Asks the plugins for all that is missing, and forgets what has not been of use since the last time: its values are open
    /// by now. What fails is noted as well: whoever needed it learns why.
    ///
    /// Returns within the plugins' timeouts, unless others are in line before it or the plugin bears no more calls at a time.
    pub async fn fetch(&mut self) {
        let doubts = self.doubts;
        let Some(inner) = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner) else {
            return;
        };
        inner.missing = 0;
        inner.taken = 0;
        let v1 = missing(&mut inner.v1).into_iter();
        let unwrap = |keys: Arc<dyn KmsV1Keys>, wrapped| {
            if doubts {
                keys.unwrap_anew(wrapped)
            } else {
                keys.unwrap(wrapped)
            }
        };
        let v1 = join_all(v1.map(|(id, (keys, wrapped))| async move { (id, unwrap(keys, wrapped).await) }));
        let v2 = missing(&mut inner.v2).into_iter();
        let v2 = join_all(v2.map(|(id, (keys, wrapped))| async move { (id, keys.unwrap(wrapped).await) }));
        let wanted = std::mem::take(&mut inner.wanted).into_iter();
        let fresh = join_all(wanted.map(|keys| async move { (address(&keys), keys.generate().await) }));
        let (v1, v2, fresh) = futures_util::join!(v1, v2, fresh);
        inner.v1.extend(v1.into_iter().map(|(id, dek)| (id, Slot::held(dek))));
        inner.v2.extend(v2.into_iter().map(|(id, dek)| (id, Slot::held(dek))));
        inner.fresh.extend(fresh);
    }

    /// Never waits: a message is rewritten by one thread at a time.
    fn lock(&self) -> MutexGuard<'_, Option<Box<Inner>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A DEK of `keys` that no other value of the message is sealed with.
    pub(super) fn fresh(&self, keys: &Arc<dyn KmsV1Keys>) -> Result<FreshDek, SealError> {
        let mut held = self.lock();
        let inner = &mut **held.get_or_insert_default();
        match inner.fresh.get(inner.taken) {
            // Each pass over a message takes them in the same order; were it another, a DEK of another plugin must not be
            // taken for one of this.
            Some((id, fresh)) if *id == address(keys) && inner.wanted.is_empty() => {
                inner.taken += 1;
                fresh.clone().map_err(SealError::Kms)
            }
            _ => {
                inner.fresh.truncate(inner.taken);
                inner.wanted.push(Arc::clone(keys));
                Err(SealError::Pending)
            }
        }
    }

    /// The DEK in `wrapped`, if it has been fetched or is held.
    pub(super) fn v1(&self, keys: &Arc<dyn KmsV1Keys>, wrapped: &[u8]) -> Result<Arc<DekV1>, OpenError> {
        let mut held = self.lock();
        let inner = &mut **held.get_or_insert_default();
        let missing = || Slot::Missing((Arc::clone(keys), wrapped.to_vec()));
        lookup(inner.v1.entry(id_v1(keys, wrapped)), missing, &mut inner.missing)
    }

    /// Has the DEK in `wrapped`, which is at hand now, be so until the message is done with it.
    pub(super) fn hold_v1(&self, keys: &Arc<dyn KmsV1Keys>, wrapped: &[u8], dek: Arc<DekV1>) {
        self.lock()
            .get_or_insert_default()
            .v1
            .insert(id_v1(keys, wrapped), Slot::held(Ok(dek)));
    }

    /// What is in `wrapped`, if it has been fetched or is held.
    pub(super) fn v2(&self, keys: &Arc<dyn KmsV2Keys>, wrapped: &WrappedDek<'_>) -> Result<Arc<DekV2>, OpenError> {
        let mut held = self.lock();
        let inner = &mut **held.get_or_insert_default();
        let missing = || Slot::Missing((Arc::clone(keys), wrapped.clone().into_owned()));
        let id = (address(keys), wrapped.digest());
        lookup(inner.v2.entry(id), missing, &mut inner.missing)
    }

    /// Has what is in `wrapped`, which is at hand now, be so until the message is done with it.
    pub(super) fn hold_v2(&self, keys: &Arc<dyn KmsV2Keys>, wrapped: &WrappedDek<'_>, dek: Arc<DekV2>) {
        let id = (address(keys), wrapped.digest());
        self.lock().get_or_insert_default().v2.insert(id, Slot::held(Ok(dek)));
    }
}

/// Takes out what is to be fetched, and leaves of the rest what is still of use.
fn missing<M, D>(slots: &mut HashMap<Id, Slot<M, D>>) -> Vec<(Id, M)> {
    let mut missing = Vec::new();
    for (id, slot) in std::mem::take(slots) {
        match slot {
            Slot::Missing(from) => missing.push((id, from)),
            Slot::Held { dek, is_wanted: true } => {
                slots.insert(id, Slot::Held { dek, is_wanted: false });
            }
            Slot::Held { is_wanted: false, .. } => {}
        }
    }
    missing
}

fn id_v1(keys: &Arc<dyn KmsV1Keys>, wrapped: &[u8]) -> Id {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, wrapped).as_ref());
    (address(keys), sum)
}

fn lookup<M, D>(
    entry: Entry<'_, Id, Slot<M, D>>,
    missing: impl FnOnce() -> Slot<M, D>,
    count: &mut usize,
) -> Result<Arc<D>, OpenError> {
    match entry {
        Entry::Occupied(mut slot) => match slot.get_mut() {
            Slot::Held { dek, is_wanted } => {
                *is_wanted = true;
                dek.clone().map_err(OpenError::Kms)
            }
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
