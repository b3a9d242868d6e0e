//! Files that an operator may replace while the proxy runs: read within a bound, checked for who else can read them, and
//! followed, so that whoever uses one looks at it again when it changes; replaced as a whole.
//!
//! Never decides what a change means, and never keeps what a file holds.

mod follow;
mod fresh;
mod inotify;
mod kept;
mod marks;
mod mounts;
mod nudge;
mod permissions;
mod places;
mod reach;
mod read;
mod replace;
mod status;
mod users;
mod watcher;

pub use follow::{Subject, follow};
pub use fresh::{NewFile, NewFileError};
pub use kept::{kept, prune};
pub use marks::{Mark, leave_mark, marks};
pub use mounts::warn_of_mounts;
pub use nudge::{Nudge, Nudged, nudge};
pub use permissions::{Exposure, Permissions};
pub use reach::explained;
pub use read::{Contents, Error, check_kind, fingerprint, read, read_stream};
pub use replace::{ReplaceError, check_replaceable, replace};
pub use status::{Failure, State, Status};
pub use users::{StoreNumber, Use, users};
pub use watcher::{Change, POLL, Watcher};
