//! What may be written with the keyring in use: under which epoch, or why nothing may be. A permit is of one keyring; another
//! keyring needs one of its own.
//!
//! Who gives a permit reads the epoch first, looks whether another configuration is there, and then whether etcd has noted a
//! key of this one as dropped, in this order. So a keyring that holds a permit for an epoch writes with no key that was
//! dropped before that epoch began.

use std::sync::Arc;
use std::time::SystemTime;

use super::Keyring;
use crate::types::Epoch;

/// The keyring in use, and what may be written with it.
#[derive(Debug)]
pub struct Writing {
    /// The keyring.
    pub keyring: Arc<Keyring>,
    /// Whether values under its rules may be written.
    pub permit: Permit,
    /// Since when that is so, to be shown.
    pub since: SystemTime,
}

/// Whether values under a rule may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Not known yet, or not any more: it is being found out.
    Unknown,
    /// Under a fence: etcd is to apply a write only in this epoch.
    Fenced {
        /// The epoch.
        epoch: Epoch,
        /// Whether a transaction may be nested in one with the fence: etcd's authentication is known to be off.
        nests: bool,
    },
    /// The store takes no fence. Writes are bound to the lease of this process's record, by its clock.
    Unfenced,
    /// They may not, for this reason.
    Refused(Arc<str>),
}
