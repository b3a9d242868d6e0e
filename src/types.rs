//! Words that two or more rooms share. Nothing here does IO, and nothing here knows a room.

mod backoff;
mod boot_instant;
mod causes;
mod epoch;
mod fingerprint;
mod group_resource;
mod key_name;
mod key_print;
mod key_range;
mod own_lease;
mod secret_bytes;
mod state_prefix;
mod storage_key;
mod tenure;

pub use backoff::Backoff;
pub use boot_instant::BootInstant;
pub use causes::with_causes;
pub use epoch::Epoch;
pub use fingerprint::Fingerprint;
pub use group_resource::GroupResource;
pub use key_name::KeyName;
pub use key_print::KeyPrint;
pub use key_range::{KeyRange, prefix_end};
pub use own_lease::{is_own_lease, own_lease};
pub use secret_bytes::SecretBytes;
pub use state_prefix::{Reach, StatePrefix};
pub use storage_key::StorageKey;
pub use tenure::Tenure;
