//! The order to write under fresh data keys of KMS plugins, as it lies in etcd: placed by who is about to write everything again, and
//! followed by every process before it writes in a later epoch. What follows from it is for rooms above.

use super::{CallError, Store};
use crate::types::StatePrefix;

/// Where it lies below the state prefix.
const KEY: &str = "renew-seeds";

/// Longest order that is looked at, bytes; those placed here have 16 digits.
const LONGEST: usize = 64;

/// The last order, by bytes that no other one has; `None` where none was ever given.
///
/// # Errors
/// etcd gave no usable answer.
pub async fn ordered<S: Store>(store: &S, state: &StatePrefix) -> Result<Option<Vec<u8>>, CallError> {
    let (_, found) = store.get(&key(state)).await?;
    Ok(found.map(|kv| kv.value.iter().copied().take(LONGEST).collect()))
}

/// Gives a new order. It is never taken back: who has not seen it yet may still have an old key.
///
/// # Errors
/// What etcd said. It may have been given all the same.
pub async fn order<S: Store>(store: &S, state: &StatePrefix) -> Result<(), CallError> {
    let order = format!("{:016x}", rand::random::<u64>());
    store.put_if(&[], &key(state), order.as_bytes(), 0).await.map(drop)
}

fn key(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), KEY.as_bytes()].concat()
}
