//! Sends log events to standard error, as text or as JSON lines.

use std::io;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The level or filter is not understood.
    #[error("not a log level or filter: expected error, warn, info or debug, or target=level pairs")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Logging is already set up in this process.
    #[error("logging is already set up")]
    Twice,
}

/// What the HTTP/2 library warns of is what peers send, as often as they care to send it: a hostile client could fill the
/// disk with it. A directive of the operator's own goes before this one.
const QUIET: &str = "h2=error";

/// Sets up logging for the whole process.
///
/// `level` is a level name or a comma-separated list of `target=level`.
pub fn init_logging(format: Format, level: &str) -> Result<(), LoggingError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(format!("{QUIET},{level}"))?)
        .with_writer(io::stderr);
    let set = match format {
        Format::Text => builder.with_ansi(false).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| LoggingError::Twice)
}
