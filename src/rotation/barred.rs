//! What a process asks before it writes: whether a rotation has removed a key that it still writes with. Reads only.

use std::fmt;

use super::record::Record;
use crate::config::KeyId;
use crate::etcd::{CallError, Store};
use crate::keyring::Keyring;
use crate::types::StatePrefix;

/// Why a keyring may not be written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// This key is gone, or going: what it would seal nobody else could open.
    Key(KeyId),
    /// What etcd keeps of rotations cannot be read.
    Record(String),
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(
                f,
                "{key} was removed by a rotation: the configuration here is an old one. Give this process the one that the \
                 others have; or, if this key is to write again, run `secrets-encrypt rotate-keys`, which takes it from there"
            ),
            Self::Record(why) => write!(
                f,
                "the record of rotations in etcd cannot be read: {why}. Was it written by a newer version?"
            ),
        }
    }
}

/// Whether a rotation of the store has removed a key that `keyring` writes with, or is about to.
///
/// # Errors
/// etcd gave no usable answer.
pub async fn barred<S: Store>(store: &S, state: &StatePrefix, keyring: &Keyring) -> Result<Option<Barred>, CallError> {
    let record = Record::load(store, state).await?;
    Ok(judged(record.map(|(record, _)| record), keyring))
}

/// The same, of a record that was read.
pub(super) fn judged(record: Result<Record, String>, keyring: &Keyring) -> Option<Barred> {
    let record = match record {
        Ok(record) => record,
        Err(why) => return Some(Barred::Record(why)),
    };
    let writes_with = |key: &KeyId| {
        keyring.rules().iter().any(|rule| {
            rule.chain().readers().next().is_some_and(|first| {
                let name = first.key_names().first();
                first.kind().to_string() == key.provider.as_str() && name == Some(&key.name)
            })
        })
    };
    record.dropped.into_iter().find(writes_with).map(Barred::Key)
}
