//! Wires the rooms together: builds each from its settings, runs them, and ends them in order.

mod background;
mod build;
mod caretaking;
mod checks;
mod defragment;
mod error;
mod families;
mod follower;
mod keyring;
mod lasting;
mod manager;
mod marking;
mod memory;
mod offline;
mod on_etcd;
mod permits;
mod place;
mod reload;
mod rotation;
mod run;
mod settings;
mod snapshot;
mod standing;
mod store;
mod strongbox;
mod survey;
mod sweep;
mod trial;
mod unopened;
mod user;
mod withdrawal;
mod writes;

pub use error::Error;
pub use families::families;
pub use keyring::{Confirm, Document, Kept, KeyringError, KeyringReport, KeyringSettings, KeyringWork, keyring};
pub use memory::{MemoryLock, Unlockable, forbid_dumps};
pub use place::{About, Misplaced};
pub use rotation::{RotationError, RotationReport, RotationSettings, RotationWork, rotation};
pub use run::serve;
pub use settings::{AllowedOnNetwork, Background, Common, Origin, RootSettings, Settings};
pub use snapshot::{SnapshotError, SnapshotSettings, inspect_snapshot};
pub use sweep::{SweepError, SweepSettings, sweep};
pub use withdrawal::OnUnreachable;

/// What this host calls itself.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
