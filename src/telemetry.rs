//! Log lines and the metrics registry. Knows no event and no metric family: each room names its own.

mod family;
mod histogram;
mod info;
mod instance;
mod logging;
mod process;
mod registry;
mod seldom;
mod series;
mod tally;

pub use family::{Buckets, Family, Kind};
pub use info::set_info;
pub use instance::instance;
pub use logging::FAMILIES as LOG_FAMILIES;
pub use logging::{Format, Logging, LoggingError, check_level, init_logging, init_queued_logging};
pub use process::FAMILIES as PROCESS_FAMILIES;
pub use registry::{Registry, RegistryError};
pub use seldom::Seldom;
pub use tally::Tally;
