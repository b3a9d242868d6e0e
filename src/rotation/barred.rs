//! What a process asks before it writes: whether a rotation has removed a key that it still writes with. Reads only.
//!
//! Where the record cannot be read, the last one that could be answers, from etcd's history: nobody of ours replaces one that
//! cannot be read, so no note that a key is going is missing there. That is as good as the record itself, and goes on being so
//! for as long as what lies there is the same. Without it the answer is no.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::damaged::Damaged;
use super::record::Record;
use crate::config::{KeyId, ProviderType};
use crate::etcd::{CallError, Store};
use crate::keyring::Keyring;
use crate::types::StatePrefix;

/// Why a keyring may not be written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// This key is gone, or going: what it would seal nobody else could open.
    Key(KeyId),
    /// What etcd keeps of rotations cannot be read, and what it was before is not known.
    Record(String),
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) if key.key_type().is_none() => write!(
                f,
                "{key} was removed by `secrets-encrypt migrate`: the configuration here is an old one. Give this process the one                  that the others have; or, if it is to write again, run `secrets-encrypt reencrypt --force --skip`, which takes it                  from there"
            ),
            Self::Key(key) => write!(
                f,
                "{key} was removed by a rotation: the configuration here is an old one. Give this process the one that the \
                 others have; or, if this key is to write again, run `secrets-encrypt rotate-keys`, which takes it from there"
            ),
            Self::Record(why) => f.write_str(why),
        }
    }
}

/// Whether a rotation of the store has removed a key that `keyring` writes with, or is about to.
///
/// # Errors
/// etcd gave no usable answer.
pub async fn barred<S: Store>(store: &S, state: &StatePrefix, keyring: &Keyring) -> Result<Option<Barred>, CallError> {
    Notes::default().barred(store, state, keyring).await
}

/// What a process knows of a record that cannot be read: what it was before. Kept for as long as it runs, since etcd's history
/// does not last as long.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    /// Of the record that cannot be read.
    revision: i64,
    /// `None` where it is not known.
    before: Option<Record>,
}

impl Notes {
    /// The same, remembering what was found in etcd's history.
    ///
    /// # Errors
    /// etcd gave no usable answer.
    pub async fn barred<S: Store>(
        &self,
        store: &S,
        state: &StatePrefix,
        keyring: &Keyring,
    ) -> Result<Option<Barred>, CallError> {
        let damaged = match Record::load(store, state).await? {
            Ok((record, _)) => return Ok(judged(&record, keyring)),
            Err(damaged) => damaged,
        };
        let known = self.known();
        let before = match known.filter(|known| known.revision == damaged.revision) {
            Some(known) => known.before,
            None => self.look(store, state, &damaged).await?,
        };
        Ok(judged_before(&damaged, before, keyring))
    }

    fn known(&self) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks into etcd's history, and says once what was found.
    async fn look<S: Store>(
        &self,
        store: &S,
        state: &StatePrefix,
        damaged: &Damaged,
    ) -> Result<Option<Record>, CallError> {
        let before = damaged.before(store, state).await?;
        let known = Known {
            revision: damaged.revision,
            before: before.clone(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        if before.is_some() {
            tracing::error!(
                why = damaged.blocks(before.as_ref()),
                way_out = damaged.way_out(),
                "the record of rotations in etcd is damaged; this process writes on by what it was before"
            );
        }
        Ok(before)
    }
}

/// Of a record that can be read.
pub(super) fn judged(record: &Record, keyring: &Keyring) -> Option<Barred> {
    let mut dropped = record.dropped.iter();
    dropped.find(|key| writes_with(keyring, key)).cloned().map(Barred::Key)
}

/// Of one that cannot be, and what it was `before`.
fn judged_before(damaged: &Damaged, before: Option<Record>, keyring: &Keyring) -> Option<Barred> {
    let mut told = damaged.told.dropped.iter();
    if let Some(key) = told.find(|key| writes_with(keyring, key)) {
        return Some(Barred::Key(key.clone()));
    }
    match before {
        Some(record) => judged(&record, keyring),
        None => Some(Barred::Record(damaged.bars())),
    }
}

fn writes_with(keyring: &Keyring, key: &KeyId) -> bool {
    keyring.rules().iter().any(|rule| {
        rule.chain().readers().next().is_some_and(|first| {
            let is_named = match key.provider {
                ProviderType::Identity => key.lays_bare(&rule.selector().to_string()),
                _ => first.key_names().first() == Some(&key.name),
            };
            first.kind().to_string() == key.provider.as_str() && is_named
        })
    })
}
