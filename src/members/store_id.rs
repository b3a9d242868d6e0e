//! Which store a process serves. Cluster IDs alone do not tell stores apart: etcd makes them of the members' peer URLs and the
//! cluster's token, so that two clusters on two hosts, each of one member with the defaults, have the same. So each state prefix
//! has random bytes of its own as well. These alone would not do either: a snapshot that is restored elsewhere has them too, and
//! a cluster ID of its own. Two stores are the same where both are.

use serde::{Deserialize, Serialize};

use crate::etcd::{CallError, Guard, Store};
use crate::files::StoreNumber;
use crate::types::StatePrefix;

/// Where the random bytes lie below the state prefix.
const KEY: &str = "store";

/// More attempts than that many processes would start at once.
const ATTEMPTS: u32 = 10;

/// Hexadecimal digits of the random bytes.
const DIGITS: usize = 32;

/// A store: an etcd cluster, and a state prefix in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId {
    /// Random, and the same for all who share the state prefix: hexadecimal.
    pub id: String,
    /// etcd's cluster ID: hexadecimal.
    pub cluster: String,
}

impl StoreId {
    /// Of the cluster with this ID, whose `store` this is; `None` where no process has ever given it random bytes.
    ///
    /// # Errors
    /// What etcd said.
    pub async fn read<S: Store>(store: &S, state: &StatePrefix, cluster: u64) -> Result<Option<Self>, CallError> {
        let (_, found) = store.get(&key(state)).await?;
        Ok(found.map(|kv| Self {
            id: kv.value.escape_ascii().to_string().chars().take(DIGITS).collect(),
            cluster: format!("{cluster:016x}"),
        }))
    }

    /// The same; where there are no random bytes it is given those that this process knew it by `before`, as an etcd has none
    /// that was restored from an early snapshot, or fresh ones. `None` where others are at it without end.
    ///
    /// # Errors
    /// What etcd said.
    pub async fn ensure<S: Store>(
        store: &S,
        state: &StatePrefix,
        cluster: u64,
        before: Option<&Self>,
    ) -> Result<Option<Self>, CallError> {
        let key = key(state);
        for _ in 0..ATTEMPTS {
            if let Some(found) = Self::read(store, state, cluster).await? {
                return Ok(Some(found));
            }
            let fresh = || format!("{:032x}", rand::random::<u128>());
            let fresh = before.map_or_else(fresh, |before| before.id.clone());
            store
                .put_if(&[Guard::mod_revision(&key, 0)], &key, fresh.as_bytes(), 0)
                .await?;
        }
        Ok(None)
    }

    /// As the users of a file say which store they use it for.
    pub fn number(&self) -> StoreNumber {
        StoreNumber::of(&format!("{}@{}", self.id, self.cluster))
    }
}

fn key(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), KEY.as_bytes()].concat()
}
