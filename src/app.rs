//! Wires the rooms together: builds each from its settings, runs them, and ends them in order.

mod background;
mod build;
mod checks;
mod error;
mod families;
mod memory;
mod offline;
mod reload;
mod rotation;
mod run;
mod settings;
mod snapshot;
mod standing;
mod sweep;

pub use error::Error;
pub use families::families;
pub use memory::{MemoryLock, Unlockable, forbid_dumps};
pub use rotation::{RotationError, RotationReport, RotationSettings, RotationWork, rotation};
pub use run::serve;
pub use settings::{Background, Common, Origin, Settings};
pub use snapshot::{SnapshotError, SnapshotSettings, inspect_snapshot};
pub use sweep::{SweepError, SweepSettings, sweep};
