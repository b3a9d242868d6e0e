//! Leases of the proxy's own records are not a client's to make, keep alive or end, and the records under them not a client's to
//! see.

use bytes::Bytes;

use super::{OpenFailure, Refusal};
use crate::{
    types::{StatePrefix, is_own_lease},
    wire::{
        Fields, Frame, Script, Spliced, WireError,
        etcd::{lease_grant_request, lease_revoke_request::ID, lease_time_to_live_response::KEYS},
        once,
    },
};

/// Checks a `LeaseGrantRequest`.
///
/// # Errors
/// [`Refusal::LeaseTaken`] if it asks for an ID of the proxy's own kind; [`Refusal::Malformed`].
pub fn lease_grant_request(message: &[u8]) -> Result<(), Refusal> {
    if names_own(message, lease_grant_request::ID)? {
        return Err(Refusal::LeaseTaken);
    }
    Ok(())
}

/// Checks a `LeaseRevokeRequest`, or a `LeaseKeepAliveRequest`, which has the same field.
///
/// # Errors
/// [`Refusal::StatePrefix`] if records of the proxy's own would end with the lease, or outlive the process that they are of;
/// [`Refusal::Malformed`].
pub fn lease_revoke_request(message: &[u8]) -> Result<(), Refusal> {
    if names_own(message, ID)? {
        return Err(Refusal::StatePrefix);
    }
    Ok(())
}

/// Whether the field `number` of `message` is the ID of a lease of the proxy's own kind.
pub(super) fn names_own(message: &[u8], number: u32) -> Result<bool, WireError> {
    let mut id = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            once(&mut id, number, field.int64()?)?;
        }
    }
    Ok(id.is_some_and(is_own_lease))
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
