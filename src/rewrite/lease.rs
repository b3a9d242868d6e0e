//! `LeaseTimeToLive` names the keys that hang on a lease; those of the proxy's own records are left out.

use bytes::Bytes;

use super::OpenFailure;
use crate::{
    types::StatePrefix,
    wire::{Fields, Frame, Script, Spliced, etcd::lease_time_to_live_response::KEYS},
};

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
