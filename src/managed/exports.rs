//! A note of each time that the keys were written down in the clear, for `status`. Names and times; whoever can write to etcd
//! can change it, so the account of it is the audit log, and nothing is decided by this.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::keyring_record::Current;
use super::record::{SCHEMA, encode, host};
use super::strongbox::Strongbox;
use super::text::shown;
use super::time::Time;
use crate::etcd::{Guard, Store};

/// Below the state prefix.
const KEY: &str = "exports";

/// So many are remembered; the oldest goes first.
const MAX_KEPT: usize = 20;

/// How often it is tried while others write the same record.
const ATTEMPTS: usize = 10;

/// One export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// When, by the clock of whoever did it.
    pub at: Time,
    /// On which host.
    pub by: String,
    /// As which user of it.
    pub user: String,
    /// Of which generation the keyring was.
    pub generation: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exports {
    schema: u32,
    exports: Vec<Export>,
}

impl<S: Store> Strongbox<S> {
    /// Notes that `user` is about to write down the keys of `current`.
    ///
    /// # Errors
    /// etcd did not take the note.
    pub async fn note_export(&self, current: &Current, user: &str) -> Result<(), Error> {
        let key = [self.state.as_bytes(), KEY.as_bytes()].concat();
        for _ in 0..ATTEMPTS {
            let (mut exports, revision) = self.read_exports(&key).await?;
            exports.push(Export {
                at: Time::now(),
                by: self.host.clone(),
                user: host(user),
                generation: current.generation,
            });
            exports.drain(..exports.len().saturating_sub(MAX_KEPT));
            let record = encode(&Exports {
                schema: SCHEMA,
                exports,
            })?;
            let guard = Guard::mod_revision(&key, revision);
            if self.store.put_if(&[guard], &key, &record, 0).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::Changed)
    }

    /// The exports that are remembered, the latest last. A record that cannot be read counts as none.
    ///
    /// # Errors
    /// etcd gave no usable answer.
    pub async fn exports(&self) -> Result<Vec<Export>, Error> {
        let key = [self.state.as_bytes(), KEY.as_bytes()].concat();
        Ok(self.read_exports(&key).await?.0)
    }

    async fn read_exports(&self, key: &[u8]) -> Result<(Vec<Export>, i64), Error> {
        let (_, found) = self.store.get(key).await?;
        let Some(kv) = found else { return Ok((Vec::new(), 0)) };
        let exports = serde_json::from_slice(&kv.value).ok();
        let exports = exports.filter(|exports: &Exports| exports.schema == SCHEMA && exports.exports.len() <= MAX_KEPT);
        let exports = exports.into_iter().flat_map(|exports| exports.exports);
        let fit = |export: Export| Export {
            by: shown(&export.by),
            user: shown(&export.user),
            ..export
        };
        Ok((exports.map(fit).collect(), kv.mod_revision))
    }
}
