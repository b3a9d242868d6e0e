//! Log lines and the metrics registry. Knows no event and no metric family: each room names its own.

mod info;
mod logging;
mod registry;

pub use info::set_info;
pub use logging::{Format, LoggingError, init_logging};
pub use registry::{Registry, RegistryError};
