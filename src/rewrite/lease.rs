//! Leases of the proxy's own records are not a client's to end, and the records under them not a client's to see.

use bytes::Bytes;

use super::{OpenFailure, Refusal};
use crate::{
    types::{StatePrefix, is_own_lease},
    wire::{
        Fields, Frame, Script, Spliced,
        etcd::{lease_revoke_request::ID, lease_time_to_live_response::KEYS},
        once,
    },
};

/// Checks a `LeaseRevokeRequest`.
///
/// # Errors
/// [`Refusal::StatePrefix`] if records of the proxy's own would end with the lease; [`Refusal::Malformed`].
pub fn lease_revoke_request(message: &[u8]) -> Result<(), Refusal> {
    let mut id = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == ID {
            once(&mut id, ID, field.int64()?)?;
        }
    }
    if id.is_some_and(is_own_lease) {
        return Err(Refusal::StatePrefix);
    }
    Ok(())
}

/// The `LeaseTimeToLiveResponse` `message` as the client gets it.
///
/// # Errors
/// [`OpenFailure::Malformed`].
pub fn lease_time_to_live_response(message: Bytes, state: &StatePrefix) -> Result<Spliced, OpenFailure> {
    let mut script = Script::new();
    for field in Fields::new(&message) {
        let field = field?;
        if field.number == KEYS && state.contains(field.body()?.bytes) {
            script.remove(Frame::TOP, field.start, field.end);
        }
    }
    Ok(script.apply(message))
}
