//! The epoch as it lies in etcd: read by who is about to write, replaced by who is about to prove something. What is written
//! under an epoch, and what may be concluded of it, is for rooms above.

use super::{CallError, Guard, KeyValue, Store};
use crate::types::{Epoch, StatePrefix};

/// Bytes of a nonce before it is made text.
const NONCE: usize = 16;

/// The epoch as it is now: the read is linearizable, so no earlier one holds any more.
///
/// # Errors
/// [`CallError::Malformed`] if the key holds something that is no epoch; what etcd said, else.
pub async fn read<S: Store>(store: &S, state: &StatePrefix) -> Result<Epoch, CallError> {
    let (_, found) = store.get(&Epoch::key(state)).await?;
    found_in(state, found)
}

/// The epoch and a record of the proxy's own, at one revision: the record is what it is in that epoch.
///
/// # Errors
/// As [`read`].
pub async fn read_with<S: Store>(
    store: &S,
    state: &StatePrefix,
    key: &[u8],
) -> Result<(Epoch, Option<KeyValue>), CallError> {
    let [epoch, found] = store.get_both([&Epoch::key(state), key]).await?;
    Ok((found_in(state, epoch)?, found))
}

fn found_in(state: &StatePrefix, found: Option<KeyValue>) -> Result<Epoch, CallError> {
    let Some(kv) = found else {
        return Ok(Epoch::FIRST);
    };
    Epoch::found(&kv.value, kv.mod_revision).ok_or_else(|| CallError::Malformed {
        rpc: "KV/Range",
        why: format!(
            "{} holds {} bytes, which is no epoch: `secrets-encrypt abort --forget` replaces it",
            Epoch::key(state).escape_ascii(),
            kv.value.len()
        ),
    })
}

/// Replaces the epoch by one that never was, if every guard holds: whatever is on its way to etcd and was sealed before this,
/// etcd refuses from now on. `None` if a guard did not hold.
///
/// May be repeated: each call draws a nonce of its own, so that one whose answer was lost, and which happens late, begins one
/// more epoch and never an old one again.
///
/// # Errors
/// What etcd said. The epoch may have been replaced all the same.
pub async fn replace<S: Store>(
    store: &S,
    state: &StatePrefix,
    guards: &[Guard<'_>],
) -> Result<Option<Epoch>, CallError> {
    let nonce = nonce();
    let revision = store.put_if(guards, &Epoch::key(state), nonce.as_bytes(), 0).await?;
    Ok(revision.and_then(|revision| Epoch::found(nonce.as_bytes(), revision)))
}

/// Puts a record of the proxy's own and a new epoch at one revision, if every guard holds: at which. So nobody writes as the
/// record said before once it says something else.
///
/// # Errors
/// What etcd said. It may have happened all the same.
pub async fn replace_with<S: Store>(
    store: &S,
    state: &StatePrefix,
    guards: &[Guard<'_>],
    record: (&[u8], &[u8]),
) -> Result<Option<i64>, CallError> {
    let (key, nonce) = (Epoch::key(state), nonce());
    store.put_both_if(guards, [record, (&key, nonce.as_bytes())]).await
}

/// One that never was.
fn nonce() -> String {
    hex(rand::random::<[u8; NONCE]>())
}

/// Text, for whoever looks at the key with etcdctl.
fn hex(bytes: [u8; NONCE]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * NONCE), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
